"""Frozen dataclasses that are made quickly are frozen dataclasses like others."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Mapping

import pytest

from harness.quick import dataclass


@dataclass(frozen=True, slots=True)
class Point:
    x: float
    y: float = 0.0
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Named(Point):
    name: str = ""


@dataclass(frozen=True, slots=True)
class Labelled:
    name: object
    label: str = dataclasses.field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Celsius:
    degrees: float

    def __post_init__(self) -> None:
        if self.degrees < -273.15:
            raise ValueError("below absolute zero")

    def __repr__(self) -> str:
        return f"{self.degrees} C"


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


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


def test_a_class_says_of_itself_what_it_would_say_without() -> None:
    plain = dataclasses.make_dataclass("Point", [("x", float), ("y", float, 0.0)], frozen=True, slots=True)
    assert vars(Point)["__dataclass_params__"].__repr__() == vars(plain)["__dataclass_params__"].__repr__()
    assert [field.name for field in dataclasses.fields(Point)] == ["x", "y", "notes"]
    assert dataclasses.asdict(Point(1.0)) == {"x": 1.0, "y": 0.0, "notes": {}}
    assert Point.__match_args__ == ("x", "y", "notes")
    assert inspect.get_annotations(Point.__init__) == {
        "x": "float",
        "y": "float",
        "notes": "Mapping[str, str]",
        "return": None,
    }


def test_what_does_not_count_is_neither_compared_nor_shown() -> None:
    first, second = Labelled("a", "x"), Labelled("a", "y")
    assert first == second and hash(first) == hash(second) and len({first, second, Labelled("b", "x")}) == 2
    assert repr(first) == "Labelled(name='a')" and first != "a"
    nan = float("nan")
    assert Labelled(nan) == Labelled(nan) and Labelled(nan) != Labelled(float("nan"))  # as tuples are compared


def test_the_methods_of_a_class_are_its_own() -> None:
    celsius = Celsius(20)
    assert repr(celsius) == "20 C" and celsius == Celsius(20) and hash(celsius) == hash(Celsius(20))
    with pytest.raises(ValueError, match="below"):
        Celsius(-300)


def test_a_value_without_fields_equals_others_of_its_class() -> None:
    assert Nothing() == Nothing() and hash(Nothing()) == hash(Nothing()) and repr(Nothing()) == "Nothing()"


def test_a_plain_subclass_may_add_what_it_likes() -> None:
    class Marked(Labelled):
        pass

    marked = Marked("a")
    marked.mark = 1  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        marked.name = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del marked.name
    assert marked.mark == 1 and marked != Labelled("a")  # type: ignore[attr-defined]


def test_with_other_options_a_class_is_as_ever() -> None:
    @dataclass(slots=True)
    class Loose:
        x: int

    loose = Loose(1)
    loose.x = 2
    assert loose == Loose(2) and Loose.__hash__ is None


def test_a_field_that_is_no_plain_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="Hidden: a field that is no plain argument"):

        @dataclass(frozen=True, slots=True)
        class Hidden:
            x: int = dataclasses.field(default=1, init=False)
