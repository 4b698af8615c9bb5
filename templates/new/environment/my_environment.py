"""A lending library: what the environment of my_environment looks like."""

from __future__ import annotations

from typing import Any, Literal

State = dict[str, Any]
POLICY = "You are the librarian. A reader may hold two books at most. Lend and take back books with the functions."


def state(row: dict[str, Any]) -> State:
    return {"books": dict(row["books"]), "notes": []}


def find(state: State, title: str) -> str:
    """Says who holds a book."""
    holder = state["books"][title]
    return f"{title}: {holder or 'on the shelf'}"


def lend(state: State, title: str, reader: str, weeks: int = 2) -> dict[str, Any]:
    """Lends a book that is on the shelf."""
    if state["books"][title]:
        raise ValueError(f"{title} is lent to {state['books'][title]}")
    if list(state["books"].values()).count(reader) >= 2:
        return {"refused": "two books at most"}
    state["books"][title] = reader
    return {"lent": title, "weeks": weeks}


def take_back(state: State, titles: list[str], condition: Literal["good", "bad"] = "good") -> str:
    """Takes books back."""
    for title in titles:
        state["books"][title] = None
    state["notes"] += [condition] if condition == "bad" else []
    return "thank you"


def call_the_head(state: State) -> str:
    """Hands the reader over to the head librarian."""
    return "on her way"


TOOLS = [find, lend, take_back, call_the_head]
