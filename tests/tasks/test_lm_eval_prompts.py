"""Prompts equal lm-eval's to the byte, on rows made up for this test (lm_eval/make_expected.py asked lm-eval)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from task_files import build, load

from harness import Request, Sample

FOLDER = Path(__file__).parent / "lm_eval"
CASES: dict[str, Any] = yaml.safe_load((FOLDER / "cases.yaml").read_text(encoding="utf-8"))
EXPECTED: dict[str, Any] = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
MODES: dict[str, dict[str, Any]] = {
    "text": {},
    "text_system": {"system_instruction": "Be brief."},
    "chat": {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Be brief."},
    "chat_single": {"apply_chat_template": True, "fewshot_as_multiturn": False},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_every_request_is_the_one_that_lm_eval_makes(tmp_path: Path, name: str, mode: str) -> None:
    case = CASES[name]
    config = {"task": "made_up", **case["config"]}
    task = load(tmp_path, yaml.safe_dump(config, allow_unicode=True))
    unconditional = "acc_mutual_info" in json.dumps(config)
    samples = build(task, case["eval"], case["shots"], unconditional=unconditional, **MODES[mode])
    found = [row for sample in samples for request in sample.requests for row in asked(sample, request)]
    assert found == EXPECTED[name][mode]


def asked(sample: Sample, request: Request) -> list[list[Any]]:
    """A request as lm-eval counts: one a continuation."""
    shown = request.prompt.text
    if request.prompt.is_chat:
        messages = [{"role": message.role, "content": message.text} for message in request.prompt.messages]
        if request.prompt.prefill:
            messages.append({"role": "assistant", "content": request.prompt.prefill})
        shown = json.dumps([messages, not request.prompt.prefill], ensure_ascii=False)
    if request.generation is not None:
        return [[sample.id, shown, list(request.generation.until)]]
    return [[sample.id, shown, text] for text in request.continuations or [None]]
