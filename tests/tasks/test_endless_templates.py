"""A template that never ends, or makes a value without end, is one line within seconds; others are as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import TaskError
from harness.tasks import templates
from harness.tasks.templates import Templates
from harness.tasks.yaml_file import FileLine


def rendered(source: str, **row: Any) -> str:
    return Templates(Path("/nowhere"), ()).compile(source, "doc_to_text", FileLine(Path("x.yaml"), 3)).text(row)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(999) %}{% for b in range(999) %}{% endfor %}{% endfor %}",
        "{% for a in xs %}{% for b in xs %}{% for c in xs %}{{ c }}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_loops_and_macros_have_a_limit_that_names_itself(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(templates, "MAX_STEPS", 10_000)
    with pytest.raises(TaskError, match=r"x\.yaml:3: doc_to_text: its loops and macros take more than 10,000 steps"):
        rendered(source, xs=list(range(100)))


@pytest.mark.parametrize("source", ["{{ 'a' * 10000000000 }}", "{{ n * [0] }}", "{{ 9 ** n }}", "{{ x * n }}"])
def test_products_are_looked_at_before_they_are_made(source: str) -> None:
    with pytest.raises(TaskError, match=r"makes a value of more than 10,000,000 characters"):
        rendered(source, n=10**9, x="ab")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (
            "{% for a in xs %}{{ loop.index }}/{{ loop.length }}{% if not loop.last %},{% endif %}{% endfor %}",
            "1/2,2/2",
        ),
        ("{% for a in xs[2:] %}{{ a }}{% else %}none{% endfor %}", "none"),
        ("{% for a in xs if a > 1 %}{{ a }}{% endfor %}", "2"),
        ("{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"),
        ("{% for a in xs recursive %}{{ a }}{{ loop([7]) if a == 1 }}{% endfor %}", "172"),
        ("{% macro f(n) %}{{ n }}!{% endmacro %}{{ f(6) }}", "6!"),
        ("{{ 2 ** 10 }} {{ 'ab' * 2 }} {{ 1.5 * 2 }}", "1024 abab 3.0"),
    ],
)
def test_what_ends_is_as_before(source: str, text: str) -> None:
    assert rendered(source, xs=[1, 2]) == text
