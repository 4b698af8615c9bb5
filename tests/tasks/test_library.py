"""Names, variants, subsets, groups, tags, patterns and files; and an index that parses only what changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from task_files import CHOICE, REPLY, library, load, write

from harness import TaskError, UsageError
from harness.tasks.library import TaskLibrary
from harness.tasks.schema import json_schema
from harness.tasks.yaml_file import load_document

SUBSETS = """\
subsets:
  law: {title: 法学, group: Humanities}
  tax_law: {title: 税法, group: Other}
  physics: {title: 物理, group: STEM}
variants:
  short: {description: "", metadata: {note: b}}
  other: {doc_to_choice: ['no', 'yes']}
metadata: {version: 1, note: a}
"""


@pytest.fixture
def books(tmp_path: Path) -> TaskLibrary:
    write(tmp_path, "talk.yaml", REPLY + "tag: [chatty, small]\n")
    write(tmp_path, "talk2.yaml", REPLY.replace("talk", "talk_two") + "tag: chatty\n")
    write(tmp_path, "all.yaml", "group: everything\ntask: [exam, {group: inner, task: [chatty]}]\n")
    names = "aliases: {Grand-Exam: exam:short, 期末: exam/law}\nability: knowledge\nlanguage: zh\n"
    write(tmp_path, "exam.yaml", CHOICE.replace("Subject.", "{{ subset.title }}") + SUBSETS + names)
    write(tmp_path, "names.yaml", "absent:\n  Quizzy: no benchmark has this name; exam comes nearest\n")
    write(tmp_path, "few.yaml", "group: few\ntask: [{task: talk, num_fewshot: 0, repeats: 2}]\n")
    return library(tmp_path)


def names(books: TaskLibrary, *expressions: str) -> list[tuple[str, tuple[str, ...] | None]]:
    return [(ref.full_name, ref.subsets) for ref in books.select(expressions)]


@pytest.mark.parametrize(
    ("expressions", "found"),
    [
        (["exam"], [("exam", None)]),
        (["pack/exam"], [("exam", None)]),
        (["exam:short"], [("exam:short", None)]),
        (["exam/law"], [("exam", ("law",))]),
        (["pack/exam:short/law"], [("exam:short", ("law",))]),
        (["exam/*law*"], [("exam", ("law", "tax_law"))]),
        (["exam/STEM", "exam/law"], [("exam", ("law", "physics"))]),
        (["exam/law", "exam"], [("exam", None)]),
        (["talk*"], [("talk", None), ("talk_two", None)]),
        (["chatty"], [("talk", None), ("talk_two", None)]),
        (["EXAM", "exam:other"], [("exam", None), ("exam:other", None)]),
        (["exam/法学"], [("exam", ("law",))]),
        (["exam/Tax-Law"], [("exam", ("tax_law",))]),
        (["exam_tax_law"], [("exam", ("tax_law",))]),
        (["grand exam"], [("exam:short", None)]),
        (["期末"], [("exam", ("law",))]),
        (["tag:small"], [("talk", None)]),
        (["tag:chat*"], [("talk", None), ("talk_two", None)]),
        (["ability:subject_knowledge"], [("exam", None)]),
        (["language:zh"], [("exam", None)]),
        (["everything"], [("exam", None), ("talk", None), ("talk_two", None)]),
    ],
)
def test_what_an_expression_stands_for(
    books: TaskLibrary, expressions: list[str], found: list[tuple[str, tuple[str, ...] | None]]
) -> None:
    assert names(books, *expressions) == found


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("quizzy", r"'quizzy': no benchmark has this name; exam comes nearest"),
        ("list", r"`harness tasks` lists the tasks"),
        ("ability:knowledgee", r"no task has ability 'knowledgee'; did you mean 'knowledge'\?"),
        ("exma", r"unknown task 'exma'; did you mean 'exam'\?"),
        ("exam/lwa", r"no subset 'lwa'; did you mean 'law'\?"),
        ("talk/law", r"no subset 'law'.*it has none"),
        ("zzz*", r"no task fits 'zzz\*'"),
        ("", "an empty name"),
        ("everything:short", "is a group"),
    ],
)
def test_what_stands_for_nothing_is_said_with_the_near_name(books: TaskLibrary, expression: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        books.select([expression])


def test_an_unknown_variant_names_those_that_are_there(books: TaskLibrary) -> None:
    (ref,) = books.select(["exam:shrot"])
    with pytest.raises(UsageError, match=r"no variant 'shrot'; did you mean 'short'\? \(it has: short, other\)"):
        books.load(ref)


def test_a_variant_replaces_keys_and_merges_metadata(books: TaskLibrary) -> None:
    (ref,) = books.select(["exam:short"])
    task = books.load(ref)
    assert (task.name, task.base_name, task.config.description) == ("exam:short", "exam", "")
    assert task.config.metadata == {"version": 1, "note": "b"}


def test_overrides_reach_into_mappings_and_change_the_digest(books: TaskLibrary) -> None:
    (ref,) = books.select(["exam"])
    plain, changed = books.load(ref), books.load(ref, {"num_fewshot": 3, "metadata.note": "c"})
    assert (changed.config.num_fewshot, changed.config.metadata) == (3, {"version": 1, "note": "c"})
    assert plain.digest != changed.digest
    assert books.load(ref, {"title": "Another title"}).digest == plain.digest


def test_a_group_gives_its_members_its_own_keys(books: TaskLibrary) -> None:
    (ref,) = books.select(["few"])
    assert books.load(ref).config.repeats == 2


def test_a_group_that_holds_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "group: a\ntask: [b]\n")
    write(tmp_path, "b.yaml", "group: b\ntask: [a]\n")
    with pytest.raises(UsageError, match="contains itself"):
        library(tmp_path).select(["a"])


def test_two_files_of_one_name_are_named_when_the_name_is_asked_for(books: TaskLibrary, tmp_path: Path) -> None:
    write(tmp_path / "more", "copy.yaml", REPLY)
    again = library(tmp_path, include_paths=[])
    assert len(again.entries()) == 4
    with pytest.raises(UsageError, match=r"'talk' is defined more than once: name the file instead, .*copy.yaml"):
        again.select(["talk"])
    assert names(again, str(tmp_path / "more" / "copy.yaml")) == [("talk", None)]


def test_two_packages_of_one_task_are_told_apart(tmp_path: Path) -> None:
    for package in ("one", "two"):
        write(tmp_path / package, "talk.yaml", REPLY)
    books = TaskLibrary([("one", tmp_path / "one"), ("two", tmp_path / "two")], [], cache_dir=tmp_path / "cache")
    with pytest.raises(UsageError, match="say which, one/talk and two/talk"):
        books.select(["talk"])
    (ref,) = books.select(["two/talk"])
    assert ref.package == "two"


def test_a_folder_of_ones_own_can_be_included(tmp_path: Path) -> None:
    write(tmp_path / "mine", "talk.yaml", REPLY)
    books = TaskLibrary([], [], include_paths=[tmp_path / "mine"], cache_dir=tmp_path / "cache")
    assert names(books, "talk") == [("talk", None)]


def test_a_folder_that_is_included_twice_holds_each_task_once(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    write(folder / "chat", "talk.yaml", REPLY)
    write(folder, "exam.yaml", CHOICE)
    for included in ([folder], [folder / "chat"], [folder / "chat", folder / "chat"], [folder / "chat", tmp_path]):
        books = TaskLibrary([("pack", folder)], [], include_paths=included, cache_dir=tmp_path / "cache")
        assert [entry.name for entry in books.entries()] == ["talk", "exam"]
        assert names(books, "talk") == [("talk", None)]


def test_a_file_may_be_asked_for_with_variant_and_subset(books: TaskLibrary, tmp_path: Path) -> None:
    file = write(tmp_path, "exam.yaml", (tmp_path / "exam.yaml").read_text(encoding="utf-8"))
    assert names(books, f"{file}:short/*law*") == [("exam:short", ("law", "tax_law"))]
    with pytest.raises(UsageError, match="has no subset 'low'; did you mean 'law'"):
        books.select([f"{file}/low"])


def test_a_folder_called_like_a_task_hides_no_task(
    books: TaskLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "elsewhere/exam/mine.yaml", REPLY.replace("talk", "mine"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert names(books, "exam") == [("exam", None)]


def test_a_folder_of_task_files_may_be_asked_for(tmp_path: Path) -> None:
    write(tmp_path, "loose/mine.yaml", REPLY.replace("talk", "mine"))
    assert names(TaskLibrary([], [], cache_dir=tmp_path / "cache"), str(tmp_path / "loose")) == [("mine", None)]


def test_a_file_that_cannot_be_read_hides_no_other(books: TaskLibrary, tmp_path: Path) -> None:
    write(tmp_path, "broken.yaml", "task: [")
    again = library(tmp_path)
    assert names(again, "talk") == [("talk", None)]
    assert "broken.yaml:" in again.broken[0].error
    with pytest.raises(UsageError, match=r"a file that cannot be read: .*broken.yaml:"):
        again.select(["brokn"])


def test_the_index_is_read_anew_only_where_a_file_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(300):
        write(tmp_path, f"t{number}.yaml", REPLY.replace("talk", f"talk{number}"))
    assert len(library(tmp_path).entries()) == 300
    read: list[str] = []
    from harness.tasks import index

    original = index.load_document
    monkeypatch.setattr(index, "load_document", lambda path: read.append(path.name) or original(path))
    assert len(library(tmp_path).entries()) == 300
    assert read == []
    path = write(tmp_path, "t7.yaml", REPLY.replace("talk", "renamed"))
    os.utime(path, ns=(1, 1))
    assert "renamed" in [entry.name for entry in library(tmp_path).entries()]
    assert read == ["t7.yaml"]
    # A checkout leaves the same text with another time: it is read once more, and then it is known.
    os.utime(path, ns=(2, 2))
    for _ in range(3):
        assert len(library(tmp_path).entries()) == 300
    assert read == ["t7.yaml", "t7.yaml"]


def test_a_changed_include_counts_as_a_change(tmp_path: Path) -> None:
    base = write(tmp_path, "base", "title: first\n")
    write(tmp_path, "talk.yaml", REPLY + "include: base\n")
    assert library(tmp_path).entries()[0].title == "first"
    base.write_text("title: second one\n", encoding="utf-8")
    assert library(tmp_path).entries()[0].title == "second one"


def test_a_file_that_lacked_its_include_is_read_once_that_is_there(tmp_path: Path) -> None:
    write(tmp_path, "talk.yaml", REPLY + "include: base\n")
    assert [entry.name for entry in library(tmp_path).broken] == ["talk"]
    write(tmp_path, "base", "title: late\n")
    assert [entry.title for entry in library(tmp_path).entries()] == ["late"]


@pytest.mark.parametrize("content", ["", "not json", '{"version": 0}', "[]"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, content: str) -> None:
    write(tmp_path, "talk.yaml", REPLY)
    library(tmp_path).entries()
    (cache,) = (tmp_path / "cache").glob("*.json")
    cache.write_text(content, encoding="utf-8")
    assert [entry.name for entry in library(tmp_path).entries()] == ["talk"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    write(tmp_path, "talk.yaml", REPLY)
    (tmp_path / "cache").write_text("a file, not a folder", encoding="utf-8")
    assert [entry.name for entry in library(tmp_path).entries()] == ["talk"]


def test_the_schema_for_editors_knows_every_key_and_no_other() -> None:
    definition = json_schema()["$defs"]["TaskConfig"]
    assert {"task", "doc_to_text", "subsets", "variants", "example"} <= set(definition["properties"])
    assert definition["additionalProperties"] is False


def test_a_template_may_be_shared(tmp_path: Path) -> None:
    write(tmp_path / "shared", "question.jinja", "Q: {{ q }}")
    path = write(tmp_path, "talk.yaml", REPLY.replace('"{{q}}"', "\"{% include 'question.jinja' %}\""))
    books = TaskLibrary([("pack", tmp_path)], [("pack", tmp_path / "shared")], cache_dir=tmp_path / "cache")
    (ref,) = books.select(["talk"])
    first = books.load(ref)
    assert [file.name for file in first.files] == ["talk.yaml", "question.jinja"]
    write(tmp_path / "shared", "question.jinja", "Question: {{ q }}")
    assert books.load(ref).digest != first.digest
    path.write_text(path.read_text(encoding="utf-8").replace("question.jinja", "absent.jinja"), encoding="utf-8")
    with pytest.raises(TaskError, match=r"talk.yaml:4: .*absent.jinja"):
        books.load(ref)


def test_nothing_dangerous_can_be_reached_from_a_template(tmp_path: Path) -> None:
    from task_files import build

    task = load(tmp_path, REPLY.replace("{{q}}", "{{ q.__class__.__mro__ }}"))
    with pytest.raises(Exception, match=r"doc_to_text") as refused:
        build(task, [{"q": "1", "a": "2"}])
    assert "class 'object'" not in str(refused.value)


def test_includes_and_groups_without_end_are_one_clear_line_within_seconds(tmp_path: Path) -> None:
    chain, diamond, groups = tmp_path / "chain", tmp_path / "diamond", tmp_path / "groups"
    for folder in (chain, diamond, groups):
        folder.mkdir()
    for number in range(200):
        (chain / f"{number}.yaml").write_text(f"include: {number + 1}.yaml\n", encoding="utf-8")
    write(chain, "200.yaml", REPLY)
    with pytest.raises(TaskError, match="files include one another more than 50 deep"):
        load_document(chain / "0.yaml")
    for number in range(25):
        names = f"[{number + 1}.yaml, {number + 1}.yaml]"
        (diamond / f"{number}.yaml").write_text(f"include: {names}\n", encoding="utf-8")
    for number in range(15):  # 32,768 ways
        (groups / f"{number}.yaml").write_text(f"group: g{number}\ntask: [g{number + 1}, g{number + 1}]\n", "utf-8")
    write(diamond, "25.yaml", REPLY)
    assert load_document(diamond / "0.yaml").data["task"] == "talk"  # each file is read once
    (groups / "15.yaml").write_text("group: g15\ntask: talk\n", encoding="utf-8")
    write(groups, "talk.yaml", REPLY)
    with pytest.raises(UsageError, match="g0: names more than 20,000 tasks"):
        library(groups).select(["g0"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="runs where there are named pipes")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(TaskError, match="is no file that can be read"):
        load_document(tmp_path / "pipe.yaml")
