"""Writes expected.json: what lm-eval itself makes of cases.yaml. Run it where lm-eval (0.4.13 or later) is installed.

python tests/tasks/lm_eval/make_expected.py
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import datasets
import yaml
from lm_eval.api.task import ConfigurableTask

HERE = Path(__file__).parent
MODES: dict[str, dict[str, Any]] = {
    "text": {},
    "text_system": {"system_instruction": "Be brief."},
    "chat": {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Be brief."},
    "chat_single": {"apply_chat_template": True, "fewshot_as_multiturn": False},
}


def turns(messages: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """A chat template that hides nothing."""
    return json.dumps([messages, add_generation_prompt], ensure_ascii=False)


def answers(case: dict[str, Any], options: dict[str, Any]) -> list[list[Any]]:
    """(row, prompt, continuation or stops) of every request that lm-eval makes."""
    splits = {name: datasets.Dataset.from_list(case[name]) for name in ("eval", "shots") if case[name]}
    ConfigurableTask.download = lambda self, *_, **__: setattr(self, "dataset", splits)
    task = ConfigurableTask(config={"task": "made_up", **copy.deepcopy(case["config"])})
    task.set_fewshot_seed(0)
    chat = {"chat_template": turns} if options.get("apply_chat_template") else {}
    task.build_all_requests(**options, **chat)
    found = []
    for instance in task.instances:
        prompt, *rest = instance.args
        follows = rest[0] if rest else None
        if isinstance(follows, dict):
            stops = follows["until"]
            follows = [stops] if isinstance(stops, str) else stops
        found.append([instance.doc_id, prompt, follows])
    return found


if __name__ == "__main__":
    cases = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))
    expected = {name: {mode: answers(case, MODES[mode]) for mode in MODES} for name, case in cases.items()}
    text = json.dumps(expected, ensure_ascii=False, indent=1) + "\n"
    (HERE / "expected.json").write_text(text, encoding="utf-8")
