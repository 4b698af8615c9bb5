"""Fills the scores of `metric: judge` into a run: its answers are judged, and its report is written again.

    fill_judged_scores("runs/NAME", [JudgeModel("openai", {"model": "NAME"})])

The judgements are kept in the run folder, so that nothing is asked twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.errors import ExitCode, HarnessError, TaskError, UsageError
from harness.judging.judge import JudgeModel, JudgeResult, JudgeSpec, run_judges
from harness.judging.rubric import find_rubric
from harness.judging.verdicts import score_keys
from harness.quick import dataclass
from harness.record.cost import Prices, cost_of, joined_usage
from harness.record.coverage import Coverage
from harness.record.report_fields import Report, UsageFields
from harness.record.run import RunFolder
from harness.registry import Registry, load_plugins
from harness.run.budget import Budget
from harness.run.jobs import TaskJob, close_code, load_jobs
from harness.run.prepare import Narrow, create_model
from harness.run.result import RunResult
from harness.run.runner import run_each
from harness.run.spec import Progress, RunSpec
from harness.run.summarise import summarise_run
from harness.tasks.library import TaskLibrary, TaskRef
from harness.tasks.task import Task
from harness.types import JSON, MetricSpec, Record, SampleKey, ScoreName

JUDGE = "judge"
Scores = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class JudgedRun:
    """A run whose judged scores are in its report, and what the judges did."""

    result: RunResult
    judged: tuple[JudgeResult, ...]

    @property
    def exit_code(self) -> ExitCode:
        return max([self.result.exit_code, *(each.exit_code for each in self.judged)])


def waiting_tasks(report: Report) -> list[str]:
    """The tasks of a report with answers that only a judge can score, and that none has scored."""
    unscored = [
        (task["task"], metric["metric"]) for task in report["tasks"] for metric in task["metrics"] if not metric["n"]
    ]
    return list(
        dict.fromkeys(task for task, score in unscored if ScoreName.parse(score).metric.partition("_")[0] == JUDGE)
    )


def judged_metrics(task: Task) -> list[MetricSpec]:
    """The entries of a task's `metric_list` that a judge fills."""
    return [item for item in task.scoring.metrics if item.metric == JUDGE]


def check_rubrics(library: TaskLibrary, ref: TaskRef, registry: Registry) -> list[str]:
    """What is wrong with the rubrics that a task names, one line each; nothing of a task that cannot be read."""
    try:
        task = library.load(ref)
    except HarnessError:
        return []
    problems = []
    for item in judged_metrics(task):
        try:
            _scores_of(item, task, registry)
        except (TaskError, UsageError) as error:
            problems.append(f"{item.where or task.file}: {str(error).removeprefix('--rubric: ')}")
    return problems


def check_judges(jobs: Sequence[TaskJob], spec: RunSpec, judges: Sequence[JudgeModel], registry: Registry) -> None:
    """Refuse, before the rows of a run are opened, judges that have nothing to judge or cannot be made.

    jobs: the tasks of the run. Raises `UsageError`.
    """
    tasks = [job.task for job in jobs]
    if not any(judged_metrics(task) for task in tasks):
        raise UsageError("--judge: none of the tasks has scores that a judge gives (`metric: judge`)")
    for task in tasks:
        for item in judged_metrics(task):
            _scores_of(item, task, registry)
    for judge in judges:
        if spec.budget is not None and judge.token_prices is None:
            raise UsageError(
                f"--budget {spec.budget}: say what the judge's tokens cost, --judge_prices in=0.5,out=2 (0 and 0 where "
                "nothing is paid)"
            )
        create_model(
            replace(
                spec,
                model=judge.name,
                model_args=judge.args,
                apply_chat_template=False,
                thinking=None,
                reasoning_effort=None,
                thinking_budget=None,
            ),
            registry,
        ).close()


def priced_judges(
    judges: Sequence[tuple[str, Mapping[str, JSON]]], prices: Sequence[Mapping[str, JSON]] = ()
) -> list[JudgeModel]:
    """The judges of a run with what their tokens cost: prices of all of them, or of each. Raises `UsageError`."""
    if prices and len(prices) not in (1, len(judges)):
        raise UsageError(f"--judge_prices: give them once, or once for each of the {len(judges)} judges")
    known: list[Prices | None] = [Prices.of(each, "--judge_prices") for each in prices] or [None]
    each_of = known if len(known) == len(judges) else known * len(judges)
    return [JudgeModel(name, args, price) for (name, args), price in zip(judges, each_of, strict=True)]


def run_judged(
    spec: RunSpec,
    model_args: Sequence[Mapping[str, JSON]],
    judges: Sequence[JudgeModel],
    registry: Registry | None = None,
    watch: Callable[[], Progress] = Progress,
    *,
    optional: bool = False,
) -> Iterator[JudgedRun]:
    """Run `spec` with each of `model_args`, and have the judges score what its tasks leave to them.

    watch: makes who is told of a run, and of each judging. optional: the judges are a recipe's, of whose tasks those
    may be asked that need none. Raises `HarnessError`.
    """
    registry = registry or load_plugins()
    asked = list(judges)
    narrow = judges_checked(spec, asked, registry, optional=optional)
    for result in run_each(spec, model_args, registry, watch(), narrow=narrow):
        if asked:
            yield fill_judged_scores(
                result.path,
                asked,
                registry,
                watch(),
                jobs=result.jobs,
                coverage=result.coverage,
                command=spec.command,
                budget=result.budget,
            )
        else:
            yield JudgedRun(result, ())


def judges_checked(spec: RunSpec, asked: list[JudgeModel], registry: Registry, *, optional: bool = False) -> Narrow:
    """What refuses judges that cannot judge a run, once its tasks are read; see `prepare_run`.

    asked: the judges; those of a recipe (`optional`) are taken out where nothing waits for them. Raises `UsageError`.
    """
    if asked and spec.shard is not None:
        if not optional:
            how = "after `harness merge`, the same command without --shard asks the judge, and nothing else"
            raise UsageError(f"--judge does not go with --shard: {how}")
        asked.clear()

    def checked(jobs: Sequence[TaskJob]) -> Sequence[TaskJob]:
        if optional and not any(judged_metrics(job.task) for job in jobs):
            asked.clear()
        if asked:
            check_judges(jobs, spec, asked, registry)
        return jobs

    return checked


def fill_judged_scores(
    path: str | Path,
    judges: Sequence[JudgeModel],
    registry: Registry | None = None,
    progress: Progress | None = None,
    *,
    jobs: Sequence[TaskJob] = (),
    coverage: Coverage | None = None,
    command: str = "",
    budget: Budget | None = None,
) -> JudgedRun:
    """Have judges score what the tasks of a finished run leave to them, and sum the run up again.

    jobs: the tasks, where they are loaded already (`RunResult.jobs`). coverage: what the report is about; left out,
    what the folder's is about. budget: of the run, of which the judges spend what is left. Raises `HarnessError`.
    """
    registry, progress = registry or load_plugins(), progress or Progress()
    run = RunFolder.read(Path(path))
    jobs = jobs or load_jobs(RunSpec.from_json(run.manifest["spec"]), registry, Progress())
    asked = [(job, item) for job in jobs for item in judged_metrics(job.task)]
    if not asked:
        raise UsageError("--judge: none of the tasks has scores that a judge gives (`metric: judge`)")
    wanted_of = [_scores_of(item, job.task, registry) for job, item in asked]
    judged = []
    accounts = [budget.account(judge.token_prices) if budget is not None else None for judge in judges]
    scores: dict[str, dict[SampleKey, dict[str, float | None]]] = {job.task.name: {} for job in jobs}
    for (job, item), wanted in zip(asked, wanted_of, strict=True):
        spec = JudgeSpec((str(run.path),), _rubric(item, job.task), tuple(judges), (job.task.name,), command=command)
        judged.append(run_judges(spec, registry, progress, accounts))
        paths = [judgement.path for judgement in judged[-1].judgements]
        # The mean of the judges' scores of each sample that all of them scored.
        columns = [
            {record.key: record.scores for record in RunFolder.read(path).records(job.task.name)} for path in paths
        ]
        for key in columns[0]:
            for name, score in wanted.items():
                values = [column.get(key, {}).get(score) for column in columns]
                numbers = [value for value in values if isinstance(value, int | float)]
                mean = sum(numbers) / len(numbers) if len(numbers) == len(values) else None
                scores[job.task.name].setdefault(key, {})[name] = mean
    with RunFolder.reopen(run.path) as folder:
        for job in jobs:
            if of_task := scores[job.task.name]:
                folder.rewrite(job.task.name, _filled(job, folder, of_task))
        priced = bool(run.manifest.get("spec", {}).get("prices"))
        used = [
            _usage([each.judgements[place].report for each in judged], judge, priced)
            for place, judge in enumerate(judges)
        ]
        named = [{"model": judge.name, "name": _called(judge)} for judge in judges]
        folder.note(judges=[{**name, "usage": usage} for name, usage in zip(named, used, strict=True)])
        summary = summarise_run(jobs, folder, coverage)
        close_code(jobs)
        result = RunResult(folder.path, summary.asked, summary.coverage, summary.larger, jobs)
        return JudgedRun(result, tuple(judged))


def _usage(reports: Sequence[Report], judge: JudgeModel, priced: bool) -> dict[str, UsageFields]:
    """What a judge took, by task. priced: whether the report of the run speaks of money."""
    by_task: dict[str, list[UsageFields]] = {}
    for task in (task for report in reports for task in report["tasks"] if "usage" in task):
        by_task.setdefault(task["task"], []).append(task["usage"])
    used = {task: joined_usage(several) for task, several in by_task.items()}
    if priced or judge.token_prices is not None:
        for usage in used.values():
            usage["cost"] = cost_of(usage, judge.token_prices)
    return used


def _called(judge: JudgeModel) -> str:
    """What a judge is known by: the model that its plugin asks."""
    return str(judge.args.get("model") or judge.args.get("pretrained") or judge.name)


def _rubric(item: MetricSpec, task: Task) -> str:
    """The rubric's name, or its file, which is relative to the task's."""
    name = str(item.options["rubric"])
    return str(task.file.parent / name) if name.endswith((".yaml", ".yml")) else name


def _scores_of(item: MetricSpec, task: Task, registry: Registry) -> dict[str, str]:
    """Score of the run -> score of the rubric. Raises `UsageError`."""
    rubric = find_rubric(_rubric(item, task), tuple(registry.template_folders()))
    if rubric.pairwise:
        raise UsageError(f"the rubric '{rubric.name}' compares two runs, and cannot score one")
    known = [key.name for key in score_keys(rubric)]
    values = item.options.get("values") or ()
    values = (values,) if isinstance(values, str) else tuple(values)
    for value in values:
        if value not in known:
            raise UsageError(f"the rubric '{rubric.name}' has no score '{value}' (it has: {', '.join(known)})")
    return {f"{JUDGE}_{value}": value for value in values} or {JUDGE: known[0]}


def _filled(job: TaskJob, folder: RunFolder, scores: Mapping[SampleKey, Scores]) -> Iterator[Record]:
    """The records of a task with what the judges gave them, under each of its filter pipelines."""
    names = {key.name: ScoreName.parse(key.name).metric for key in job.scorer.keys}
    for record in folder.records(job.task.name):
        judged = scores.get(record.key, {})
        given = {name: judged[metric] for name, metric in names.items() if metric in judged}
        yield replace(record, scores={**record.scores, **given}) if given else record
