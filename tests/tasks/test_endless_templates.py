"""A template that never ends, or makes a value without end, is one line within seconds; others are as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import TaskError
from harness.tasks import template_limits
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
    monkeypatch.setattr(template_limits, "MAX_STEPS", 10_000)
    with pytest.raises(TaskError, match=r"x\.yaml:3: doc_to_text: its loops and macros take more than 10,000 steps"):
        rendered(source, xs=list(range(100)))


@pytest.mark.parametrize("source", ["{{ 'a' * 10000000000 }}", "{{ n * [0] }}", "{{ 9 ** n }}", "{{ x * n }}"])
def test_products_are_looked_at_before_they_are_made(source: str) -> None:
    with pytest.raises(TaskError, match=r"makes a value of more than 10,000,000 characters"):
        rendered(source, n=10**9, x="ab")


@pytest.mark.parametrize(
    "source",
    [
        "{{ x.center(n) }}",
        "{{ x | center(n) }}",
        "{{ x | center(width=n) }}",
        "{{ x.ljust(n) }}",
        "{{ x.zfill(n) }}",
        "{{ 'a\tb'.expandtabs(n) }}",
        "{{ ('\t' * 5000).expandtabs(5000) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%0*d' % (n, 1) }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ '{:{}}'.format(1, n) }}",
        "{{ '{w:{n}}'.format_map({'w': 1, 'n': n}) }}",
        "{{ x | indent(n) }}",
        "{{ [1] | batch(n, 0) | list }}",
        "{{ [1] | slice(n) | list }}",
        "{{ {'a': 1} | tojson(n) }}",
        "{{ 1.5 | round(n, 'ceil') }}",
        "{{ ('a' * 9999).replace('', 'b' * 9999) }}",
        "{{ ('a' * 9999) | replace('a', 'b' * 9999) }}",
        "{{ ('b' * 9999).join(['a'] * 9999) }}",
        "{{ (['a'] * 9999) | join('b' * 9999) }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x %}{{ n.x }}{{ n.x }}{% endset %}{% endfor %}",
        "{% for i in range(99999) %}{{ 'a' * 9999 }}{{ i }}{% endfor %}",
        "{% macro f(n) %}{{ 'a' * 999999 }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
)
def test_a_value_without_end_is_not_made(source: str) -> None:
    with pytest.raises(TaskError, match=r"x\.yaml:3: doc_to_text: .* makes a value of more than 10,000,000 characters"):
        rendered(source, n=10**9, x="ab")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ 'a' ~ 1 ~ xs ~ none }}", "a1[1, 2]None"),
        ("{{ 'ab' | center(6) }}|{{ 'ab'.ljust(4) }}|{{ 'a\tb'.expandtabs(4) }}", "  ab  |ab  |a   b"),
        (
            "{{ '%03d' % 7 }} {{ '%s-%s' | format('a', 2) }} {{ '{:>4}'.format(7) }} {{ '100%' + '!' }}",
            "007 a-2    7 100%!",
        ),
        ("{{ 'a-b'.replace('-', '+') }} {{ 'a-b' | replace('-', '') }}", "a+b ab"),
        (
            "{{ ','.join(['a', 'b']) }} {{ xs|join(' ') }} {{ xs|join }} {{ [{'k': 1}] | join('', attribute='k') }}",
            "a,b 1 2 12 1",
        ),
        (
            "{{ xs | tojson }} {{ 2.345 | round(1) }} {{ xs | batch(1) | list }} {{ 'a\nb' | indent(2) }}",
            "[1, 2] 2.3 [[1], [2]] a\n  b",
        ),
        ("{{ 12345678901 | string | length }} {{ missing | default(99999999999) }}", "11 99999999999"),
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
