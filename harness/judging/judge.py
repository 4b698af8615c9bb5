"""The straight line of judging: a rubric, the log of a run, one judge after another, and what they found.

Everything that can be refused is refused before the first judge loads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from harness.errors import ChatTemplateError, ExitCode, UsageError
from harness.judging.judged_runs import JudgedTask, Run, judged_tasks, open_run
from harness.judging.panel import Panel, make_panel
from harness.judging.questions import JudgedSample, QuestionMaker
from harness.judging.rubric import Rubric, find_rubric
from harness.judging.session import Session
from harness.judging.strengths import JudgedPair, TaskStrengths, task_strengths
from harness.judging.usage import pairs_of, work_of
from harness.judging.verdicts import scale, score_keys
from harness.model import Model
from harness.quick import dataclass
from harness.record.cost import Prices
from harness.record.coverage import Coverage, coverage_of
from harness.record.manifest import identity_hash, model_title
from harness.record.manifest_fields import JudgedRunFields, Manifest
from harness.record.report import Missing, build_report, missing_of
from harness.record.report_fields import Report
from harness.record.run import RunFolder
from harness.record.usage import Usage, watch
from harness.registry import Registry, load_plugins
from harness.run.answers import close_model
from harness.run.budget import Account
from harness.run.describe import shown_args, without_secrets
from harness.run.prepare import prepare_models
from harness.run.sample_facts import AskedSamples
from harness.run.spec import Progress, RunSpec
from harness.run.stopping import note_incidents, tidy_stop
from harness.scoring.aggregation import summarise
from harness.secret import sealed
from harness.tasks.generation import generation_params
from harness.types import JSON, Record, Result
from harness.words import phrase

JUDGEMENTS = "judgements"
"""The folder of a run folder that holds the judgements of it."""
DEFAULT_TOKENS = 1024
REFERENCES = "the reference answers"
"""The name of the side that a run is compared with where it is compared with no other run."""


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """One judge: a model plugin and its arguments. prices: of its tokens, or a pair, of a million prompt and a million
    completion tokens."""

    name: str
    args: Mapping[str, JSON] = field(default_factory=dict)
    prices: Prices | tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", sealed(dict(self.args)))

    @property
    def token_prices(self) -> Prices | None:
        """What its tokens cost, where that is known."""
        if isinstance(self.prices, tuple):
            return Prices.of({"in": self.prices[0], "out": self.prices[1]})
        return self.prices


@dataclass(frozen=True, slots=True)
class JudgeSpec:
    """Everything that a judging is told, named as on the command line.

    runs: one, or two for a rubric of pairs; a win is then the second run's. Of more than two, every two are compared.
    against_references: the reference answers of the rows are one side more, the first. retries: how often a reply that
    cannot be read is asked for again. output: where folders of judgements are kept; `judgements` of the last run by
    default.
    """

    runs: tuple[str, ...]
    rubric: str
    judges: tuple[JudgeModel, ...]
    tasks: tuple[str, ...] = ()
    limit: int | float | None = None
    retries: int = 2
    seed: int = 1234
    apply_chat_template: bool = True
    gen_kwargs: Mapping[str, JSON] = field(default_factory=dict)
    batch_size: int | str = "auto"
    max_batch_size: int | None = None
    device: str = "auto"
    offline: bool = False
    output: str | None = None
    command: str = ""
    against_references: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """What one judge found, and the folder that it is in.

    larger: the report that the folder keeps, where an earlier command asked for more.
    """

    path: Path
    report: Report = field(repr=False)
    larger: Report | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """What every judge found, and, of several, what they found together; of more than two runs, their strengths."""

    judgements: tuple[Judgement, ...]
    panel: Panel | None = None
    strengths: tuple[TaskStrengths, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """Samples that failed, and a judge of whom not one reply could be read, are no success."""
        tasks = [task for judgement in self.judgements for task in judgement.report["tasks"]]
        failed = any(task["counts"]["failed"] or task.get("missing") or not task["metrics"][0]["n"] for task in tasks)
        return ExitCode.SAMPLES_FAILED if failed else ExitCode.OK

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        judged = [{"path": str(each.path), **each.report} for each in self.judgements]
        found: dict[str, Any] = {"judges": judged, "panel": self.panel.to_dict() if self.panel else None}
        return {**found, "strengths": [asdict(each) for each in self.strengths]} if self.strengths else found


@dataclass(slots=True)
class JudgingPlan:
    """All that is known before a judge is asked: the rubric, the runs, and the questions."""

    spec: JudgeSpec
    rubric: Rubric
    runs: list[Run]
    tasks: list[JudgedTask]
    samples: list[JudgedSample]
    maker: QuestionMaker


def run_judges(
    spec: JudgeSpec,
    registry: Registry | None = None,
    progress: Progress | None = None,
    accounts: Sequence[Account | None] = (),
) -> JudgeResult:
    """Have every judge judge the runs. Raises `HarnessError`; what was judged before an error stays on disk.

    accounts: of each judge, within the budget of a run.
    """
    registry, progress = registry or load_plugins(), progress or Progress()
    done: list[list[Judgement]] = []
    models: list[Model] = []
    try:
        plans = plan_judging(spec, registry, progress)
        models = prepared_judges(plans, registry, progress)
        for each, model, account in zip(spec.judges, models, accounts or [None] * len(models), strict=True):
            model.say = progress.message
            done.append(_judge_all(plans, each, model, registry, progress, account))
            close_model(model)  # the next judge may need its memory
    finally:
        for model in models[len(done) :]:
            close_model(model)
        progress.finished()
    flat = tuple(judgement for column in done for judgement in column)
    if len(plans) > 1:
        return JudgeResult(flat, None, tuple(_strengths(plans, done)))
    panel = make_panel(plans[0].rubric, plans[0].tasks, [each.path for each in flat]) if len(flat) > 1 else None
    return JudgeResult(flat, panel)


def judge(
    runs: str | Path | Sequence[str | Path],
    rubric: str | Path,
    model: str,
    model_args: Mapping[str, JSON] | None = None,
    **options: Any,
) -> JudgeResult:
    """Have a model judge a finished run, or compare two: `judge("runs/NAME", "quality_en", "hf", {"pretrained": DIR})`.

    `options` are the other fields of `JudgeSpec`; `judges=[JudgeModel(...), ...]` adds more judges to this one. Raises
    `HarnessError`.
    """
    named = (str(runs),) if isinstance(runs, str | Path) else tuple(map(str, runs))
    judges = (JudgeModel(model, dict(model_args or {})), *options.pop("judges", ()))
    return run_judges(JudgeSpec(named, str(rubric), judges, **options))


def plan_judging(spec: JudgeSpec, registry: Registry, progress: Progress) -> list[JudgingPlan]:
    """Read the rubric and the runs, and render every question. Raises `UsageError`.

    One plan; of more than two sides, one for every two of them.
    """
    progress.stage(phrase("reading the answers that are judged"))
    rubric = find_rubric(spec.rubric, tuple(registry.template_folders()))
    if not spec.judges:
        raise UsageError("--model: name the model that judges (`harness plugins` lists what there is)")
    if spec.against_references and (not rubric.pairwise or rubric.needs_reference):
        why = "judges the answers of one run" if not rubric.pairwise else "shows the reference to the judge"
        raise UsageError(f"--against_references: the rubric '{rubric.name}' {why}; take one of pairs that does not")
    sides = (*([""] if spec.against_references else []), *spec.runs)
    if (len(sides) < 2) if rubric.pairwise else (len(sides) != 1):
        if rubric.pairwise:
            how = "name two or more, or one and --against_references"
            raise UsageError(f"the rubric '{rubric.name}' compares the answers of runs: {how}")
        raise UsageError(f"the rubric '{rubric.name}' judges the answers of one run: name 1, not {len(sides)}")
    if len(sides) > 2 and (twice := next((run for run in spec.runs if spec.runs.count(run) > 1), None)):
        raise UsageError(f"{twice}: is named twice")
    plans = []
    for sides_of_pair in combinations(sides, 2) if rubric.pairwise else [sides]:
        runs = tuple(side for side in sides_of_pair if side)
        part = replace(spec, runs=runs, against_references=len(runs) < len(sides_of_pair))
        plans.append(_plan(part, rubric, progress))
    return plans


def _plan(spec: JudgeSpec, rubric: Rubric, progress: Progress) -> JudgingPlan:
    runs = [open_run(path) for path in spec.runs]
    tasks = judged_tasks(runs, spec.tasks, spec.limit, progress.message)
    own = {"max_gen_toks": DEFAULT_TOKENS, **rubric.generation}
    generation = generation_params(own, spec.gen_kwargs, ())
    maker = QuestionMaker(rubric, spec.apply_chat_template, generation, spec.seed, spec.against_references)
    samples = [maker.judged_sample(records) for task in tasks for records in task.samples]
    return JudgingPlan(spec, rubric, runs, tasks, samples, maker)


def prepared_judges(plans: Sequence[JudgingPlan], registry: Registry, progress: Progress) -> list[Model]:
    """The judges' models, none of them loaded yet. Raises `UsageError` where one of them cannot judge this."""
    specs = [_as_run(plans[0].spec, judge) for judge in plans[0].spec.judges]
    for spec in specs:
        if "generate" not in registry.model(spec.model).supports:
            raise UsageError(f"model '{spec.model}' writes no texts, so it cannot judge")
    try:
        models = prepare_models(
            specs,
            registry,
            lambda _: AskedSamples.of([plan.maker.sample(each) for plan in plans for each in plan.samples]),
            progress,
        )
    except ChatTemplateError as error:
        if not plans[0].maker.chat:
            raise
        raise UsageError(f"{error} (a judge is asked by chat, unless --apply_chat_template false)") from None
    try:
        identities = [{"name": model.name, **model.identity} for model in models]
        for place, identity in enumerate(identities):
            if identity in identities[:place]:  # two that are the same would agree, and prove nothing
                raise UsageError(f"--judge: judge {place + 1} is the same as judge {identities.index(identity) + 1}")
    except UsageError:
        for model in models:
            close_model(model)
        raise
    return models


def _judge_all(
    plans: Sequence[JudgingPlan],
    judge: JudgeModel,
    model: Model,
    registry: Registry,
    progress: Progress,
    account: Account | None,
) -> list[Judgement]:
    """What one judge says, which is loaded once, and only if something is left to ask."""
    for path, run in {str(run.folder.path): run for plan in plans for run in plan.runs}.items():
        if run.folder.manifest["identity"].get("model") == {"name": model.name, **model.identity}:
            progress.message(f"the judge is the model of {path}: models favour their own answers")
    done, is_loaded = [], False
    for plan in plans:
        judgement, is_loaded = _judge_by(plan, judge, model, registry, progress, account, is_loaded=is_loaded)
        done.append(judgement)
    return done


def _judge_by(
    plan: JudgingPlan,
    judge: JudgeModel,
    model: Model,
    registry: Registry,
    progress: Progress,
    account: Account | None,
    *,
    is_loaded: bool,
) -> tuple[Judgement, bool]:
    """The judgement, and whether the model is loaded now."""
    described = _manifest(plan, judge, model, registry)
    identity = _identity(plan, model)
    title = Path(model_title(described)).name
    output = Path(plan.spec.output) if plan.spec.output else plan.runs[-1].folder.path / JUDGEMENTS
    with RunFolder.open(output, f"{plan.rubric.name}-{title}", identity, described) as folder:
        for message in folder.take_messages():
            progress.message(message)
        judged_by = {
            "model": title,
            "identity": identity_hash({"name": model.name, **model.identity}),
            "rubric": plan.rubric.name,
            "rubric_hash": plan.rubric.digest,
            "scale": list(scale(plan.rubric)),
        }
        keys = score_keys(plan.rubric)
        session = Session(
            plan.maker, keys, model, judge.name, folder, progress, judged_by, plan.spec.retries, account,
            is_loaded=is_loaded,
        )  # fmt: skip
        with tidy_stop(folder, model, judge.name, described["command"] or "", lambda: session.answered):
            session.go(plan.samples)
            note_incidents(folder, model, judge.name)
            return _conclude(plan, folder, judge.token_prices), session.is_loaded


def _strengths(plans: Sequence[JudgingPlan], judgements: Sequence[Sequence[Judgement]]) -> Iterator[TaskStrengths]:
    """How strong each side is, task by task, by each judge and by several together. judgements: a row a judge."""
    folders = [[RunFolder.read(judgement.path) for judgement in row] for row in judgements]
    names = [model_title(row[0].manifest) for row in folders]
    sides: dict[str, str] = {}
    pairs: dict[str, list[JudgedPair]] = {}
    for plan, *of_pair in zip(plans, *folders, strict=True):
        judged = of_pair[0].manifest["judged"]
        sides.update((item["run"], item["model"]) for item in judged)
        for task in plan.tasks:
            records = [list(records_of(folder, task)) for folder in of_pair]
            pairs.setdefault(task.name, []).append(JudgedPair(judged[0]["run"], judged[1]["run"], records))
    for number, name in enumerate(names):
        for task_name, of_task in pairs.items():
            own = [replace(pair, judgements=[pair.judgements[number]]) for pair in of_task]
            yield task_strengths(task_name, [name], sides, own)
    if len(names) > 1:
        for task_name, of_task in pairs.items():
            yield task_strengths(task_name, names, sides, of_task)


def _conclude(plan: JudgingPlan, folder: RunFolder, prices: Prices | None) -> Judgement:
    """Sum up the judgements on disk and write the report; where an earlier one is about more, that is what is kept."""
    folder.put_in_order()
    coverage = {task.name: task.coverage(plan.spec.limit) for task in plan.tasks}
    report = _report(plan, plan.tasks, coverage, folder, prices)
    try:
        earlier = coverage_of(folder.report) if folder.report else {}
    except UsageError:  # a report that cannot be read is written anew
        earlier = {}
    larger = None
    if not all(name in coverage and coverage[name].includes(other) for name, other in earlier.items()):
        whole = {name: each.joined(earlier[name]) if name in earlier else each for name, each in coverage.items()}
        whole = {**earlier, **whole}
        tasks = judged_tasks(plan.runs, list(whole), None, lambda text: None)
        larger = _report(plan, [task.of(whole[task.name]) for task in tasks], whole, folder, prices)
    folder.finish("finished", larger or report)
    return Judgement(folder.path, report, larger)


def _report(
    plan: JudgingPlan, tasks: Sequence[JudgedTask], coverage: Coverage, folder: RunFolder, prices: Prices | None
) -> Report:
    """What the judgements of the samples of some tasks come to."""
    keys = score_keys(plan.rubric)
    results: list[Result] = []
    usage: dict[str, Usage] = {}
    missing: dict[str, Missing] = {}
    for task in tasks:
        subsets = [(name, title, ()) for name, title in task.subsets]
        results += summarise(task.name, watch(records_of(folder, task), usage), subsets, keys, task.average)
        on_disk = {record.key for record in records_of(folder, task)}
        if lost := missing_of([records[0].key for records in task.samples], on_disk):
            missing[task.name] = lost
    known = folder.manifest
    known["tasks"] = {task.name: task.fields for task in tasks}
    report = build_report(known, results, usage, missing=missing)
    for entry in report["tasks"]:
        entry["covers"] = coverage[entry["task"]].to_json()
    works = work_of((record for task in tasks for record in records_of(folder, task)), keys[0].name)
    report["rubric"] = folder.manifest["rubric"]
    report["judged"] = folder.manifest["judged"]
    report["prices_per_million"] = [prices.prompt, prices.completion] if prices else None
    report["work"] = {task: work.to_dict(prices) for task, work in works.items()}
    if plan.rubric.pairwise:
        pairs = pairs_of(record for task in tasks for record in records_of(folder, task))
        report["pairs"] = {task: tally.to_dict() for task, tally in pairs.items()}
    return report


def records_of(folder: RunFolder, task: JudgedTask) -> Iterator[Record]:
    """The judgements of the samples that were wanted; a larger limit may have left more of them."""
    wanted = {records[0].key for records in task.samples}
    yield from (record for record in folder.records(task.name) if record.key in wanted)


def _identity(plan: JudgingPlan, model: Model) -> dict[str, Any]:
    """All that decides judgements: who judges what, by which rubric, asked how."""
    generation = plan.maker.generation
    drawn = {name: getattr(generation, name) for name in generation.__slots__ if name != "seed"}
    return {
        "judge": {"name": model.name, **model.identity},
        "rubric": plan.rubric.digest,
        "runs": [run.identity for run in plan.runs],
        "chat": plan.maker.chat,
        "generation": {**drawn, "extra": dict(generation.extra)},
        "seed": plan.spec.seed if generation.do_sample else None,
        **({"against": "references"} if plan.spec.against_references else {}),
    }


def _manifest(plan: JudgingPlan, judge: JudgeModel, model: Model, registry: Registry) -> Manifest:
    """What `manifest.json` says of a judging beyond its identity. No secret of any of the judges is in it."""
    command = plan.spec.command
    for each in plan.spec.judges:
        command = without_secrets(command, each.args, registry.model(each.name).secrets)
    rubric = plan.rubric
    judged: list[JudgedRunFields] = [
        {"run": str(run.folder.path), "identity": run.identity, "model": run.title} for run in plan.runs
    ]
    if plan.spec.against_references:
        judged.insert(0, {"run": "", "identity": "", "model": REFERENCES})
    return {
        "kind": "judgement",
        "command": command,
        "model": {"name": judge.name, "args": shown_args(judge.args, model.secrets), "identity": dict(model.identity)},
        "rubric": {
            "name": rubric.name,
            "digest": rubric.digest,
            "title": rubric.title,
            "file": str(rubric.prompt.place.file),
            "pairwise": rubric.pairwise,
            "criteria": list(rubric.criteria),
            "system": rubric.system.source if rubric.system else None,
            "prompt": rubric.prompt.source,
            "format": rubric.format.instruction(),
            "score": rubric.score,
        },
        "judged": judged,
        "tasks": {
            task.name: {**task.fields, "subsets": [name for name, _ in task.subsets], "samples": len(task.samples)}
            for task in plan.tasks
        },
        "plugins": [asdict(plugin) for plugin in registry.plugins],
    }


def _as_run(spec: JudgeSpec, judge: JudgeModel) -> RunSpec:
    """What `create_model` needs to know of a judge."""
    return RunSpec(
        tasks=(),
        model=judge.name,
        model_args=judge.args,
        batch_size=spec.batch_size,
        max_batch_size=spec.max_batch_size,
        device=spec.device,
        offline=spec.offline,
        command=spec.command,
    )
