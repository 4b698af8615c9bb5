"""A server that the run starts: its port, its log and its end, however the run or the server end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harness import HarnessError, ModelError, ModelOptions, UsageError
from harness.testing import run_harness, tiny_causal_lm
from harness_plugins.models.openai.started import SGLangServer, StartedServer, VLLMServer, server_flags

STAND_IN = Path(__file__).parents[1] / "stand_in_server.py"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_causal_lm(tmp_path_factory.mktemp("started") / "模型")


@pytest.fixture(scope="module")
def adapters(checkpoint: Path) -> list[Path]:
    """Two LoRA adapters as files: nobody computes with them here."""
    return [lora(checkpoint.parent / name, checkpoint.name, rank) for name, rank in (("甲", 2), ("b", 8))]


def lora(folder: Path, base: str, rank: int, **settings: Any) -> Path:
    folder.mkdir(parents=True)
    told = {"peft_type": "LORA", "r": rank, "base_model_name_or_path": f"/elsewhere/{base}", "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**told, **settings}))
    save_file({"lora_A": torch.full((rank, 4), 0.5)}, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """What stands where the server's own program would."""
    path = tmp_path / "vllm"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} "$@"\n')
    path.chmod(0o755)
    return path


def make(checkpoint: Path, program: Path, how: str = "", kind: type[StartedServer] = VLLMServer, **args: Any) -> Any:
    chosen = {"pretrained": str(checkpoint), "executable": str(program), "how": how or "well"}
    notes = {"notes": str(program.parent / "notes")}
    model = kind.create({**chosen, **notes, "retry_delay": 0.001, **args}, ModelOptions(device="cpu"))
    model.folder = program.parent / "run"
    model.prepare()
    return model


def notes(program: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (program.parent / "notes").read_text().splitlines()]


def left_behind(program: Path, seconds: float = 5.0) -> list[int]:
    """The processes of the server that still live, once they have had some time to end."""
    pids = [pid for note in notes(program) for pid in note["pids"]]
    for _ in range(int(seconds / 0.05)):
        alive = [pid for pid in pids if _lives(pid)]
        if not alive:
            return []
        time.sleep(0.05)
    return alive


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_run_starts_its_server_asks_it_and_stops_it(checkpoint: Path, program: Path, tmp_path: Path) -> None:
    args = f"pretrained={checkpoint},executable={program},notes={tmp_path}/notes,how=slow,tensor_parallel_size=2"
    done = run_harness("--model", "vllm_server", "--model_args", args, "--tasks", "demo_arithmetic", "--limit", "3",
                       "--device", "cpu", "--output", str(tmp_path / "runs"))  # fmt: skip
    assert done.exit_code == 0, done.output
    (note,) = notes(program)
    assert note["argv"][:2] == ["serve", str(checkpoint)]
    assert note["argv"][note["argv"].index("--tensor-parallel-size") + 1] == "2"
    (log,) = (tmp_path / "runs").glob("*/server/vllm_server.log")
    assert "--tensor-parallel-size 2" in log.read_text() and "starting" in log.read_text()
    assert not left_behind(program)


@pytest.mark.parametrize(
    ("how", "seconds", "said"),
    [
        (
            "dies",
            60,
            r"ended before it was ready with status 1: ValueError: no kernel for 显卡 of this kind 😀 \| Runtime",
        ),
        ("never", 2, r"was not ready after 2 s .*startup_timeout=SECONDS\): starting \(its log: .*vllm_server\.log\)"),
    ],
)
def test_a_server_that_does_not_start_is_one_line(
    checkpoint: Path, program: Path, how: str, seconds: int, said: str
) -> None:
    model = make(checkpoint, program, how, startup_timeout=seconds)
    with pytest.raises(ModelError, match=said) as raised:
        model.load()
    assert "\n" not in str(raised.value)
    assert not left_behind(program)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "said"), [("dies in the middle", "CUDA error: out of memory"), ("is killed", "SIGKILL")]
)
def test_a_server_that_dies_in_the_middle_ends_the_run_at_once(
    checkpoint: Path, program: Path, tmp_path: Path, how: str, said: str
) -> None:
    args = f"pretrained={checkpoint},executable={program},notes={tmp_path}/notes,how={how},num_concurrent=1"
    command = ("--model", "vllm_server", "--tasks", "demo_arithmetic", "--limit", "8", "--device", "cpu")
    where = ("--output", str(tmp_path / "runs"))
    broken = run_harness(*command, *where, "--model_args", args)
    assert broken.exit_code != 0 and said in broken.output and "the same command goes on" in broken.output
    again = run_harness(*command, *where, "--model_args", args.replace(how, "well"), "--dry_run")
    assert again.exit_code == 0, again.output
    assert not left_behind(program)


def test_a_free_port_that_another_program_takes_meanwhile(checkpoint: Path, program: Path) -> None:
    model = make(checkpoint, program, "loses its port")
    model.load()
    first, second = (note["argv"][note["argv"].index("--port") + 1] for note in notes(program))
    assert first != second and model.describe()["base_url"].endswith(f":{second}/v1")
    model.close()
    assert not left_behind(program)


def test_a_port_of_the_user_that_is_taken(checkpoint: Path, program: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError, match="already in use: leave it out, and a free one is found"):
            make(checkpoint, program, port=other.getsockname()[1])
    with pytest.raises(UsageError, match="port=99999"):
        make(checkpoint, program, port=99999)


@pytest.mark.slow
@pytest.mark.usefixtures("hangs_up")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_the_server_ends_with_the_run_however_that_ends(checkpoint: Path, program: Path, number: int) -> None:
    args = f"pretrained={checkpoint},executable={program},notes={program.parent}/notes,how=never"
    command = [
        sys.executable,
        "-m",
        "harness",
        "--model",
        "vllm_server",
        "--model_args",
        args,
        "--tasks",
        "demo_arithmetic",
    ]
    run = subprocess.Popen(
        [*command, "--device", "cpu", "--output", str(program.parent / "runs")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (program.parent / "notes").exists() or not notes(program):
        assert run.poll() is None
        time.sleep(0.1)
    os.kill(run.pid, number)
    run.wait(60)
    assert not left_behind(program, 20)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_the_server_ends_with_its_keeper(checkpoint: Path, program: Path) -> None:
    """What a system short of memory may kill is any of them."""
    model = make(checkpoint, program)
    model.load()
    os.kill(model._process._keeper.pid, signal.SIGKILL)
    server = notes(program)[0]["pids"][:1]
    for _ in range(100):
        if not any(map(_lives, server)):
            break
        time.sleep(0.05)
    assert not any(map(_lives, server))
    model.close()
    for pid in notes(program)[0]["pids"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_judge_without_a_folder_leaves_no_log(checkpoint: Path, program: Path) -> None:
    model = make(checkpoint, program, kind=SGLangServer)
    model.folder = None
    model.load()
    log = model._process.log
    assert log.exists()
    model.close()
    assert not log.exists() and not left_behind(program)


def test_identity_is_of_the_weights_and_not_of_the_place(checkpoint: Path, program: Path) -> None:
    plain = make(checkpoint, program).identity
    placed = make(checkpoint, program, tensor_parallel_size=4, num_concurrent=3).identity
    quantised = make(checkpoint, program, quantization="fp8").identity
    assert plain == placed and plain != quantised and plain["weights"] and "model" not in plain


@pytest.mark.parametrize(("kind", "named"), [("vllm_server", "{adapter}"), ("sglang_server", "模型:{adapter}")])
def test_adapters_take_turns_on_one_server(
    checkpoint: Path, adapters: list[Path], program: Path, kind: str, named: str
) -> None:
    args = f"pretrained={checkpoint},executable={program},notes={program.parent}/notes,max_lora_rank=8,enable_lora=True"
    command = ("--model", kind, "--model_args", args, "--tasks", "demo_arithmetic", "--limit", "1", "--device", "cpu")
    done = run_harness(*command, "--output", str(program.parent / "runs"), "--peft", "none", *map(str, adapters))
    assert done.exit_code == 0, done.output
    (note,) = notes(program)
    assert note["argv"][note["argv"].index("--max-lora-rank") + 1] == "8" and "--enable-lora" in note["argv"]
    asked = [json.loads(line) for line in (program.parent / "asked").read_text().splitlines()]
    loaded = [(each["lora_name"], each["lora_path"]) for each in asked if "lora_name" in each]
    assert [path for _, path in loaded] == list(map(str, adapters))
    models = [each["model"] for each in asked if "lora_name" not in each]
    assert models == ["模型", *(named.format(adapter=name) for name, _ in loaded)]
    assert len(list((program.parent / "runs").iterdir())) == 3 and not left_behind(program)


def test_an_adapter_for_which_the_server_has_no_room_gets_one_of_its_own(
    checkpoint: Path, adapters: list[Path], program: Path
) -> None:
    small, large = (make(checkpoint, program, peft=str(adapter)) for adapter in adapters)
    assert small.identity["peft"] != large.identity["peft"]
    small.server_args["max_lora_rank"] = 4
    small.load()
    large.take_over(small)
    small.close()
    large.load()
    large.close()
    assert len(notes(program)) == 2 and not left_behind(program)


def test_adapters_that_cannot_be_served_are_one_line(
    checkpoint: Path, adapters: list[Path], program: Path, tmp_path: Path
) -> None:
    model = make(checkpoint, program, "refuses adapters", peft=str(adapters[0]))
    with pytest.raises(ModelError, match=r"cannot load the adapter .*甲: .*rank 99 is too large"):
        model.load()
    model.close()
    for settings, said in (
        ({"use_dora": True}, "changes more than matrices (use_dora)"),
        ({"bias": "all"}, "changes more than matrices (bias)"),
        ({"peft_type": "IA3"}, "is of type IA3"),
        ({"base_model_name_or_path": "other"}, "was trained on 'other'"),
    ):
        folder = lora(tmp_path / said[:9].strip() / str(len(said)), checkpoint.name, 2, **settings)
        with pytest.raises(UsageError, match=re.escape(said)):
            make(checkpoint, program, peft=str(folder))
    with pytest.raises(UsageError, match="there is no such folder"):
        make(checkpoint, program, peft="/nowhere")


def test_what_cannot_be_is_refused_before_anything_starts(checkpoint: Path, program: Path) -> None:
    for args, said in (
        ({"base_url": "http://localhost:1/v1"}, "'base_url': it starts a server of its own"),
        ({"executable": "/nowhere/vllm"}, "executable=/nowhere/vllm: there is no such program"),
        ({"dtype": "float13"}, "unknown dtype 'float13'"),
        ({"num_concurrent": 0}, "num_concurrent must be"),
    ):
        with pytest.raises(HarnessError, match=re.escape(said)):
            make(checkpoint, program, **args)
    assert not (program.parent / "notes").exists()


def test_arguments_become_flags() -> None:
    given = {"max_num_seqs": 8, "enforce_eager": True, "enable_prefix_caching": False, "revision": None}
    further = {"stop": ["a", "b"], "rope": {"factor": 2}}
    common = ["--max-num-seqs", "8", "--enforce-eager"]
    rest = ["--stop", "a", "b", "--rope", '{"factor": 2}']
    assert list(server_flags({**given, **further}, negates=True)) == [*common, "--no-enable-prefix-caching", *rest]
    assert list(server_flags({**given, **further}, negates=False)) == [*common, *rest]
