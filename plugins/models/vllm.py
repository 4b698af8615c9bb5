"""`--model vllm`: a model in the format of transformers, run by vLLM in this process.

    harness --model vllm --model_args pretrained=DIR,gpu_memory_utilization=0.8 --tasks cmmlu,gsm8k

Log-likelihoods use vLLM's prefix cache, which its `prompt_logprobs` by default does not: choices of one token are read
off one generated token (`logprob_token_ids`); for longer ones the cache is read for the context, and what it may not
skip is checked in each answer. Needs the extra `vllm`.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from harness import (
    DataError,
    GenerationParams,
    Media,
    Model,
    ModelError,
    Prompt,
    Request,
    RequestKind,
    Response,
    Sample,
    UsageError,
    hookimpl,
    one_line,
)
from harness.engine import (
    Assembler,
    Encoded,
    Failed,
    Finished,
    ImageProcessor,
    ImagePromptEncoder,
    LocalCheckpoint,
    LoraAdapter,
    Scored,
    StopRule,
    TextOptions,
    check_dtype,
    end_tokens,
    image_options,
    open_picture,
    resolve_devices,
    resolve_dtype,
)

# Enough to keep any scheduler busy, and few enough to be dropped at once.
IN_FLIGHT = 1024
# Pixels of requests that wait are in memory.
IMAGES_IN_FLIGHT = 128
IMAGES_OPEN = 16
# vllm.sampling_params.MAX_LOGPROB_TOKEN_IDS
MOST_CHOICES = 128
# One token more is generated than scored, and one more than the window is never fed.
SPARE_TOKENS = 2
NEEDED_FIELDS = ("logprob_token_ids", "skip_reading_prefix_cache")
# vllm.config.lora.MaxLoRARanks
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Where and how fast, not what.
PLACEMENT = frozenset(
    ("gpu_memory_utilization", "tensor_parallel_size", "pipeline_parallel_size", "max_num_seqs", "enforce_eager",
     "max_num_batched_tokens", "limit_mm_per_prompt", "swap_space", "cpu_offload_gb", "distributed_executor_backend",
     "download_dir", "enable_lora", "max_lora_rank", "max_loras", "max_cpu_loras")
)  # fmt: skip

Outcome = Scored | Finished | Failed


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to the engine: what follows `tokens`, or (`start` given) what the tokens from `start` on are worth.

    parts: the numbers of the continuations that it answers. wanted: the next token of each, where one token is all.
    written: how many of the tokens are the answer's own already. bounded: it ends where the budget of reasoning does.
    """

    request: int
    tokens: tuple[int, ...]
    parts: tuple[int, ...] = (0,)
    wanted: tuple[int, ...] = ()
    start: int | None = None
    use_cache: bool = True
    generation: GenerationParams | None = None
    max_new_tokens: int = 1
    opened: str | None = None
    written: int = 0
    bounded: bool = False
    images: tuple[Media, ...] = ()

    @property
    def answer_so_far(self) -> list[int]:
        return list(self.tokens[len(self.tokens) - self.written :])


class VLLMModel(Model):
    """`--model vllm --model_args pretrained=DIR`; every further argument is one of vLLM's engine arguments.

    A model that sees is shown images; `min_pixels`, `max_pixels` and `processor` are as for `hf_vlm`.
    """

    name = "vllm"
    takes_tools = True
    modalities: ClassVar = frozenset({"text", "image"})
    supports: ClassVar[frozenset[RequestKind]] = frozenset({"loglikelihood", "rolling", "generate"})

    def __init__(
        self,
        pretrained: str,
        tokenizer: str | None = None,
        revision: str = "main",
        peft: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        chat_template: str | None = None,
        chat_template_args: Mapping[str, Any] | None = None,
        enable_thinking: bool | None = None,
        thinking: str = "auto",
        reasoning_effort: str | None = None,
        thinking_budget: int | None = None,
        think_end_token: str | int | None = None,
        max_length: int | None = None,
        max_model_len: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
        on_overflow: str = "truncate",
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        processor: Mapping[str, Any] | str | None = None,
        **engine: Any,
    ) -> None:
        check_dtype(str(dtype))
        text = TextOptions.of(
            max_length=max_length or max_model_len,
            add_bos_token=add_bos_token,
            prefix_token_id=prefix_token_id,
            chat_template=chat_template,
            chat_template_args=chat_template_args,
            enable_thinking=enable_thinking,
            thinking=thinking,
            reasoning_effort=reasoning_effort,
            thinking_budget=thinking_budget,
            think_end_token=think_end_token,
            on_overflow=on_overflow,
        )
        self.checkpoint = LocalCheckpoint(
            pretrained, tokenizer=tokenizer, revision=revision, trust_remote_code=trust_remote_code, text=text
        )
        self.dtype = str(dtype)
        self.peft = None if peft is None else str(peft)
        self.adapter: LoraAdapter | None = None
        self.engine_args = engine
        self.image_options = image_options(min_pixels, max_pixels, processor)
        self.processor: ImageProcessor | None = None
        self._sightless = ""
        self._llm: Any = None
        self._closed = threading.Event()
        self._defaults: Mapping[str, Any] = {}

    def prepare(self) -> None:
        """Read configuration and tokenizer, and check vLLM's version and arguments. The engine is not started."""
        if find_spec("vllm") is None:
            raise UsageError("--model vllm needs the package vllm: pip install 'harness-eval[vllm]'")
        (device, *_) = resolve_devices(self.options.device)
        self.checkpoint.open(offline=self.options.offline)
        self._open_processor()
        if self.peft is not None:
            self.adapter = LoraAdapter.open(self.peft, self.checkpoint.pretrained)
            rank = self.adapter.rank
            self.engine_args.setdefault("enable_lora", True)
            self.engine_args.setdefault("max_lora_rank", next((most for most in LORA_RANKS if rank <= most), rank))
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        import vllm

        known = [field.name for field in fields(vllm.EngineArgs)]
        for name in self.engine_args:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ""
                raise UsageError(f"--model_args: neither this model nor vLLM's engine takes '{name}'{hint}")
        missing = [name for name in NEEDED_FIELDS if not hasattr(vllm.SamplingParams, name)]
        if missing:
            raise UsageError(f"vllm {vllm.__version__} is too old: its SamplingParams has no {missing[0]}")
        self.dtype_name = str(resolve_dtype(self.dtype, self.checkpoint.config, device)).removeprefix("torch.")
        self.max_model_len = self.checkpoint.prompts.rules.max_length
        self.checkpoint.prompts.reserve(SPARE_TOKENS)

    def _open_processor(self) -> None:
        """Read the processor of a model that sees. One of text has none, which matters when it is shown an image."""
        source = self.checkpoint.source(offline=self.options.offline)
        try:
            self.processor = ImageProcessor(
                self.checkpoint.pretrained, self.checkpoint.config, self.image_options, **source
            )
        except UsageError as error:
            self._sightless = str(error)
            if self.image_options:
                raise
            return
        self.checkpoint.prompts = ImagePromptEncoder(
            self.checkpoint.config,
            self.checkpoint.tokenizer,
            self.checkpoint.text_options,
            self.checkpoint.pretrained,
            self.processor,
        )
        if self.processor.settings:
            self.engine_args.setdefault("mm_processor_kwargs", dict(self.processor.settings))

    @property
    def identity(self) -> Mapping[str, Any]:
        deciding = {name: value for name, value in sorted(self.engine_args.items()) if name not in PLACEMENT}
        return {
            **self.checkpoint.identity,
            "peft": None if self.adapter is None else self.adapter.identity,
            "dtype": self.dtype_name,
            **self.checkpoint.prompts.identity,
            **({"images": self.processor.identity} if self.processor is not None else {}),
            "engine": "vllm",
            "engine_args": deciding,
        }

    def inspect_samples(self, samples: Sequence[Sample]) -> None:
        """Refuse generation parameters that vLLM does not know, and all that `PromptEncoder.check` refuses."""
        import vllm

        requests = [request for sample in samples for request in sample.requests]
        most = max((len(list(request.prompt.shown_media)) for request in requests), default=0)
        if most and self.processor is None:
            raise UsageError(self._sightless)
        if most:
            self.engine_args.setdefault("limit_mm_per_prompt", {"image": most})
        for params in {request.generation for request in requests if request.generation is not None}:
            for name, _ in params.extra:
                if not hasattr(vllm.SamplingParams, name):
                    raise UsageError(f"--gen_kwargs: vLLM knows no sampling parameter '{name}'")
        self.checkpoint.prompts.check(requests)

    def render(self, prompt: Prompt) -> str:
        return self.checkpoint.prompts.render(prompt)

    def count_tokens(self, text: str) -> int | None:
        return self.checkpoint.prompts.count_tokens(text)

    def take_over(self, other: Model) -> None:
        """Keep the engine that `other` has started, where it has room for this model's adapter."""
        if isinstance(other, VLLMModel) and other._llm is not None and other._engine_key == self._engine_key:
            room = other.engine_args.get("max_lora_rank", 16) if other.engine_args.get("enable_lora") else 0
            if self.adapter is None or self.adapter.rank <= room:
                self._llm, other._llm = other._llm, None
                self.engine_args = {**other.engine_args, **self.engine_args, "max_lora_rank": room}

    @property
    def _engine_key(self) -> tuple[Any, ...]:
        """What decides the engine, adapters left out."""
        args = {name: value for name, value in self.engine_args.items() if name not in ("enable_lora", "max_lora_rank")}
        return (self.checkpoint.identity, self.dtype_name, self.max_model_len, args, self.options)

    def load(self) -> None:
        if self._llm is None:
            self._start()
        core = self._llm.llm_engine.engine_core
        threading.Thread(target=_report_death, args=(core, self._closed), daemon=True).start()
        self._defaults = self._llm.llm_engine.model_config.try_get_generation_config()
        self._stop_ids = end_tokens(self._defaults.get("eos_token_id"), self.checkpoint.tokenizer)

    def _start(self) -> None:
        import vllm

        if isinstance(self.options.batch_size, int):
            self.engine_args.setdefault("max_num_seqs", self.options.batch_size)
        try:
            self._llm = vllm.LLM(
                model=self.checkpoint.pretrained,
                tokenizer=self.checkpoint.tokenizer_path,
                revision=None if self.checkpoint.revision == "main" else self.checkpoint.revision,
                dtype=self.dtype_name,
                trust_remote_code=self.checkpoint.trust_remote_code,
                max_model_len=self.max_model_len,
                **{"enable_prefix_caching": True, "disable_log_stats": True, **self.engine_args},
            )
        except Exception as error:
            remedy = "where memory is short, give --model_args gpu_memory_utilization=0.5 or max_length=N"
            if self.processor is not None and not find_spec("torchvision"):
                remedy = "its models of images need the package torchvision, which is not installed"
            raise ModelError(
                f"vLLM cannot start {self.checkpoint.pretrained}: {one_line(error)} (its own log names the cause; "
                f"{remedy})"
            ) from error

    def close(self) -> None:
        llm, self._llm = self._llm, None
        self._closed.set()
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()

    def describe(self) -> Mapping[str, Any]:
        import vllm

        return {"dtype": self.dtype_name, "max_length": self.max_model_len, "vllm": vllm.__version__}

    def respond(self, requests: Sequence[Request]) -> Iterator[tuple[int, Response]]:
        prompts = self.checkpoint.prompts
        encoded = (
            prompts.encode_marked(requests) if isinstance(prompts, ImagePromptEncoder) else prompts.encode(requests)
        )
        assembler = Assembler(encoded)
        yield from assembler.start()
        budget = self.checkpoint.text_options.thinking.budget
        waiting = deque(_asks(encoded, budget))
        for ask, output, seconds in self._stream(waiting):
            if isinstance(output, Exception):
                refused = "" if isinstance(output, DataError) else "vLLM refuses the request: "
                outcomes: list[Outcome] | None = [Failed(refused + one_line(output))] * len(ask.parts)
            elif ask.bounded and output.outputs[0].finish_reason == "length":
                waiting.append(self._beyond_budget(ask, list(output.outputs[0].token_ids)))
                continue
            else:
                outcomes = self._read(ask, output)
            if outcomes is None:
                waiting.append(replace(ask, use_cache=False))
                continue
            for part, outcome in zip(ask.parts, outcomes, strict=True):
                yield from assembler.add(ask.request, part, outcome, seconds)

    def _stream(self, waiting: deque[Ask]) -> Iterator[tuple[Ask, Any, float]]:
        """Ask everything that is waiting (the caller may add to it), and yield each output as it is finished."""
        engine = self._llm.llm_engine
        adapted = self._lora_request()
        opened = functools.lru_cache(IMAGES_OPEN)(open_picture)
        under_way: dict[str, tuple[Ask, float]] = {}
        count = 0
        try:
            while waiting or under_way:
                while waiting and len(under_way) < (IMAGES_IN_FLIGHT if waiting[0].images else IN_FLIGHT):
                    ask, name, count = waiting.popleft(), f"{count}", count + 1
                    try:
                        prompt: dict[str, Any] = {"prompt_token_ids": list(ask.tokens)}
                        if ask.images:
                            prompt["multi_modal_data"] = {"image": [opened(image) for image in ask.images]}
                        engine.add_request(name, prompt, self._params(ask), **adapted)
                    except (ValueError, DataError) as error:
                        yield ask, error, 0.0
                        continue
                    under_way[name] = ask, time.monotonic()
                for output in self._step(engine):
                    if output.finished:
                        ask, started = under_way.pop(output.request_id)
                        yield ask, output, time.monotonic() - started
        finally:
            if under_way and self._llm is not None:
                engine.abort_request(list(under_way))

    def _lora_request(self) -> dict[str, Any]:
        """The adapter as a keyword of the engine's requests. Adapters are told apart by number, from 1 on."""
        if self.adapter is None:
            return {}
        from vllm.lora.request import LoRARequest

        numbers: dict[Path, int] = self._llm.__dict__.setdefault("_adapter_numbers", {})
        number = numbers.setdefault(self.adapter.folder, len(numbers) + 1)
        return {"lora_request": LoRARequest(self.adapter.name, number, str(self.adapter.folder))}

    def _step(self, engine: Any) -> Sequence[Any]:
        try:
            return list(engine.step())
        except Exception as error:
            raise ModelError(
                f"vLLM stopped: {one_line(error)} (its own log says more; the same command goes on from here)"
            ) from error

    def _params(self, ask: Ask) -> Any:
        import vllm

        if ask.generation is not None:
            # A stop string that is a special token is never found in the text, which is without such tokens.
            stop_ids = {"stop_token_ids": sorted(self._rule(ask, ask.generation).eos_ids)}
            chosen = {**stop_ids, **self._sampling(ask.generation)}
            budget = self.checkpoint.text_options.thinking.budget
            most = budget if ask.bounded and budget is not None else ask.max_new_tokens - ask.written
            return vllm.SamplingParams(**chosen, max_tokens=most)
        plain = {"temperature": 0.0, "max_tokens": 1, "detokenize": False}
        if ask.wanted:
            return vllm.SamplingParams(**plain, logprob_token_ids=list(dict.fromkeys(ask.wanted)))
        return vllm.SamplingParams(**plain, prompt_logprobs=0, skip_reading_prefix_cache=not ask.use_cache)

    def _beyond_budget(self, ask: Ask, written: list[int]) -> Ask:
        """The rest of an answer whose budget of reasoning is spent: the reasoning is closed, if it still is open."""
        budget = self.checkpoint.prompts.thinking_budget(ask.opened)
        ending = () if budget is None else budget.ending(written)
        own = [*written, *ending][: ask.max_new_tokens - 1]
        return replace(ask, tokens=(*ask.tokens, *own), written=len(own), bounded=False)

    def _sampling(self, params: GenerationParams) -> dict[str, Any]:
        # Stop sequences are about the answer; a reasoning block may hold any of them, and vLLM would end there.
        stops = [] if self.checkpoint.prompts.may_reason else [stop for stop in params.until if stop]
        chosen: dict[str, Any] = {"temperature": 0.0}
        if params.do_sample:
            given = {name: getattr(params, name) for name in ("temperature", "top_p", "top_k")}
            usual = {name: self._defaults[name] for name in given if name in self._defaults}
            chosen = {**usual, **{name: value for name, value in given.items() if value is not None}}
            chosen["seed"] = params.seed
        return {**chosen, "stop": stops, "skip_special_tokens": True, **dict(params.extra)}

    def _read(self, ask: Ask, output: Any) -> list[Outcome] | None:
        """The outcome of each part; None where the cache skipped tokens that are to be scored."""
        if ask.generation is not None:
            text = output.outputs[0]
            finished = self._rule(ask, ask.generation).finish([*ask.answer_so_far, *text.token_ids])
            # A stop string is found in vLLM's text, which may be one space away from the tokenizer's.
            return [replace(finished, finish_reason="stop") if text.finish_reason == "stop" else finished]
        if ask.wanted:
            best, found = output.outputs[0].token_ids[0], output.outputs[0].logprobs[0]
            return [self._checked(Scored(found[token].logprob, token == best, 1)) for token in ask.wanted]
        assert ask.start is not None
        scored = ask.tokens[ask.start :]
        entries = output.prompt_logprobs[-len(scored) :]
        # Token `start` is predicted from the one before it, so that one must have been computed. vLLM counts the tokens
        # of images too.
        start = len(output.prompt_token_ids) - len(scored) if ask.images else ask.start
        skipped = (output.num_cached_tokens or 0) >= start
        if skipped or any(entry is None or token not in entry for token, entry in zip(scored, entries, strict=True)):
            if not ask.use_cache:
                return [Failed("vLLM gave no log-probability of a scored token")]
            return None
        values = [entry[token] for token, entry in zip(scored, entries, strict=True)]
        total = math.fsum(value.logprob for value in values)
        return [self._checked(Scored(total, all(value.rank == 1 for value in values), len(values)))]

    def _rule(self, ask: Ask, params: GenerationParams) -> StopRule:
        think_end = self.checkpoint.text_options.think_end_token
        return StopRule(
            self.checkpoint.tokenizer, params.until, self._stop_ids, ask.max_new_tokens, think_end, ask.opened
        )

    def _checked(self, scored: Scored) -> Scored | Failed:
        if math.isnan(scored.logprob):
            return Failed(f"the model returned NaN in {self.dtype_name}: try --model_args dtype=float32")
        return scored


def _asks(encoded: Encoded, budget: int | None = None) -> Iterator[Ask]:
    """One question a prompt: choices that differ in their last token alone are one question.

    budget: tokens after which reasoning is looked at, and closed where it still is open.
    """
    together: dict[tuple[int, tuple[int, ...]], list[tuple[int, int]]] = {}
    images = {each.request: tuple(image.media for image in each.images) for each in encoded.scores}
    images.update({each.request: tuple(image.media for image in each.images) for each in encoded.generations})
    for item in encoded.scores:
        if len(item.scored) == 1:
            together.setdefault((item.request, item.context), []).append((item.part, item.scored[-1]))
    for (request, tokens), pairs in together.items():
        for at in range(0, len(pairs), MOST_CHOICES):
            parts, wanted = zip(*pairs[at : at + MOST_CHOICES], strict=True)
            yield Ask(request, tokens, parts, wanted, images=images[request])
    for item in encoded.scores:
        if len(item.scored) > 1:
            yield Ask(item.request, item.tokens, (item.part,), start=item.start, images=images[item.request])
    for each in encoded.generations:
        yield Ask(
            each.request,
            each.tokens,
            generation=each.params,
            max_new_tokens=each.max_new_tokens,
            opened=each.opened,
            bounded=budget is not None and budget < each.max_new_tokens,
            images=images[each.request],
        )


def _report_death(core: Any, closed: threading.Event) -> None:
    """Wake whoever waits for an engine process that was killed: vLLM's client knows, but would wait for ever."""
    resources, outputs = getattr(core, "resources", None), getattr(core, "outputs_queue", None)
    while resources is not None and outputs is not None and not closed.wait(1.0):
        if resources.engine_dead:
            outputs.put_nowait(RuntimeError("the engine's process ended"))
            return


@hookimpl
def harness_models() -> list[type[Model]]:
    return [VLLMModel]
