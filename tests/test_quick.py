"""Frozen dataclasses that are made quickly are frozen dataclasses like others."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Mapping

import pytest

from harness.quick import quick


@quick
@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float = 0.0
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Named(Point):
    name: str = ""


def test_a_value_is_as_it_would_be_without() -> None:
    point = Point(1.0, notes={"a": "b"})
    assert (point.x, point.y, point.notes) == (1.0, 0.0, {"a": "b"})
    assert type(point) is Point and repr(point) == "Point(x=1.0, y=0.0, notes={'a': 'b'})"
    assert point == Point(1.0, 0.0, {"a": "b"}) != Point(2.0)
    assert Point(1.0).notes == {} and Point(1.0).notes is not Point(1.0).notes
    assert list(inspect.signature(Point).parameters) == ["x", "y", "notes"]


def test_it_is_frozen_and_can_be_copied() -> None:
    point = Point(1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 2.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(point)) == copy.deepcopy(point) == point
    assert dataclasses.replace(point, y=3.0) == Point(1.0, 3.0)
    with pytest.raises(TypeError, match="x"):
        Point()  # type: ignore[call-arg]


def test_a_subclass_has_its_own_fields() -> None:
    named = Named(1.0, name="here")
    assert (named.x, named.y, named.name) == (1.0, 0.0, "here") and type(named) is Named
    with pytest.raises(dataclasses.FrozenInstanceError):
        named.name = "there"  # type: ignore[misc]


def test_other_classes_are_refused() -> None:
    with pytest.raises(TypeError, match="Loose: is no frozen dataclass"):

        @quick
        @dataclasses.dataclass(frozen=True)
        class Loose:
            x: int
