"""What transformers builds a model with, before its weights are read."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from harness.engine.unset_weights import UnsetWeights


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4, padding_idx=0)
        self.layer = nn.Linear(4, 3)
        self.register_buffer("frequencies", 1.0 / (10000.0 ** (torch.arange(0, 8, 2, dtype=torch.float) / 8)))
        self.register_buffer("transposed", torch.empty(5, 3).t().div(2))
        self.register_buffer("here", torch.empty_like(self.frequencies, device="cpu"))


def facts(module: nn.Module) -> dict[str, Any]:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return {
        name: (each.size(), each.stride(), each.dtype, each.device.type, each.requires_grad) for name, each in tensors
    }


def test_a_model_without_numbers_is_built_as_torch_builds_it() -> None:
    with torch.device("meta"):
        plain = Layers()
        with UnsetWeights():
            quick = Layers()
    assert facts(quick) == facts(plain)
    assert facts(quick)["here"][3] == "cpu"


def test_numbers_that_have_a_place_are_drawn_as_ever() -> None:
    torch.manual_seed(0)
    plain = Layers()
    torch.manual_seed(0)
    with UnsetWeights():
        quick = Layers()
    for name, each in plain.state_dict().items():
        if name not in ("here", "transposed"):  # whatever was in memory
            assert torch.equal(each, quick.state_dict()[name])


LACKING = """\
import sys
from harness.engine.libraries import import_libraries, without_numbers
import_libraries()
import torch
made = torch.empty(3, 4, device="meta")
assert "torch._decomp" not in sys.modules
with without_numbers():
    print(tuple(torch.linalg.pinv(made).shape), torch.where(made > 0, made, -made).device)
print(tuple(torch.linalg.pinv(made).shape))
"""


def test_what_torch_answers_in_python_about_shapes_is_imported_when_a_model_asks_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", LACKING], capture_output=True, text=True, check=False)
    assert done.stdout == "(4, 3) meta\n(4, 3)\n", done.stderr


SYMBOLIC = """\
from harness.engine.libraries import import_libraries
import_libraries()
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
with FakeTensorMode(shape_env=ShapeEnv()):
    print(tuple(torch.linalg.pinv(torch.empty(3, 4)).shape))
"""


@pytest.mark.slow
def test_what_computes_with_shapes_finds_all_that_torch_knows_of_them() -> None:
    done = subprocess.run([sys.executable, "-c", SYMBOLIC], capture_output=True, text=True, check=False)
    assert done.stdout == "(4, 3)\n", done.stderr
