"""Write numbers.json: what lm-eval finds for group_cases.py. Run it with a Python that has lm-eval.

HF_HUB_OFFLINE=1 PYTHON tests/lm_eval_groups/make_numbers.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import group_cases
import lm_eval
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager


class Hash(LM):
    def loglikelihood(self, requests):
        return [(group_cases.log_probability(*request.args), False) for request in requests]

    def generate_until(self, requests):
        return [group_cases.reply(request.args[0]) for request in requests]

    def loglikelihood_rolling(self, requests):
        raise AssertionError("no task asks for it")


def main() -> None:
    found = {"lm_eval": version("lm_eval")}
    with tempfile.TemporaryDirectory() as folder:
        group_cases.write(Path(folder))
        for name in group_cases.GROUPS:
            manager = TaskManager(include_path=folder, include_defaults=False)
            done = lm_eval.simple_evaluate(model=Hash(), tasks=[name], task_manager=manager, bootstrap_iters=1000)
            keys = ("results", "groups", "group_subtasks", "versions", "n-shot", "higher_is_better")
            found[name] = {key: done[key] for key in keys if key in done}
    text = json.dumps(found, indent=1, default=float, sort_keys=True) + "\n"
    (Path(__file__).parent / "numbers.json").write_text(text)


if __name__ == "__main__":
    main()
