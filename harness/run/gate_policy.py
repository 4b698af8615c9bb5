"""A gate's policy: which tasks and abilities must hold what, and which of them stop a release.

    policy = read_policy(Path("policy.yaml"))
    checks = judge_policy(policy, ["runs/released"], "runs/candidate")

    alpha: 0.05
    supporting_may_fail: 1
    rules:
      - {tier: critical, tasks: [ceval, "cmmlu*"], max_drop: 0.01}
      - {tier: critical, ability: math, margin: 0.02}
      - {tier: advisory, tasks: "*"}

A rule makes a line of each of its tasks, for each baseline. With `max_drop` a line fails where a drop of more was
shown: the chance of a false alarm among all lines that can stop the release is at most `alpha`, by Holm's correction.
With `margin` a line passes only where a drop of so much was excluded; each is tested at `alpha`, as all have to pass.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.errors import suggest
from harness.record.junit import GateCheck
from harness.record.score_fields import MetricFields
from harness.run.compare import RunSide, asked_otherwise, compare_task, headline, told_of_sides
from harness.run.gate import FEWEST, change_words, facts, missing_words, outcome_words, p_words, visible_words
from harness.scoring.statistics.margins import (
    drop_of,
    excess_p,
    power_of,
    samples_for,
    shortfall_p,
    stderr_of_worst,
    worst_drop,
)
from harness.scoring.statistics.paired import Comparison, compare_macro
from harness.scoring.statistics.significance import holm
from harness.tasks.file_models import Strict, Words, validate, words
from harness.tasks.yaml_file import Document, load_document
from harness.words import Translate, english

Tier = Literal["critical", "supporting", "advisory"]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]


class RuleEntry(Strict):
    """One rule: what it is about, and what must hold."""

    tier: Tier = Field(
        "critical", description="critical: a failed line stops; supporting: a few may fail; advisory: told"
    )
    tasks: Words | None = Field(
        None, description="tasks of the baseline, by names, patterns or a suite: ceval, 'cmmlu*', release_zh"
    )
    ability: Words | None = Field(None, description="the mean over the tasks of an ability, instead of single tasks")
    metric: str | None = Field(None, description="which of the task's metrics; left out, its first")
    direction: Literal["higher", "lower"] | None = Field(
        None, description="what is better; left out, as the metric says"
    )
    max_drop: float | None = Field(None, ge=0, allow_inf_nan=False, description="fail where a larger drop is shown [0]")
    margin: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="pass only where so large a drop is excluded"
    )
    power: Share = Field(0.8, description="with margin: how surely equal models should pass, else n is too small")
    min_samples: int | None = Field(None, ge=1, description="the least number of pairs")
    allow_missing: bool = Field(False, description="whether samples of the baseline may be missing or unscored")


class PolicyConfig(Strict):
    """What a policy file may say."""

    title: str = ""
    alpha: Share = Field(0.05, description="chance of any false alarm, and of each false promise")
    supporting_may_fail: int = Field(1, ge=0, description="how many supporting lines may fail")
    rules: list[RuleEntry] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was checked, with the places of its rules in the file."""

    config: PolicyConfig
    document: Document

    def place(self, rule: int) -> str:
        return str(self.document.place(("rules", rule)))


def read_policy(file: Path) -> Policy:
    """Read and check a policy file. Raises `TaskError`, with the line."""
    document = load_document(file)
    config = validate(PolicyConfig, document.data, document)
    for number, rule in enumerate(config.rules):
        path = ("rules", number)
        if (rule.tasks is None) == (rule.ability is None):
            raise document.error(path, "a rule is about either tasks or an ability: name one of them")
        if not words(rule.tasks) and not words(rule.ability):  # a rule without a line would hold whatever happens
            raise document.error(path, "a rule names at least one task or ability")
        if rule.max_drop is not None and rule.margin is not None:
            raise document.error(path, "a rule has either max_drop or margin; make two rules of it")
        if rule.margin is None and "power" in rule.model_fields_set:
            raise document.error(path, "power says how surely a margin is promised: it needs 'margin'")
        if rule.ability is not None and (rule.metric or rule.direction):
            raise document.error(
                path, "an ability is judged by the first metrics of its tasks, in their own directions"
            )
    return Policy(config, document)


@dataclass(frozen=True, slots=True)
class RuleLine:
    """What one rule says of one task or ability against one baseline. comparison: None where the run lacks it."""

    number: int
    rule: RuleEntry
    task: str
    metric: str
    against: str
    comparison: Comparison | None
    before: float | None = None

    @property
    def p_value(self) -> float | None:
        if self.comparison is None:
            return None
        if self.rule.margin is not None:
            return shortfall_p(self.comparison, self.rule.margin)
        return excess_p(self.comparison, self.rule.max_drop or 0.0)


def judge_policy(
    policy: Policy,
    baselines: Sequence[str | Path],
    current: str | Path,
    message: Callable[[str], None] = lambda text: None,
    t: Translate = english,
) -> list[GateCheck]:
    """Judge the current run by every rule against every baseline; a check whose outcome is `failed` stops the release.

    message: is told what of a folder cannot be read. t: the language of the reasons. Raises `UsageError` for a rule
    that is about nothing there.
    """
    lines: list[RuleLine] = []
    for path in dict.fromkeys(map(str, baselines)):
        against = path if len(baselines) > 1 else ""
        sides = _Sides(policy, RunSide(path, None), RunSide(current, None), against, t)
        for number, rule in enumerate(policy.config.rules):
            lines += sides.lines(number, rule)
        common = [name for name in sides.old.tasks if name in sides.new.tasks]
        for problem in [*told_of_sides(sides.old, sides.new), *asked_otherwise(sides.old, sides.new, common)]:
            message(problem)
    return check_lines(policy, lines, t)


def check_lines(policy: Policy, lines: Sequence[RuleLine], t: Translate = english) -> list[GateCheck]:
    """Judge all lines of a policy together: their p-values are corrected for one another."""
    adjusted = _adjusted(lines)
    checks = [_check(policy, line, p_value, t) for line, p_value in zip(lines, adjusted, strict=True)]
    return _by_tier(checks, policy.config.supporting_may_fail)


def _adjusted(lines: Sequence[RuleLine]) -> list[float | None]:
    """The p-values of the lines, those of drops corrected by Holm's method.

    Lines that can stop the release are one family, over all tiers and baselines; advisory ones are another.
    """
    values = [line.p_value for line in lines]
    for is_advisory in (False, True):
        family = [
            place
            for place, line in enumerate(lines)
            if line.rule.margin is None and (line.rule.tier == "advisory") == is_advisory and values[place] is not None
        ]
        corrected = holm([value for place in family if (value := values[place]) is not None])
        for place, value in zip(family, corrected, strict=True):
            values[place] = value
    return values


def _by_tier(checks: Sequence[GateCheck], may_fail: int) -> list[GateCheck]:
    """The checks with what their tiers make of a failure: what stops nothing is a warning."""
    supporting = sum(check.tier == "supporting" and check.outcome == "failed" for check in checks)
    spared = {"advisory", *(["supporting"] if supporting <= may_fail else [])}
    return [
        replace(check, outcome="warned") if check.outcome == "failed" and check.tier in spared else check
        for check in checks
    ]


class _Sides:
    """A baseline and the current run, and what has been compared of them. suites: the baseline's, with their tasks."""

    def __init__(self, policy: Policy, old: RunSide, new: RunSide, against: str, t: Translate) -> None:
        self.policy, self.old, self.new, self.against, self.t = policy, old, new, against, t
        report = old.run.report
        self.suites = {group["group"]: group["tasks"] for group in (report.get("groups", ()) if report else ())}
        self._known: dict[tuple[str, str], Comparison] = {}

    def lines(self, number: int, rule: RuleEntry) -> Iterator[RuleLine]:
        for ability in words(rule.ability):
            yield self._of_ability(number, rule, ability)
        for task in self._tasks(number, rule) if rule.tasks is not None else ():
            yield self._of_task(number, rule, task)

    def _tasks(self, number: int, rule: RuleEntry) -> list[str]:
        """The baseline's tasks that a rule names, each once: by name, by pattern, or by the suite that was asked."""
        chosen: dict[str, None] = {}
        for pattern in words(rule.tasks):
            named = [task for task in self.old.tasks if task == pattern or fnmatch.fnmatchcase(task, pattern)]
            named = named or self.suites.get(pattern, [])
            if not named:
                there = [*self.old.tasks, *self.suites]
                known = f"{suggest(pattern, there)} (it has: {', '.join(there)})"
                raise self._error(number, f"{self.old.path} has no task or suite '{pattern}'{known}")
            chosen.update(dict.fromkeys(named))
        return list(chosen)

    def _error(self, number: int, text: str) -> Exception:
        return self.policy.document.error(("rules", number), text)

    def _of_task(self, number: int, rule: RuleEntry, task: str) -> RuleLine:
        metric = self._metric(number, rule, task)
        value = metric["value"]
        before = None if value is None else float(value)
        comparison = None
        if task in self.new.tasks:
            comparison = self._compared(task, metric)
            if rule.direction is not None:
                comparison = replace(comparison, higher_is_better=rule.direction == "higher")
        return RuleLine(number, rule, task, metric["metric"], self.against, comparison, before)

    def _metric(self, number: int, rule: RuleEntry, task: str) -> MetricFields:
        metrics = {metric["metric"]: metric for metric in self.old.tasks[task]["metrics"]}
        if rule.metric is None:
            return headline(self.old.tasks[task])
        if rule.metric not in metrics:
            known = f"{suggest(rule.metric, metrics)} (it has: {', '.join(metrics)})"
            raise self._error(number, f"{task} has no metric '{rule.metric}'{known}")
        return metrics[rule.metric]

    def _compared(self, task: str, metric: MetricFields) -> Comparison:
        key = task, metric["metric"]
        if key not in self._known:
            self._known[key] = compare_task(self.old, self.new, task, metric=metric)
        return self._known[key]

    def _of_ability(self, number: int, rule: RuleEntry, ability: str) -> RuleLine:
        report = self.old.run.report
        abilities = {found["ability"]: found["tasks"] for found in (report.get("abilities", ()) if report else ())}
        if ability not in abilities:
            known = f"{suggest(ability, abilities)} (it has: {', '.join(abilities)})"
            raise self._error(number, f"{self.old.path} has no tasks of the ability '{ability}'{known}")
        parts = []
        for task in abilities[ability]:
            if task not in self.new.tasks:
                return RuleLine(number, rule, ability, self.t("mean"), self.against, None)
            metric = headline(self.old.tasks[task])
            part = _from_0_to_1(self._compared(task, metric), metric)
            if rule.margin is not None:
                part = replace(part, stderr=stderr_of_worst(part, self.policy.config.alpha))
            parts.append(part)
        whole = compare_macro(ability, parts)
        if any(part.difference is None for part in parts):  # a mean of the other tasks would be another ability
            whole = Comparison(ability, 0, None, None, None)
        missing = sum(part.missing for part in parts)
        mean = self.t("mean of {n}", n=len(parts))
        return RuleLine(number, rule, ability, mean, self.against, replace(whole, missing=missing))


def _from_0_to_1(comparison: Comparison, metric: MetricFields) -> Comparison:
    """The comparison on a scale from 0, the worst that the metric can be, to 1; without bounds it stays as it is."""
    bounds = [float(end) for end in metric.get("bounds", ())]
    worst, best = bounds or [0.0, 1.0]
    if not comparison.higher_is_better:
        worst, best = best, worst

    def scaled(value: float | None) -> float | None:
        return None if value is None else (value - worst) / (best - worst)

    return replace(
        comparison,
        first=scaled(comparison.first),
        second=scaled(comparison.second),
        difference=None if comparison.difference is None else comparison.difference / (best - worst),
        stderr=None if comparison.stderr is None else comparison.stderr / abs(best - worst),
        higher_is_better=True,
    )


def _check(policy: Policy, line: RuleLine, p_value: float | None, t: Translate) -> GateCheck:
    comparison, alpha = line.comparison, policy.config.alpha
    name = f"ability {line.task}" if line.rule.ability is not None else line.task
    values: tuple[float | None, float | None, tuple[float, float] | None] = line.before, None, None
    if comparison is None:
        passed, reason, steps = False, t("the current run has no such task"), [_rule_text(policy, line, t)]
    else:
        passed, reason = _decide(line, comparison, p_value, alpha, t)
        steps = [_rule_text(policy, line, t), *facts(comparison, t), *_test_text(line, p_value, alpha, t)]
        values = comparison.first, comparison.second, comparison.interval
    return GateCheck(
        name,
        line.metric,
        *values,
        p_value,
        comparison.n if comparison else 0,
        "passed" if passed else "failed",
        reason,
        tier=line.rule.tier,
        against=line.against,
        steps=(*steps, outcome_words(passed, reason, t)),
    )


def _decide(
    line: RuleLine, comparison: Comparison, p_value: float | None, alpha: float, t: Translate
) -> tuple[bool, str]:
    """Whether a line passes, and why."""
    drop, rule = drop_of(comparison), line.rule
    if drop is None:
        return False, t("the runs share no scored sample")
    change, allowed = change_words(comparison), rule.max_drop or 0.0
    chance = "" if p_value is None else p_words(p_value)
    if rule.margin is None and p_value is not None and p_value < alpha:
        return False, t("{change}, more than {drop:g} worse; {chance}", change=change, drop=allowed, chance=chance)
    if comparison.missing and not rule.allow_missing:
        lacking = missing_words(comparison, t)
        return False, t("{change}; {lacking} (allow_missing lets them be)", change=change, lacking=lacking)
    came_out_worse = drop > allowed or rule.margin is not None
    least = rule.min_samples if rule.min_samples is not None else FEWEST if came_out_worse else 0
    if comparison.n < least:
        few = t("{n} samples are the least that says something ({flag})", n=least, flag="min_samples")
        return False, t("; ").join([change, few])
    if rule.margin is not None:
        return _decide_margin(line, comparison, p_value, alpha, change, t)
    if drop <= allowed:
        why = t("; ").join([change, t("a drop of {drop:g} is allowed", drop=allowed)])
    elif chance:
        why = t("{change}, but chance could do that: {chance}", change=change, chance=chance)
    else:
        why = t("{change}, but chance could do that", change=change)
    return True, t("; ").join(filter(None, [why, visible_words(comparison, t)]))


def _decide_margin(
    line: RuleLine, comparison: Comparison, p_value: float | None, alpha: float, change: str, t: Translate
) -> tuple[bool, str]:
    margin, asked = line.rule.margin or 0.0, line.rule.power
    if p_value is None:
        return False, t("; ").join([change, t("no test was possible, and so nothing can be promised")])
    if p_value < alpha:
        return True, t("; ").join([change, t("a drop of {drop:g} is excluded: {p}", drop=margin, p=p_words(p_value))])
    shown = excess_p(comparison, margin)
    if shown is not None and shown < alpha:
        chance = p_words(shown)
        return False, t("{change}, more than {drop:g} worse; {chance}", change=change, drop=margin, chance=chance)
    power = power_of(comparison, margin, alpha)
    if power is not None and power < asked:
        few = t(
            "n is too small to promise this: of two equal models {power:.0%} would pass with a margin of {margin:g}, "
            "{asked:.0%} are asked",
            power=power, margin=margin, asked=asked,
        )  # fmt: skip
        needed = samples_for(comparison, margin, alpha, asked)
        enough = "" if needed is None else t("about {n:,} samples would do", n=needed)
        return False, t("; ").join(filter(None, [change, few, enough]))
    worst = worst_drop(comparison, alpha)
    open_yet = t("a drop of {drop:g} is not excluded: {p}", drop=margin, p=p_words(p_value))
    most = "" if worst is None else t("it may be as much as {worst:.3g}", worst=worst)
    return False, t("; ").join(filter(None, [change, open_yet, most]))


def _rule_text(policy: Policy, line: RuleLine, t: Translate) -> str:
    rule = line.rule
    must = (
        f"margin {rule.margin:g}, power {rule.power:g}"
        if rule.margin is not None
        else f"max_drop {rule.max_drop or 0:g}"
    )
    against = t(", against {run}", run=line.against) if line.against else ""
    place = policy.place(line.number)
    return t("rule {place}: {tier}, {must}{against}", place=place, tier=rule.tier, must=must, against=against)


def _test_text(line: RuleLine, p_value: float | None, alpha: float, t: Translate) -> Iterator[str]:
    """How the p-value came about."""
    own = line.p_value
    if own is None or p_value is None:
        yield t("no test was possible")
    elif line.rule.margin is not None:
        drop = line.rule.margin
        yield t("if the true drop were {drop:g}, one as small as this came up with {p}", drop=drop, p=p_words(own))
        yield t("asked for is p < {alpha:g}, of each such line alone", alpha=alpha)
    else:
        drop = line.rule.max_drop or 0.0
        yield t("if the true drop were {drop:g}, one as large as this came up with {p}", drop=drop, p=p_words(own))
        yield t(
            "{p} after Holm's correction for all lines that count with it; an alarm: < {alpha:g}",
            p=p_words(p_value), alpha=alpha,
        )  # fmt: skip
