"""lm-eval's side of lm_eval_library.py: runs under lm-eval's own Python and writes what it found as JSON.

python lm_eval_peer.py each WORK PACKAGE_NAMES MODEL METADATA   the tasks of WORK/names.json: [name, limit, options]
python lm_eval_peer.py command WORK PACKAGE_NAMES ...           lm-eval's own command, over rows that WORK has
"""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import evaluate
import lm_eval
import lm_eval.tasks
import lm_eval_rows

SECONDS = 180
"""For one task; some make rows without end where a tokenizer's tokens are short."""
SPLIT_KEYS = ("training_split", "validation_split", "test_split", "fewshot_split")


def splits_of(manager: Any, names: list[str]) -> dict[tuple[str, str], set[str]]:
    """(data set, configuration) -> the splits that tasks name."""
    found: dict[tuple[str, str], set[str]] = {}
    for config in configs(manager, names):
        key = (str(config.get("dataset_path")), config.get("dataset_name") or "")
        few = config.get("fewshot_config")
        named = [*map(config.get, SPLIT_KEYS), few.get("split") if isinstance(few, dict) else None]
        found.setdefault(key, set()).update(split for split in named if split and split != "None")
    return found


def configs(manager: Any, names: list[Any]) -> Iterator[dict[str, Any]]:
    for name in names:
        entry = manager.task_index.get(name) if isinstance(name, str) else None
        if entry is None:
            continue
        if entry.cfg and "dataset_path" in entry.cfg:
            yield entry.cfg
        members = (entry.cfg or {}).get("task") if entry.kind.name == "GROUP" else sorted(entry.tags)
        if entry.kind.name in ("GROUP", "TAG"):
            yield from configs(manager, members if isinstance(members, list) else [members])


def read_made_up_rows(work: Path, splits: dict[tuple[str, str], set[str]]) -> None:
    """Have `datasets.load_dataset` read rows that are made up when they are asked for."""
    load = datasets.load_dataset

    def load_dataset(path: str, name: str | None = None, *args: Any, **options: Any) -> Any:
        folder = work / "rows" / path / (name or "")
        if not list(folder.glob("*.jsonl")):
            named = splits.get((path, name or ""), set())
            lm_eval_rows.write(work / "rows", path, name or "", named or lm_eval_rows.SPLITS)
        files = {file.stem: str(file) for file in sorted(folder.glob("*.jsonl"))}
        loaded = load("json", data_files=files)  # in files, so that a split that was processed is found again
        return loaded[options["split"]] if "split" in options else loaded

    datasets.load_dataset = load_dataset


def no_network(package_names: str) -> None:
    """Let `evaluate.load` and modules that newer packages lack come from this project, as they do there."""
    spec = importlib.util.spec_from_file_location("_package_names", package_names)
    assert spec is not None and spec.loader is not None
    names = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(names)
    sys.modules["_lm_eval_names"] = type(sys)("_lm_eval_names")
    evaluate.load = names._load
    sys.meta_path.append(names._Finder(["transformers.data.metrics", "transformers.data.metrics.squad_metrics"]))


def evaluate_each(work: Path, model: str, metadata: str) -> None:
    """Run the tasks of `names.json`, one after another."""
    from lm_eval.models.huggingface import HFLM

    def late(*_: Any) -> None:
        raise TimeoutError(f"no end within {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    asked = json.loads((work / "names.json").read_text())
    manager = lm_eval.tasks.TaskManager(metadata={"pretrained": model, **json.loads(metadata)})
    read_made_up_rows(work, splits_of(manager, [name for name, _, _ in asked]))
    language_model = HFLM(pretrained=model, dtype="float32", batch_size=8, device="cpu")
    for name, limit, options in asked:
        signal.alarm(SECONDS)
        began = time.time()
        try:
            done = lm_eval.simple_evaluate(
                model=language_model, tasks=[name], limit=limit, log_samples=True, task_manager=manager,
                bootstrap_iters=2, confirm_run_unsafe_code=True, **options,
            )  # fmt: skip
            kept = {key: done.get(key) for key in ("samples", "results", "groups")}
            found = {**kept, "seconds": time.time() - began}
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"[:300]}
        signal.alarm(0)
        with (work / "peer.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps({"name": name, **found}, default=str) + "\n")


def main() -> None:
    do, folder, package_names, *more = sys.argv[1:]
    no_network(package_names)
    if do == "each":
        evaluate_each(Path(folder), *more)
        return
    from lm_eval.__main__ import cli_evaluate

    read_made_up_rows(Path(folder), {})
    sys.argv[1:] = more
    cli_evaluate()


if __name__ == "__main__":
    main()
