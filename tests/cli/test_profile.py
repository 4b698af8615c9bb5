"""`harness profile`: the phases of a run add up to its time, over all of its commands."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted_server import Asked, Reply, ScriptedServer, chat
from sums_task import write_sums

from harness.stopwatch import PHASES, Stopwatch
from harness.testing import run_harness
from harness.words import translator


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_sums(5)
    return tmp_path


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


def the_run() -> str:
    (found,) = Path("runs").iterdir()
    return str(found)


def test_the_phases_add_up_over_all_commands(server: ScriptedServer) -> None:
    def late(asked: Asked) -> Reply:
        threading.Event().wait(0.03)
        return chat("4")

    server.answer = late
    args = f"model=small,base_url={server.url},api=chat,num_concurrent=1"
    flags = ("--tasks", "sums.yaml", "--model", "openai", "--model_args", args)
    run_harness(*flags, "--limit", "2")
    once = json.loads(run_harness("profile", the_run(), "--json").stdout)
    run_harness(*flags)
    run_harness(*flags)  # asks nothing, and so keeps nothing
    both = json.loads(run_harness("profile", the_run(), "--json").stdout)
    assert (once["commands"], once["samples"]) == (1, 2)
    assert (both["commands"], both["unknown"], both["samples"]) == (2, 0, 5)
    assert once["phases"]["waiting"] >= 0.06
    assert both["phases"]["waiting"] >= 0.15
    assert sum(both["phases"].values()) == pytest.approx(both["seconds"])
    assert {"tasks", "rows", "prompts", "prepare", "known", "load", "waiting", "scores", "records", "report"} <= set(
        both["phases"]
    )
    table = run_harness("profile", the_run(), "--lang", "zh").stdout
    assert "等待服务器的回答" in table
    assert "共 2 条命令" in table


def test_a_dry_run_foresees_tokens_money_and_the_pace_of_an_earlier_run(server: ScriptedServer) -> None:
    args = f"model=small,base_url={server.url},api=chat,max_gen_toks=100"
    flags = ("--tasks", "sums.yaml", "--model", "openai", "--model_args", args, "--prices", "in=1000,out=2000")
    before = run_harness(*flags, "--dry_run").stdout
    # 5 prompts of 6 characters, a quarter of a token each
    assert "5 requests, 10 tokens of prompts (estimated from their characters), up to 500 of answers" in before
    assert "cost by these prices: 0.01 for the prompts, 1.01 at most with answers" in before
    assert "no earlier run of this model in runs tells how long it takes" in before
    assert not server.asked
    half = run_harness(*flags, "--batch_api", "--dry_run").stdout
    assert "cost by these prices: 0.005 for the prompts, 0.505 at most with answers" in half
    unbounded = run_harness(*(flag.removesuffix(",max_gen_toks=100") for flag in flags), "--dry_run").stdout
    assert "no limit on tokens of answers" in unbounded
    assert "cost by these prices: 0.01 for the prompts, and answers have no limit" in unbounded
    run_harness(*flags, "--limit", "2")
    after = run_harness(*flags, "--dry_run").stdout
    assert f"samples a second, as in {the_run()}" in after
    assert f"{the_run()} has begun this; what is left:" in after
    assert "3 requests, 6 tokens of prompts (estimated from their characters), up to 300 of answers" in after
    assert "cost by these prices: 0.006 for the prompts, 0.606 at most with answers" in after
    run_harness(*flags)
    assert "cost by these prices: 0 for the prompts, 0 at most with answers" in run_harness(*flags, "--dry_run").stdout


def test_a_run_without_times_is_one_line() -> None:
    run_harness("--tasks", "sums.yaml", "--model", "dummy")
    path = Path(the_run()) / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    for session in manifest["sessions"]:
        del session["profile"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    ran = run_harness("profile", the_run())
    assert ran.exit_code == 4
    assert "no command of this run kept where its time went" in ran.output
    assert run_harness("profile", "nowhere").exit_code == 4


def test_every_phase_is_explained_in_both_languages() -> None:
    from harness.cli.profile import phase_words

    english, chinese = phase_words(translator("en")), phase_words(translator("zh"))
    assert tuple(english) == PHASES
    assert all(english[name] != chinese[name] for name in PHASES)


def test_each_moment_is_of_one_phase() -> None:
    clock = Stopwatch()
    with clock.phase("model"):
        threading.Event().wait(0.02)
        for _ in clock.over("waiting", range(3)):
            with pytest.raises(ValueError, match="x"), clock.phase("plan"):
                threading.Event().wait(0.01)
                raise ValueError("x")
    spent = clock.so_far()
    assert spent.phases["plan"] >= 0.03
    assert 0.02 <= spent.phases["model"] < spent.phases["plan"] + 0.5
    assert spent.phases["waiting"] < 0.5
    later = clock.so_far().since(spent)
    assert set(later.phases) <= {"other"}


def test_a_dry_run_foresees_time_and_memory_in_both_languages(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--tasks", "demo_choice_zh", "--model", "demo", "--limit", "3", "--dry_run")
    told = run_harness(*flags).stdout
    found = re.search(r"in all about ([\d,]+) s \(([\d,]+) s of processor\): .* s for records and report", told)
    assert found is not None, told
    assert int(found[2].replace(",", "")) >= 1, "what was taken before the model counts"
    assert re.search(r"main memory: [\d,]+ MB at most", told)
    for name in ("LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    lines = run_harness(*flags).stdout.splitlines()
    assert lines[0] == "demo_choice_zh：共 15 个样本，15 个请求"
    assert len(lines) == 5
    assert all(re.search("[一-鿿]", line) for line in lines)
    assert not re.search("[a-z]{3,} [a-z]{3,}", "\n".join(lines))
