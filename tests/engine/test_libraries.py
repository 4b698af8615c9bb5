"""What is imported of transformers, and how torch's threads wait."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from harness.engine import cpu
from harness.engine.libraries import allowed_cores, keep_to_allowed_cores, let_threads_sleep
from harness.testing import tiny_causal_lm

PROCESS_GROUP = ("WORLD_SIZE", "RANK", "LOCAL_RANK")
PROGRAM = """\
import gc
import sys
from pathlib import Path
from harness.engine.libraries import import_model_classes
import_model_classes()
from transformers.utils import is_scipy_available
assert "scipy.optimize" not in sys.modules
assert gc.isenabled()
import transformers.loss.loss_for_object_detection as losses
assert is_scipy_available() and losses.is_scipy_available()
print([list(map(int, places)) for places in losses.linear_sum_assignment([[2.0, 1.0], [1.0, 2.0]])])
"""


@pytest.mark.slow
def test_scipy_is_imported_only_by_who_trains_with_it() -> None:
    pytest.importorskip("scipy")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.stdout == "[[0, 1], [1, 0]]\n", done.stderr


DEFERRED = """\
import sys
from harness.engine.libraries import import_model_classes
import_model_classes()
import torch
from harness.engine.unset_weights import UnsetWeights
from transformers import AutoModelForCausalLM
with UnsetWeights():
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokens = torch.tensor([[5, 6, 7]])
with torch.no_grad():
    plain = model(tokens).logits
    assert "sympy" not in sys.modules and "torch.distributed.tensor" not in sys.modules
    compiled = torch.compile(model, backend="eager")(tokens).logits
assert torch.equal(plain, compiled)
from torch import _dynamo
from transformers.integrations.finegrained_fp8 import _load_finegrained_fp8_kernel as decorated
assert type(_dynamo) is type(sys) and id(decorated) in _dynamo.trace_rules._allowed_callable_ids
assert _dynamo._trace_wrapped_higher_order_op is sys.modules["torch._dynamo._trace_wrapped_higher_order_op"]
print("the same")
"""


@pytest.mark.slow
def test_the_compiler_is_imported_when_something_is_compiled(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEFERRED, str(tiny_causal_lm(tmp_path))], capture_output=True, text=True, check=False
    )
    assert done.stdout == "the same\n", done.stderr


@pytest.mark.slow
def test_one_of_several_processes_can_spread_a_model_with_transformers() -> None:
    program = """\
from harness.engine.libraries import import_model_classes
import_model_classes()
from transformers.distributed.utils import is_torch_distributed_available
print(is_torch_distributed_available())
"""
    for given, found in (({}, "False\n"), ({"WORLD_SIZE": "2"}, "True\n")):
        environment = {name: value for name, value in os.environ.items() if name not in PROCESS_GROUP}
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**environment, **given}
        )
        assert done.stdout == found, done.stderr


WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.mark.parametrize(
    ("given", "imported", "found"),
    [
        ({}, False, {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}),
        ({"OMP_WAIT_POLICY": "active"}, False, {"OMP_WAIT_POLICY": "active"}),
        ({"KMP_BLOCKTIME": "200"}, False, {"KMP_BLOCKTIME": "200"}),
        ({}, True, {}),
    ],
)
def test_threads_sleep_unless_the_user_says_otherwise_or_torch_is_there(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], imported: bool, found: dict[str, str]
) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in WAITING}
    monkeypatch.setattr(os, "environ", {**environment, **given})
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if name != "torch"})
    if imported:
        monkeypatch.setitem(sys.modules, "torch", os)
    let_threads_sleep()
    assert {name: os.environ[name] for name in WAITING if name in os.environ} == found


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="runs with glibc, the only allocator that is told")
def test_freed_memory_is_used_again() -> None:
    """Tensors as large as activations are made without asking the system for pages each time."""
    program = """\
import resource
import torch
from harness.engine.cpu import keep_freed_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10_000_000)  # more than the system's allocator keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
print(keep_freed_memory())
faults()
print(before > 1000 * faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "True\nTrue\n", done.stderr


def test_a_library_without_mallopt_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu.ctypes, "CDLL", lambda name: object())
    assert not cpu.keep_freed_memory()


OPENED = """\
import sys
from pathlib import Path
from harness.engine import libraries
libraries._open_torch()
print("libtorch_cpu.so" in Path("/proc/self/maps").read_text(), "torch" in sys.modules)
libraries.import_libraries()
import torch
print(torch.ones(2, 3).matmul(torch.ones(3, 1)).sum().item())
libraries._open_torch()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="runs on Linux: elsewhere torch opens its library itself")
def test_the_largest_library_of_torch_is_opened_without_python() -> None:
    done = subprocess.run([sys.executable, "-c", OPENED], capture_output=True, text=True, check=False)
    assert done.stdout == "True False\n6.0\n", done.stderr


STRUCTURE = """\
import sys
from pathlib import Path
from harness.engine.libraries import import_libraries
import_libraries()
import transformers
utils = sys.modules["transformers.utils.import_utils"]
read = utils.create_import_structure_from_path
original = read.__closure__[[*read.__code__.co_freevars].index("read")].cell_contents
models = str(transformers.__path__[0]) + "/models"
assert read(models) == original(models)
print(len(transformers.models.__all__) if hasattr(transformers.models, "__all__") else len(dir(transformers.models)))
print(transformers.Qwen2Config.model_type)
"""


@pytest.mark.slow
def test_what_transformers_reads_of_itself_is_kept_and_read_anew_where_it_is_broken(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}

    def told() -> str:
        done = subprocess.run(
            [sys.executable, "-c", STRUCTURE], capture_output=True, text=True, check=False, env=environment
        )
        assert not done.returncode, done.stderr
        return done.stdout

    first = told()
    (kept,) = (tmp_path / "harness" / "imports").iterdir()
    written = kept.stat().st_mtime_ns
    assert told() == first
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(b"\xff\x00 torn")
    assert told() == first
    kept.unlink()
    kept.mkdir()  # it cannot be written
    assert told() == first


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8), ("6400000 100000", 8), ("", 8), (None, 8)],
)
def test_a_containers_quota_bounds_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    file = tmp_path / "cpu.max"
    if quota is not None:
        file.write_text(quota + "\n", encoding="ascii")
    assert allowed_cores(file) == cores


@pytest.mark.parametrize(("given", "imported", "found"), [(None, False, "3"), ("8", False, "8"), (None, True, None)])
def test_no_more_threads_than_allowed_cores(
    monkeypatch: pytest.MonkeyPatch, given: str | None, imported: bool, found: str | None
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    monkeypatch.setattr(os, "environ", environment if given is None else {**environment, "OMP_NUM_THREADS": given})
    monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items() if name != "torch"})
    if imported:
        monkeypatch.setitem(sys.modules, "torch", os)
    monkeypatch.setattr("harness.engine.libraries.allowed_cores", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    keep_to_allowed_cores()
    assert os.environ.get("OMP_NUM_THREADS") == found
