"""Measures the checkpoints of a training as they appear: whole ones only, in order, each once.

What was measured is kept in a note beside the runs, which is written after each checkpoint; a watch that was killed
goes on from there, and a run that was under way goes on where it stopped, as any run does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from harness import files
from harness.engine.weights import check_checkpoint, check_files, weight_files, weights_fingerprint
from harness.errors import HarnessError, Interrupted, SaveError, UsageError, one_line
from harness.quick import dataclass
from harness.record.keys import canonical_json
from harness.record.output import check_output
from harness.record.score_fields import MetricFields
from harness.record.shown import finite
from harness.registry import Registry
from harness.run.compare import RunSide, compare_task, headline
from harness.run.prepare import check_flags, resolved
from harness.run.runner import run_each
from harness.run.spec import Progress, RunSpec
from harness.scoring.statistics.paired import Comparison, correct_for_many
from harness.words import Translate, english, said

_SETTLED_SECONDS = 10.0
"""A folder in which nothing says that it is finished is taken as whole when nothing in it has changed for so long: by
its times, or by our own clock where these are of another one, or of one that was set back."""
_STATE = "trainer_state.json"
_ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
_LEVEL = 0.05


def found(patterns: Sequence[str]) -> list[Path]:
    """The folders that the patterns name, by the numbers in their names: checkpoint-900 before checkpoint-1000.

    A link to one of them (`checkpoint-latest`) is no other one. Raises `UsageError` for what is no pattern.
    """
    folders: set[Path] = set()
    for pattern in patterns:
        try:
            whole = Path(pattern).expanduser().absolute()
            if not pattern or whole == Path(whole.anchor):
                raise ValueError("it names no folder below another")
            folders.update(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))
        except (ValueError, RuntimeError, OSError) as error:  # of `a**b`, a home that nobody has, too long a name
            raise UsageError(
                f"'{pattern}' is no pattern of folders, as 'OUT/checkpoint-*' is: {one_line(error)}"
            ) from None

    def order(folder: Path) -> list[tuple[bool, int, str]]:
        parts = re.split(r"(\d+)", str(folder))
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]

    there = [folder for folder in folders if folder.is_dir()]
    themselves = {folder for folder in there if not folder.is_symlink()}
    links = {folder for folder in there if folder.is_symlink() and folder.resolve() not in themselves}
    return sorted(themselves | links, key=order)


def step_of(folder: Path) -> int | None:
    """The last number in a folder's name."""
    numbers = re.findall(r"\d+", folder.name)
    return int(numbers[-1]) if numbers else None


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter of peft alone."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def why_not_whole(folder: Path, t: Translate = english, still: float = 0.0) -> str:
    """What a checkpoint lacks, in words; empty where it is whole.

    A Trainer of transformers writes `trainer_state.json` last. Where there is none, the folder must have been left
    alone for a while. still: seconds for which somebody has seen it unchanged, whatever its times say.
    """
    try:
        weights = _weights(folder)
        if not weights:
            return t("it has no weights yet")
        if is_adapter(folder):
            check_files([folder / "adapter_config.json", *weights])
        elif not (folder / "config.json").is_file():
            return t("it has no config.json yet")
        else:
            check_checkpoint(folder)
        state = folder / _STATE
        if state.is_file() and state.stat().st_mtime >= max(file.stat().st_mtime for file in weights):
            check_files([state])
            return ""
        newest = max(file.stat().st_mtime for file in folder.iterdir())
    except UsageError as error:
        return " ".join(said(error.args[0], t).split())
    except OSError as error:  # what is written anew is renamed and removed meanwhile
        return t("it is being written ({error})", error=error.strerror)
    ahead = newest - time.time()
    if max(still, -ahead) >= _SETTLED_SECONDS:
        return ""
    if ahead >= _SETTLED_SECONDS:
        return t(
            "its times are {seconds} s ahead of the clock here; it is taken once it stays as it is",
            seconds=round(ahead),
        )
    return t("it was written to just now")


def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What changes when something in the folder is written. Raises OSError."""
    found = ((file.name, file.stat()) for file in folder.iterdir())
    return tuple(sorted((name, status.st_size, status.st_mtime_ns) for name, status in found))


def _weights(folder: Path) -> list[Path]:
    if is_adapter(folder):
        return [folder / name for name in _ADAPTER if (folder / name).is_file()]
    return weight_files(folder)


@dataclass(frozen=True, slots=True)
class Measured:
    """A checkpoint and its run."""

    checkpoint: Path
    run: Path


@dataclass
class Watch:
    """The checkpoints that patterns name, and which of them were measured by `spec`.

    The arguments of `spec.model_args` are those of every checkpoint; its `pretrained` is the base of adapters.
    failed: why a checkpoint could not be measured, by its folder; it is tried again when its weights change, and by the
    next watch. waiting: what checkpoints lack that are not whole yet, in the language of `t`.
    """

    spec: RunSpec
    patterns: Sequence[str]
    t: Translate = english
    failed: dict[Path, str] = field(default_factory=dict)
    waiting: dict[Path, str] = field(default_factory=dict)
    _failed_as: dict[Path, str] = field(default_factory=dict)
    _seen_as: dict[Path, tuple[object, float]] = field(default_factory=dict)
    """What a folder looked like, and since when, by a clock that nobody sets."""

    def __post_init__(self) -> None:
        asked = dataclasses.asdict(dataclasses.replace(self.spec, command="", log_to=(), output=""))
        places = [str(Path(pattern).absolute()) for pattern in self.patterns]
        digest = hashlib.sha256(canonical_json({"spec": asked, "places": places}, "what is watched")).hexdigest()
        self.note = Path(self.spec.output) / f"watch-{digest[:8]}.json"
        self._known: dict[str, dict[str, str]] = _read(self.note)

    def check(self, registry: Registry) -> None:
        """Refuse now what each checkpoint would be refused for. Raises `HarnessError`."""
        check_flags(self.spec, registry)
        check_output(Path(self.spec.output))
        spec = resolved(self.spec, registry)
        if not registry.model(spec.model).takes("pretrained"):
            raise UsageError(f"--model {spec.model}: takes no checkpoint (pretrained=DIR); hf and vllm do")
        found(self.patterns)
        if plain := [pattern for pattern in self.patterns if Path(pattern).is_file()]:
            raise UsageError(f"'{plain[0]}' is a file, and a checkpoint is a folder")

    def pending(self) -> list[Path]:
        """Whole checkpoints that are not measured yet, in order. `waiting` says of the others what they lack."""
        pending: list[Path] = []
        self.waiting = {}
        for folder in found(self.patterns):
            problem = why_not_whole(folder, self.t, self._still(folder))
            if problem:
                if not self._is_known(folder):
                    self.waiting[folder] = problem
                continue
            try:
                there = _weights(folder)
                weights = weights_fingerprint(there)
            except (OSError, UsageError):
                continue
            if not there:  # its trainer has removed it meanwhile, as `save_total_limit` says
                continue
            is_done = self._is_known(folder) and self._known[str(folder)]["weights"] == weights
            if not is_done and self._failed_as.get(folder) != weights:
                pending.append(folder)
        return pending

    def _still(self, folder: Path) -> float:
        """Seconds for which the folder is known to have stayed as it is."""
        try:
            stamp, now = _stamp(folder), time.monotonic()
        except OSError:
            return 0.0
        if folder not in self._seen_as or self._seen_as[folder][0] != stamp:
            self._seen_as[folder] = stamp, now
        return now - self._seen_as[folder][1]

    def measured(self) -> list[Measured]:
        """What was measured, in order; also of checkpoints that are gone meanwhile, as trainers remove them."""
        kept = [folder for folder in map(Path, self._known) if self._is_known(folder)]
        ordered = sorted(kept, key=lambda folder: (step_of(folder) is None, step_of(folder) or 0, str(folder)))
        return [Measured(folder, self._run_of(folder)) for folder in ordered]

    def measure(self, checkpoints: Sequence[Path], registry: Registry, progress: Progress) -> Iterator[Path]:
        """Measure some checkpoints, and yield each that is done. Adapters among them share one loaded base.

        One that cannot be measured is in `failed`, and the others go on.
        """
        groups: list[list[Path]] = []
        for folder in checkpoints:
            if groups and is_adapter(folder) and is_adapter(groups[-1][0]):
                groups[-1].append(folder)
            else:
                groups.append([folder])
        for group in groups:
            left = list(group)
            try:
                for folder in self._run(group, registry, progress):
                    left.remove(folder)
                    yield folder
            except (Interrupted, SaveError):
                raise
            except (HarnessError, OSError) as error:
                if len(group) == 1:
                    self._fail(group[0], error)
                    continue
                for folder in left:  # one of them is at fault: each alone
                    try:
                        yield from self._run([folder], registry, progress)
                    except (Interrupted, SaveError):
                        raise
                    except (HarnessError, OSError) as own:
                        self._fail(folder, own)

    def _run(self, group: Sequence[Path], registry: Registry, progress: Progress) -> Iterator[Path]:
        weights = [weights_fingerprint(_weights(folder)) for folder in group]
        results = run_each(self.spec, [self._args(folder) for folder in group], registry, progress)
        for folder, own, result in zip(group, weights, results, strict=True):
            self.failed.pop(folder, None)
            self._known[str(folder)] = {"weights": own, "run": str(result.path.absolute())}
            self.note.parent.mkdir(parents=True, exist_ok=True)
            files.replace_json(self.note, dict(self._known))
            yield folder

    def _fail(self, folder: Path, error: Exception) -> None:
        self.failed[folder] = one_line(error)
        try:
            self._failed_as[folder] = weights_fingerprint(_weights(folder))
        except (OSError, UsageError):  # it was removed while it was measured
            self._failed_as.pop(folder, None)

    def _is_known(self, folder: Path) -> bool:
        return str(folder) in self._known and (self._run_of(folder) / "report.json").is_file()

    def _run_of(self, folder: Path) -> Path:
        """The run of a checkpoint; where it was moved with the note, it is beside it."""
        run = Path(self._known[str(folder)]["run"])
        return run if run.is_dir() else self.note.absolute().parent / run.name

    def _args(self, folder: Path) -> dict[str, Any]:
        args = dict(self.spec.model_args)
        if not is_adapter(folder):
            return {**args, "pretrained": str(folder)}
        if "pretrained" not in args:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            args["pretrained"] = config.get("base_model_name_or_path")
        if not args["pretrained"]:
            raise UsageError(f"{folder} does not name its base: give it by --model_args pretrained=DIR")
        return {**args, "peft": str(folder)}


def _read(note: Path) -> dict[str, dict[str, str]]:
    """What a note says; nothing where it is none."""
    try:
        read = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = read.items() if isinstance(read, dict) else ()
    return {
        name: each
        for name, each in entries
        if isinstance(each, dict) and isinstance(each.get("run"), str) and isinstance(each.get("weights"), str)
    }


@dataclass(frozen=True, slots=True)
class Curve:
    """A task over the checkpoints. points: in order, each with the task's headline.

    best: the checkpoint with the best value, where there is one. above: those than which it is better beyond chance.
    fell: the first checkpoint that is worse, beyond chance, than the best one before it, and that one.
    """

    task: str
    metric: str
    points: Sequence[tuple[Path, MetricFields]]
    best: Path | None
    above: Sequence[Path]
    fell: tuple[Path, Path] | None


def curves(measured: Sequence[Measured], registry: Registry) -> list[Curve]:
    """The course of each task that all runs have. Differences are paired, sample by sample, with Holm's correction."""
    sides = [(each.checkpoint, RunSide(each.run, registry)) for each in measured]
    names = [name for name in (sides[0][1].tasks if sides else ()) if all(name in side.tasks for _, side in sides)]
    return [_curve(name, sides) for name in names]


def _curve(task: str, sides: Sequence[tuple[Path, RunSide]]) -> Curve:
    points = [(folder, headline(side.tasks[task])) for folder, side in sides]
    metric = points[0][1]["metric"]
    known = [(number, value) for number, (_, each) in enumerate(points) if (value := finite(each["value"])) is not None]
    if not known:
        return Curve(task, metric, points, None, (), None)
    sign = 1.0 if points[0][1]["higher_is_better"] else -1.0
    top = max(known, key=lambda each: sign * each[1])[0]
    rest = [number for number, _ in known if number != top]
    against = correct_for_many([compare_task(sides[number][1], sides[top][1], task) for number in rest])
    above = [points[number][0] for number, each in zip(rest, against, strict=True) if _differs(each)]
    steps: list[tuple[int, int]] = []
    best = known[0]
    for number, value in known[1:]:
        steps.append((best[0], number))
        best = (number, value) if sign * value > sign * best[1] else best
    falls = correct_for_many([compare_task(sides[a][1], sides[b][1], task) for a, b in steps])
    fell = next(
        (
            (points[b][0], points[a][0])
            for (a, b), each in zip(steps, falls, strict=True)
            if _differs(each) and sign * (each.difference or 0.0) < 0
        ),
        None,
    )
    return Curve(task, metric, points, points[top][0], above, fell)


def _differs(comparison: Comparison) -> bool:
    return comparison.adjusted_p is not None and comparison.adjusted_p < _LEVEL
