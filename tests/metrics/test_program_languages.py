"""Programs of other languages: run in the sandbox with their tests, refused before the run where nothing runs them."""

from __future__ import annotations

import pytest

from harness import MachineError, MetricOptions, Observation, Response, Sample, UsageError
from harness.scoring import sandbox
from harness_plugins.filters.code import UntilClosed
from harness_plugins.metrics import program_languages
from harness_plugins.metrics.program_languages import LANGUAGES, Language, ProgramPasses

TESTED = "{{reply}}\n{{test}}"


def metric(language, program=TESTED, **options):
    made = ProgramPasses(language, program, **options)
    try:
        made.prepare(MetricOptions())
    except UsageError as error:
        pytest.skip(str(error))
    return made


def score(made, row, *replies):
    responses = tuple(Response(text=reply or "") for reply in replies)
    return made.score(Observation(Sample("t", "", 0, row, (), None), responses, (), replies))


def test_the_share_of_replies_that_end_well():
    row = {"test": "die 'wrong' unless twice(2) == 4;"}
    replies = ["sub twice { 2 * $_[0] }", "sub twice { $_[0] ** 3 }", "sub twice {", None]
    assert score(metric("perl"), row, *replies) == 0.25


def test_time_and_what_is_printed_can_fail_a_program():
    row = {"test": "console.assert(twice(2) === 4)"}
    right = "const twice = (n) => 2 * n"
    assert score(metric("javascript", silent=True), row, right) == 1
    assert score(metric("javascript", silent=True), row, f"{right}\nconsole.log(1)") == 0
    assert score(metric("javascript", silent=True), row, "const twice = (n) => n") == 0
    assert score(metric("javascript", timeout=1), row, "while (true) {}") == 0


def test_a_row_that_its_own_reference_does_not_pass_is_an_error():
    row = {"test": "require Not::Installed;", "solution": "```perl\nsub twice { 2 * $_[0] }\n```"}
    made = metric("perl", reference="{{solution}}")
    with pytest.raises(ValueError, match="its reference solution does not pass here"):
        score(made, row, "sub twice { 0 }")
    row["test"] = "exit(twice(1) != 2);"
    assert score(made, row, "sub twice { 0 }", "sub twice { $_[0] + $_[0] }") == 0.5


def test_a_row_may_bring_files_of_its_own():
    row = {"test": {"code": "assert open('data/n.txt').read() == 'abc'", "asset": '{"data/n.txt": "YWJj"}'}}
    assets = "{{ test.asset | parsed | tojson }}"
    made = metric("python", "{{ reply }}\n{{ test.code }}", assets=assets)
    assert score(made, row, "x = 1", "import os; os.remove('data/n.txt')") == 0.5


def test_a_language_that_cannot_be_run_is_refused_with_its_remedy(monkeypatch):
    try:
        sandbox.usable()
    except UsageError as error:
        pytest.skip(str(error))
    cobol = Language("program.cob", (("cobol-that-is-not-there", "program.cob"),), "install COBOL")
    monkeypatch.setattr(program_languages, "LANGUAGES", {**LANGUAGES, "cobol": cobol})
    with pytest.raises(MachineError, match=r"cobol.*has no cobol-that-is-not-there; install COBOL"):
        ProgramPasses("cobol", TESTED).prepare(MetricOptions())
    with pytest.raises(ValueError, match="language is 'c#'; it can be cpp, cpp17, java, javascript"):
        ProgramPasses("c#", TESTED)


@pytest.mark.parametrize(
    ("reply", "cut"),
    [
        ("  return 1;\n}\nint main() {}", "  return 1;\n}"),
        ("  if (a) { b; }\n  return 1; }}", "  if (a) { b; }\n  return 1; }"),
        ("  if (a) { b; }\n  return", "  if (a) { b; }"),
        ("  return 1;", "  return 1;"),
    ],
)
def test_a_completion_ends_with_the_brace_that_closes_it(reply, cut):
    assert UntilClosed().apply([reply, None], Sample("t", "", 0, {}, (), None)) == [cut, None]


def test_what_closes_the_class_comes_behind_a_method_that_is_closed():
    sample = Sample("t", "", 0, {}, (), None)
    assert UntilClosed(suffix="\n}").apply([" x; }\n}", " x; {}"], sample) == [" x; }\n}", " x; {}"]
