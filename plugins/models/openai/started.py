"""`--model vllm_server` and `sglang_server`: a server that the run starts, asks as `openai` does, and stops in the end.

    harness --model vllm_server --model_args pretrained=DIR,tensor_parallel_size=2,data_parallel_size=2 --tasks gsm8k

Every argument that neither these models nor `openai` take is one of the server's own command: `mem_fraction_static=0.8`
is `--mem-fraction-static 0.8`. The server's packages may be in an environment of their own (`executable=`).
"""

from __future__ import annotations

import inspect
import json
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from harness import Model, ModelError, UsageError
from harness.engine import LocalCheckpoint, LoraAdapter, TextOptions, check_dtype, resolve_dtype

from . import OpenAIModel
from .server_process import HOST, ServerProcess, check_port, free_port, log_file
from .servers import Address
from .settings import flag, number, whole

_PORTS_TRIED, _MOST_PORT = 3, 65535
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Where and how fast, not what.
PLACEMENT = frozenset(
    ("gpu_memory_utilization", "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "max_num_seqs",
     "max_num_batched_tokens", "enforce_eager", "swap_space", "cpu_offload_gb", "distributed_executor_backend",
     "download_dir", "mem_fraction_static", "max_running_requests", "chunked_prefill_size", "disable_cuda_graph",
     "tp_size", "pp_size", "dp_size", "enable_prefix_caching", "disable_radix_cache", "enable_lora", "max_lora_rank",
     "max_loras", "max_cpu_loras", "max_loras_per_batch", "lora_target_modules")
)  # fmt: skip
_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM reserves room for (vllm.config.lora.MaxLoRARanks)."""
# Of `openai`, and decided here.
_DECIDED = (
    "model",
    "base_url",
    "flavour",
    "api_key",
    "tokenizer",
    "max_length",
    "batch_api",
    "batch_requests",
    "batch_poll",
)


@dataclass(frozen=True, slots=True)
class Engine:
    """How a kind of server is started. module: of Python. program: of its packages, with the words of its command.

    window, at_once: its arguments for tokens of a sequence, and for sequences at a time. negates: whether `--no-x` is
    how a switch is turned off. adapters: further arguments where adapters are served; they are loaded at the address
    `load_adapter`, and asked for as `adapted`.
    """

    title: str
    package: str
    module: str
    program: tuple[str, ...]
    model_flag: str
    window: str
    at_once: str
    negates: bool
    environment: Mapping[str, str]
    adapters: Mapping[str, Any]
    load_adapter: str
    adapted: str

    def command(self, executable: str | None) -> list[str] | None:
        """What starts it, up to the name of the model; None where it is not installed."""
        by_module = ["-m", self.module, self.model_flag]
        if executable is not None:
            is_python = Path(executable).name.startswith("python")
            return [executable, *(by_module if is_python else self.program[1:])]
        if find_spec(self.package) is not None:
            return [sys.executable, *by_module]
        found = shutil.which(self.program[0])
        return [found, *self.program[1:]] if found else None


VLLM = Engine(
    title="vLLM's server",
    package="vllm",
    module="vllm.entrypoints.openai.api_server",
    program=("vllm", "serve"),
    model_flag="--model",
    window="max_model_len",
    at_once="max_num_seqs",
    negates=True,
    # The second lets this process name folders to read adapters from; nobody else reaches the server's address.
    environment={"VLLM_NO_USAGE_STATS": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"},
    adapters={},
    load_adapter="/v1/load_lora_adapter",
    adapted="{adapter}",
)
SGLANG = Engine(
    title="SGLang's server",
    package="sglang",
    module="sglang.launch_server",
    program=("sglang", "serve", "--model-path"),
    model_flag="--model-path",
    window="context_length",
    at_once="max_running_requests",
    negates=False,
    environment={},
    adapters={"lora_target_modules": ["all"]},
    load_adapter="/load_lora_adapter",
    adapted="{base}:{adapter}",
)


class StartedServer(OpenAIModel):
    """`--model vllm_server`, `sglang_server`: a server of vLLM or SGLang that is started for the run, and stopped.

    pretrained, dtype, revision: as of `hf`.

    executable       of the server's environment: its `vllm` or `sglang`, or its python. Default: the one of this
                     environment, else the one on PATH
    port             default: a free one
    startup_timeout  seconds until it answers (1800)
    max_length       tokens of prompt and answer; default: the model's
    peft             a LoRA adapter; `--peft` takes several, which take turns on one server
    Arguments of `openai` (`num_concurrent`, `api`, `extra_body`, `timeout`, ...) are as there. All others go to the
    server's command: tensor_parallel_size, pipeline_parallel_size, data_parallel_size, quantization, ...
    """

    engine: ClassVar[Engine]

    def __init__(
        self,
        pretrained: str,
        tokenizer: str | None = None,
        revision: str = "main",
        dtype: str = "auto",
        trust_remote_code: bool = False,
        max_length: int | None = None,
        peft: str | None = None,
        executable: str | None = None,
        port: int | None = None,
        startup_timeout: float = 1800.0,
        **others: Any,
    ) -> None:
        asking = set(inspect.signature(OpenAIModel.__init__).parameters)
        if decided := next((name for name in others if name in _DECIDED), None):
            raise UsageError(
                f"--model_args: model '{self.name}' takes no argument '{decided}': it starts a server of its own "
                "(--model openai asks one that is there)"
            )
        check_dtype(str(dtype))
        self.port = None if port is None else whole("port", port, 1)
        if self.port is not None and self.port > _MOST_PORT:
            raise UsageError(f"--model_args: port={port}: ports end at {_MOST_PORT}")
        super().__init__(
            model=Path(str(pretrained)).name or "model",
            base_url=f"http://{HOST}:{self.port or free_port()}/v1",
            flavour=self.engine.package,
            api_key="",  # one of the environment is for somebody else
            **{name: value for name, value in others.items() if name in asking},
        )
        self.checkpoint = LocalCheckpoint(
            pretrained,
            tokenizer=tokenizer,
            revision=revision,
            trust_remote_code=flag("trust_remote_code", trust_remote_code),
            text=TextOptions(max_length=max_length, thinking=self.thinking),
        )
        self.dtype = str(dtype)
        self.served_name = self.settings.model
        self.peft = None if peft is None else str(peft)
        self.adapter: LoraAdapter | None = None
        self.executable = None if executable is None else str(Path(str(executable)).expanduser())
        self.startup_timeout = number("startup_timeout", startup_timeout, 1)
        self.server_args = {name: value for name, value in others.items() if name not in asking}
        self._process: ServerProcess | None = None

    def prepare(self) -> None:
        """Read configuration and tokenizer, and see that the server can be started."""
        if self.executable is not None and shutil.which(self.executable) is None:
            raise UsageError(f"--model_args executable={self.executable}: there is no such program")
        if self.engine.command(self.executable) is None:
            remedy = f"install {self.engine.package} here, or give executable=DIR/bin/{self.engine.program[0]}"
            raise UsageError(f"--model {self.name}: {self.engine.title} is not installed: {remedy}")
        if self.port is not None:
            check_port(self.port)
        self.checkpoint.open(offline=self.options.offline)
        kind = self.options.device.partition(":")[0]
        self.dtype = str(resolve_dtype(self.dtype, self.checkpoint.config, "cpu" if kind == "cpu" else "cuda"))
        self.dtype = self.dtype.removeprefix("torch.")
        if self.peft is not None:
            self.adapter = LoraAdapter.open(self.peft, self.checkpoint.pretrained)
            rank = self.adapter.rank
            ranks = {"max_lora_rank": next((most for most in _LORA_RANKS if rank <= most), rank)}
            self.server_args = {"enable_lora": True, **ranks, **self.engine.adapters, **self.server_args}
        self.tokenizer_path = self.checkpoint.tokenizer_path
        self.max_length = self.checkpoint.prompts.rules.max_length
        super().prepare()

    @property
    def identity(self) -> Mapping[str, Any]:
        deciding = {name: value for name, value in sorted(self.server_args.items()) if name not in PLACEMENT}
        return {
            **super().identity,
            "flavour": None,
            "tokenizer": None,  # the checkpoint's says more than its path
            **self.checkpoint.identity,
            "peft": None if self.adapter is None else self.adapter.identity,
            "dtype": self.dtype,
            "engine": self.name,
            "engine_args": deciding,
        }

    def take_over(self, other: Model) -> None:
        """Keep the server that `other` has started, where it has room for this model's adapter."""
        running = other._process if isinstance(other, StartedServer) else None
        if not isinstance(other, StartedServer) or running is None or not running.is_running:
            return
        room = other.server_args.get("max_lora_rank", 0) if other.server_args.get("enable_lora") else 0
        if other._server_key == self._server_key and (self.adapter is None or self.adapter.rank <= room):
            self._process, other._process = running, None
            self._client.why_ended = running.why_ended
            self.server_args = other.server_args
            self._move_to(other.address.base.port or 0)

    @property
    def _server_key(self) -> tuple[Any, ...]:
        """What decides the server, adapters left out."""
        lora = ("enable_lora", "max_lora_rank", *self.engine.adapters)
        args = {name: value for name, value in self.server_args.items() if name not in lora}
        where = (self.executable, self.port, self.max_length, self.options)
        return (self.name, self.checkpoint.identity, self.dtype, args, where)

    def load(self) -> None:
        """Start the server, and wait until it answers. Raises ModelError with what its log says, where it does not."""
        if self._process is None:
            self._start()
        super().load()
        if self.adapter is not None:
            self._load_adapter(self.adapter)

    def _load_adapter(self, adapter: LoraAdapter) -> None:
        """Have the server read the adapter, and ask for it from now on."""
        body = json.dumps({"lora_name": adapter.name, "lora_path": str(adapter.folder)}).encode()
        url, kind = f"http://{HOST}:{self.address.base.port}{self.engine.load_adapter}", "application/json"
        try:
            with _OPENER.open(urllib.request.Request(url, body, {"Content-Type": kind}), timeout=self.startup_timeout):
                self._asking.model = self.engine.adapted.format(base=self.served_name, adapter=adapter.name)
        except OSError as error:
            said = error.read().decode("utf-8", "replace") if isinstance(error, urllib.error.HTTPError) else str(error)
            raise ModelError(f"{self.engine.title} cannot load the adapter {adapter.folder}: {said[:500]}") from None

    def _start(self) -> None:
        for attempt in range(1, _PORTS_TRIED + 1):
            if self.port is None:
                self._move_to(free_port())
            process = ServerProcess(
                self.engine.title, self._command(), self._environment(), log_file(self.folder, self.name)
            )
            self._process = process
            self._client.why_ended = process.why_ended
            self.say(f"{self.engine.title} starts at {self.address.shown}; its log is {process.log}")
            try:
                process.wait_until(self._is_ready, self.startup_timeout, self.say)
                break
            except Exception:
                # Between the look for a free port and the server's own another program may have taken it.
                if self.port is not None or attempt == _PORTS_TRIED or not process.found_port_taken:
                    raise

    def close(self) -> None:
        super().close()
        if self._process is not None:
            process, self._process = self._process, None
            process.stop()
            if self.folder is None:
                process.log.unlink(missing_ok=True)

    def describe(self) -> Mapping[str, Any]:
        described = {**super().describe(), "dtype": self.dtype, "max_length": self.max_length}
        return described if self._process is None else {**described, "command": " ".join(self._process.command)}

    def _which(self) -> Mapping[str, Any]:
        return {} if self.title is None else {"name": self.title}

    def _move_to(self, port: int) -> None:
        base = urlsplit(f"http://{HOST}:{port}/v1")
        self.address = self.servers.all[0].address = self._client.address = Address(base, base.geturl())

    def _command(self) -> list[str]:
        start = self.engine.command(self.executable)
        assert start is not None
        at_once = {self.engine.at_once: self.options.batch_size} if isinstance(self.options.batch_size, int) else {}
        checkpoint = self.checkpoint
        chosen = {
            "tokenizer" if self.engine is VLLM else "tokenizer_path": checkpoint.tokenizer_path,
            "revision": None if checkpoint.revision == "main" else checkpoint.revision,
            "dtype": self.dtype,
            "trust_remote_code": checkpoint.trust_remote_code or None,
            self.engine.window: self.max_length,
            **at_once,
            **self.server_args,
            "served_model_name": self.served_name,
            "host": HOST,
            "port": self.address.base.port,
        }
        return [*start, checkpoint.pretrained, *server_flags(chosen, negates=self.engine.negates)]

    def _environment(self) -> dict[str, str]:
        kind, _, numbers = self.options.device.partition(":")
        cards = {"CUDA_VISIBLE_DEVICES": numbers} if kind == "cuda" and numbers else {}
        offline = {"HF_HUB_OFFLINE": "1"} if self.options.offline else {}
        return {**self.engine.environment, **cards, **offline}

    def _is_ready(self) -> bool:
        """Whether it says that it is well, and has this model: another program may sit at its port."""
        root = f"http://{HOST}:{self.address.base.port}"
        try:
            with _OPENER.open(f"{root}/health", timeout=5):
                pass
            with _OPENER.open(f"{root}/v1/models", timeout=5) as reply:
                return any(each["id"] == self.served_name for each in json.load(reply)["data"])
        except (OSError, ValueError, KeyError, TypeError):
            return False


class VLLMServer(StartedServer):
    name = "vllm_server"
    engine = VLLM


class SGLangServer(StartedServer):
    name = "sglang_server"
    engine = SGLANG


def server_flags(arguments: Mapping[str, Any], *, negates: bool) -> Iterator[str]:
    """`max_num_seqs=8` as `--max-num-seqs 8`; True is a switch, None is left out, a list is several words."""
    for name, value in arguments.items():
        words = "-".join(str(name).split("_"))
        if value is None or (value is False and not negates):
            continue
        if isinstance(value, bool):
            yield f"--{words}" if value else f"--no-{words}"
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield from (f"--{words}", *map(str, value))
        else:
            yield from (f"--{words}", json.dumps(value) if isinstance(value, Mapping) else str(value))


def models() -> list[type[Model]]:
    """The models that start a server."""
    return [VLLMServer, SGLangServer]
