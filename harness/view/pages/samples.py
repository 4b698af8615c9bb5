"""The samples of a run: lists with filters, and one with all that is known of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.errors import UsageError
from harness.record.codec import decode_record, jsonable
from harness.record.conversation import ENDS, Call, conversation_in, pieces_of
from harness.record.html import KINDS, golds_of, option_shares
from harness.record.journal import UNREADABLE
from harness.record.prompts import PROMPTS_FILE, SharedPrompts
from harness.types import Media, Prompt, Record
from harness.view.filters import Filters
from harness.view.index import MOST_COUNTED, ORDERS, PAGE, IndexedSample, SampleIndex
from harness.view.media import Picture, name_of, parts_of
from harness.view.notes import NOTE_WORDS, read_notes
from harness.view.pages.asked import place_in
from harness.view.shelf import BeingIndexed, NotShown, Shelf, ShelvedRun


def filters_of(asked: Mapping[str, Any], run: ShelvedRun) -> Filters:
    """The filters that an address names, of samples of a run."""
    kind = asked.get("kind") or ""
    if kind and kind not in KINDS:
        raise NotShown("there is no kind '{kind}' of samples (there are {kinds})", kind=kind, kinds=", ".join(KINDS))
    names = ("task", "subset", "answer", "text")
    ability = next((each for each in run.abilities if each["ability"] == asked.get("ability")), None)
    return Filters(
        **{name: asked.get(name) or "" for name in names},
        kind=kind,
        cut=bool(asked.get("cut")),
        tasks=tuple(ability["tasks"]) if ability else (),
        least=_length(asked.get("least")),
        most=_length(asked.get("most")),
    )


def _length(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 12 else None


def samples(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/run/KEY/samples`. Asked: task, subset, ability, kind, answer, text, cut, least, most,
    order, start."""
    run = shelf.get(asked["run"])
    share = shelf.progress(run)
    filters = filters_of(asked, run)
    order = next((name for name in ORDERS if name == asked.get("order")), "file")
    start = place_in(asked)
    with SampleIndex.snapshot(run.path) as index:
        page = index.page(filters, start, order)
        counts = index.kinds(filters)
        names = index.tasks()
        subsets = sorted(index.columns.totals(filters.task)) if filters.task else []
    task = run.task(filters.task)
    titles = {part["name"]: part["title"] for part in task["subsets"]} if task else {}
    n = counts.get(filters.kind, 0) if filters.kind else sum(counts.values())
    is_searched = bool(filters.text)
    return {
        "run": run,
        "indexing": share,
        "filters": filters,
        "samples": page,
        "kinds": [(kind, counts.get(kind, 0)) for kind in KINDS if counts.get(kind) or kind == filters.kind],
        "n": n,
        "all": sum(counts.values()),
        "is_capped": is_searched and sum(counts.values()) == MOST_COUNTED,
        "tasks": names,
        "abilities": [each["ability"] for each in run.abilities],
        "subsets": [(name, titles.get(name) or name) for name in subsets if name],
        "orders": list(ORDERS),
        "order": order,
        "start": start,
        "previous": max(0, start - PAGE) if start else None,
        "next": start + PAGE if len(page) == PAGE else None,
    }


def sample(shelf: Shelf, asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """The page `/run/KEY/sample/N`. Asked: the filters of the list it was opened from, and `with`, another run."""
    run = shelf.get(asked["run"])
    share = shelf.progress(run)
    with SampleIndex.snapshot(run.path) as index:
        if share is not None and index.sample(asked["n"]) is None:
            raise BeingIndexed(run.key, share)
        found = _asked_sample(run, index, asked)
        before, after = index.neighbours(found.n, filters_of(asked, run))
        record = _record(run, index, found)
    others = [(other, _same(other, shelf, found)) for other in map(shelf.get, asked["all"].get("with", ()))]
    notes = [note for note in read_notes(run.path) if (note["task"], note["subset"], note["id"]) == _key(found)]
    return {
        "run": run,
        "sample": found,
        "sides": [(run, found, _side(record)), *((other, *same) for other, same in others if same)],
        "prompt": list(_turns(record.prompt)),
        "offered": _functions(record.prompt),
        "written": _as_written(record.prompt),
        "ends": ENDS,
        "contexts": [list(_turns(context)) for context in record.contexts],
        "continuation": record.continuation,
        "name_of": name_of,
        "parts_of": parts_of,
        "pictures": {
            each: shelf.media.pictures(run.path, run.manifest, record.key, each)
            for each in _media_of(record)
            if not each.problem
        },
        "doc": json.dumps(jsonable(record.doc), ensure_ascii=False, indent=1),
        "previous": before,
        "next": after,
        "note": notes[-1] if notes else None,
        "note_words": NOTE_WORDS,
    }


def media(shelf: Shelf, asked: Mapping[str, Any]) -> Picture:
    """The image, frame or sound at `/run/KEY/media/N/NAME` (see `name_of`): one that sample N shows. Raises UsageError
    where there is none."""
    run = shelf.get(asked["run"])
    with SampleIndex.snapshot(run.path) as index:
        record = _record(run, index, _asked_sample(run, index, asked))
    shown = {name_of(part): part for each in _media_of(record) for part in parts_of(each)}
    if asked["name"] not in shown:
        raise NotShown("{run}: sample {n} shows no such picture", run=run.key, n=asked["n"])
    picture = shelf.media.picture(run.path, run.manifest, record.key, shown[asked["name"]])
    if not picture.data:
        if picture.problem:
            raise UsageError(picture.problem)
        raise NotShown("the picture is being looked for; load the page again")
    return picture


def _asked_sample(run: ShelvedRun, index: SampleIndex, asked: Mapping[str, Any]) -> IndexedSample:
    found = index.sample(asked["n"])
    if found is None:
        raise NotShown("{run}: there is no sample {n}", run=run.key, n=asked["n"])
    return found


def _media_of(record: Record) -> Iterator[Media]:
    for prompt in (record.prompt, *record.contexts):
        yield from prompt.shown_media


def _key(found: IndexedSample) -> tuple[str, str, int]:
    return found.task, found.subset, found.id


def _record(run: ShelvedRun, index: SampleIndex, found: IndexedSample) -> Record:
    fields = index.line(found.n)
    prompts = SharedPrompts(run.path / PROMPTS_FILE)
    prompts.load(lambda _: None, repair=False)
    try:
        return decode_record(fields, prompts.resolve)
    except UNREADABLE as error:
        raise NotShown("{run}: this sample cannot be read: {why}", run=run.path, why=error) from None


def _same(run: ShelvedRun, shelf: Shelf, sample: IndexedSample) -> tuple[IndexedSample, dict[str, Any]] | None:
    """The same question in another run."""
    shelf.progress(run)
    with SampleIndex.snapshot(run.path) as index:
        found = index.find(*_key(sample), sample.view)
        return (found, _side(_record(run, index, found))) if found else None


def _side(record: Record) -> dict[str, Any]:
    """What one model answered, and what became of it."""
    options = list(_options(record))
    # A conversation is its own answer: it stands above, and is not said again.
    talks = {response.text for response in record.responses if conversation_in(response.text or "")}
    answers = {name: given for name, given in record.answers.items() if not (given and talks.issuperset(given))}
    return {
        "options": options,
        "replies": [] if options and any(option["share"] is not None for option in options) else list(_replies(record)),
        "target": record.target,
        "answers": {name: ["-" if each is None else each for each in given] for name, given in answers.items()},
        "read": [each for given in answers.values() for each in given if each],
        "scores": dict(record.scores),
        "error": record.error,
        "judge": jsonable(record.judge) if record.judge else None,
        "seconds": record.seconds,
    }


def _options(record: Record) -> Iterator[dict[str, Any]]:
    """The options with the share of probability that each has among them."""
    golds = golds_of(record.target)
    shares = option_shares(record.choices, record.logprobs)
    for number, choice in enumerate(record.choices):
        yield {
            "text": choice,
            "gold": number in golds,
            "chosen": bool(shares) and shares[number] == max(shares),
            "logprob": record.logprobs[number] if shares else None,
            "share": shares[number] if shares else None,
            "width": round(100 * shares[number], 1) if shares else None,
        }


def _replies(record: Record) -> Iterator[dict[str, Any]]:
    for response in record.responses:
        text = response.text if response.text is not None else ", ".join(map(str, response.logprobs))
        yield {
            "text": text,
            "talk": conversation_in(text),
            "pieces": pieces_of(text),
            "reasoning": response.reasoning or "",
            "error": response.error,
            "finish_reason": response.finish_reason,
            "tokens": response.completion_tokens,
            "prompt_tokens": response.prompt_tokens,
        }


def _functions(prompt: Prompt) -> list[tuple[str, str]]:
    """(name, JSON) of the functions that a prompt offers to the model; all of it as one, where they have no names."""
    if not prompt.tools:
        return []
    try:
        tools = json.loads(prompt.tools)
        return [(str(each["function"]["name"]), json.dumps(each, ensure_ascii=False, indent=1)) for each in tools]
    except (ValueError, RecursionError, TypeError, KeyError):
        return [("", prompt.tools)]


def _as_written(prompt: Prompt) -> str:
    """The turns in which the page shows calls by themselves, letter for letter; empty where there are none."""
    called = [
        message for message in prompt.messages if message.role == "assistant" and "<tool_call>" in message.outline
    ]
    return "\n\n".join(message.outline for message in called)


def _turns(prompt: Prompt) -> Iterator[dict[str, Any]]:
    """Who speaks and what, and whether other samples share it, which the page folds."""
    for number, message in enumerate(prompt.messages):
        parts: Sequence[str | Media | Call] = (
            (message.content,) if isinstance(message.content, str) else message.content
        )
        if message.role == "assistant":
            parts = [piece for part in parts for piece in (pieces_of(part) if isinstance(part, str) else (part,))]
        yield {"who": message.role, "parts": parts, "shared": number < prompt.shared_messages}
    if prompt.prefill:
        yield {"who": "prefill", "parts": [prompt.prefill], "shared": False}
    if not prompt.is_chat:
        if prompt.prefix:
            yield {"who": "shared prompt", "parts": [prompt.prefix], "shared": True}
        yield {"who": "prompt", "parts": [*prompt.media, prompt.suffix], "shared": False}
