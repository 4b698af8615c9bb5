"""A conversation is read as one in every page: who says what, which function is called with what, and how it ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from viewer_runs import SCRIPT, write_run, write_task

from harness.record.conversation import Call, conversation_in, last_words, pieces_of
from harness.view.app import make_app
from harness.view.export import export_pages
from harness.words import LANGUAGES, translator

HOST = "127.0.0.1:8000"
CALL = '<tool_call>{"name": "lend", "arguments": {"title": "红楼梦"}}</tool_call>'
TALK = {
    "end": "user",
    "turns": [
        {"role": "user", "content": "红楼梦，谢谢"},
        {
            "role": "assistant",
            "content": f"Yes.{CALL}{CALL}",
            "call": {"name": "lend", "arguments": {"title": "红楼梦"}},
        },
        {"role": "tool", "content": '{"lent": "' + "x" * 400 + '"}'},
        {"role": "assistant", "content": f"**Done** {SCRIPT} 😀"},
    ],
}


def test_a_conversation_is_shown_as_one_and_is_inert(tmp_path: Path) -> None:
    task = write_task(tmp_path, questions=["hello", "again"])
    run = write_run(
        task, [json.dumps(TALK, ensure_ascii=False), "<tool_call>{oops</tool_call>"], tmp_path / "runs", "a"
    )
    report = (run / "report.html").read_text("utf-8")
    assert "→ lend" in report and "[assistant]" in report and '"role"' not in report
    with TestClient(make_app([run], "t", [HOST]), base_url=f"http://{HOST}") as client:
        client.get("/?token=t")
        for language in LANGUAGES:
            t = translator(language)
            page = client.get(f"/run/{run.name}/sample/1", params={"lang": language}).text
            shown = page.partition(t("as it was written"))[0]
            assert '"role"' not in shown and "<script>alert" not in page
            assert shown.count("<code>lend</code>") == 2 and shown.count(t("not run: one call at a time")) == 1
            assert all(t(who) in shown for who in ("user", "assistant", "tool")) and t("the user ended it") in shown
            assert "<strong>Done</strong>" in shown and '<details class="returned">' in shown
            unread = client.get(f"/run/{run.name}/sample/2", params={"lang": language}).text
            assert t("a call that cannot be read") in unread and "{oops" in unread
        listed = client.get(f"/run/{run.name}/samples").text
        assert "红楼梦，谢谢" in listed and "turns" not in listed
        assert client.get(f"/run/{run.name}/samples?text=done").text.count('<li class="sample">') == 1
        assert client.get(f"/run/{run.name}/samples?text=role").text.count('<li class="sample">') == 0
    export_pages([run], tmp_path / "site")
    pages = [path.read_text("utf-8") for path in (tmp_path / "site").glob("*sample-1*.html")]
    assert any("<code>lend</code>" in page for page in pages)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        '{"end": "user"}',
        '{"end":',
        '{"end": 1, "turns": []}',
        '{"end": "user", "turns": [1]}',
        '{"end":' * 5000,
    ],
)
def test_what_is_no_conversation_stays_what_it_is(text: str) -> None:
    assert conversation_in(text) is None and last_words(text) == text


def test_calls_are_taken_out_of_what_is_said() -> None:
    assert last_words(json.dumps(TALK)) == f"**Done** {SCRIPT} 😀"
    said, call, after = pieces_of(f"I look. {CALL} So.")
    assert (said, after) == ("I look.", "So.")
    assert isinstance(call, Call) and (call.name, json.loads(call.arguments)) == ("lend", {"title": "红楼梦"})
    assert pieces_of("  kept as it is\n") == ("  kept as it is\n",)
    assert pieces_of("<tool_call>[1, 2]</tool_call>") == (Call("", "[1, 2]"),)
