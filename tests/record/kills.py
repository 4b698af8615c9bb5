"""Kills commands at random moments and says whether what is left, once they went on to their end, is as if nobody had.

python kills.py FOLDER KILLS SEED [KIND ...]

A command runs in a fork of this process, which has imported what it needs, so that a kill costs no start. Each folder
is killed one to four times, and then the command runs to its end. What may differ: times, and the list of sessions.
`large` is a run that notes how far it is, as one of many samples does. `shards` are two and their merge, `drawn` asks
rows until the score is known, and `decided` until it is known which of two runs is better; `turns` are conversations
whose later turns hold the model's own answers, `talks` are with a simulated user in an environment, and `judged` has a
judge score the answers.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROWS = 24
TASKS = "task/sums.yaml,task/pick.yaml"
GENERATES = """\
task: sums
dataset_path: sums.jsonl
test_split: test
description: "Add the two numbers.\\n\\n"
doc_to_text: "{{ q }} ="
doc_to_target: "{{ a }}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match}]
"""
CHOOSES = """\
task: pick
dataset_path: pick.jsonl
test_split: test
output_type: multiple_choice
description: "Pick one.\\n\\n"
doc_to_text: "{{ q }}"
doc_to_choice: "{{ options }}"
doc_to_target: answer
metric_list: [{metric: acc}]
"""
TURNS = """\
task: turns
dataset_path: turns.jsonl
test_split: test
subsets: {first: {turn: 1}, second: {turn: 2}, third: {turn: 3}}
doc_to_messages: "{{ asked[: subset.turn] | with_own_answers }}"
doc_to_target: "{{ gold }}"
cluster_key: id
where: subset.turn <= asked | length
metric_list: [{metric: exact_match}]
"""
JUDGED = """\
task: judged
dataset_path: sums.jsonl
test_split: test
doc_to_text: "{{ q }} ="
doc_to_target: "{{ a }}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: exact_match}, {metric: judge, rubric: correctness_en}, {metric: bleu}]
"""
SERVER = """\
import sys, time
sys.path.insert(0, sys.argv[1])
from scripted_server import ScriptedServer, chat
server = ScriptedServer()
def answer(asked):
    time.sleep(0.004)
    said = asked.body["messages"]
    if "You are a reader" in said[0]["content"]:  # the simulated user
        return chat("###STOP###" if len(said) > 3 else said[0]["content"][-30:])
    if "tools" in asked.body and len(said) < 7:
        call = {"name": "find", "arguments": '{"title": "Emma"}'}
        return chat(None, "tool_calls", tool_calls=[{"id": "1", "type": "function", "function": call}])
    return chat(str(len(str(said)) % 7))
server.answer = answer
print(server.url, flush=True)
time.sleep(3600)
"""
Commands = Callable[[Path], list[list[str]]]


def write_tasks(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "sums.yaml").write_text(GENERATES, encoding="utf-8")
    (folder / "pick.yaml").write_text(CHOOSES, encoding="utf-8")
    sums = [{"q": f"{n} + {n}", "a": str(2 * n), "note": "数" * n} for n in range(ROWS)]
    picks = [{"q": f"Which is {n}?", "options": ["0", "1", "2"], "answer": n % 3} for n in range(ROWS)]
    turns = [{"id": n, "asked": [f"one {n}", f"two {n}", f"three {n}"], "gold": "3"} for n in range(ROWS // 3)]
    (folder / "turns.yaml").write_text(TURNS, encoding="utf-8")
    (folder / "judged.yaml").write_text(JUDGED, encoding="utf-8")
    for name, rows in (("sums", sums), ("pick", picks), ("turns", turns)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def write_talks(folder: Path) -> None:
    copy_scaffold(find_scaffold("environment"), "my_environment", "talks", folder)
    rows = [json.loads(line) for line in (folder / "talks.jsonl").read_text(encoding="utf-8").splitlines()]
    wishes = [{**rows[n % 3], "wish": f"{rows[n % 3]['wish']} ({n})"} for n in range(ROWS)]
    (folder / "talks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in wishes), encoding="utf-8")


def run_folder(folder: Path) -> Path:
    (found,) = (path for path in (folder / "runs").iterdir())
    return found.relative_to(folder)


def started(folder: Path, argvs: list[list[str]]) -> int:
    """The process id of a fork that runs the commands in the folder, one after another."""
    child = os.fork()
    if child:
        return child
    try:
        os.chdir(folder)
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
        from harness.cli.main import main

        for argv in argvs:
            try:
                main(argv)
            except SystemExit as end:
                if end.code or argv is argvs[-1]:
                    os._exit(int(end.code or 0))
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    os._exit(99)


def finished(folder: Path, argvs: list[list[str]]) -> float:
    """Run the commands to their end. Returns how many seconds it took."""
    begin = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(started(folder, argvs), 0)[1])
    if status not in (0, 1):
        log = (folder / "log").read_text(encoding="utf-8")
        raise RuntimeError(f"{argvs}: ended with {status}: {log[-2000:]}")
    return time.monotonic() - begin


def contents(folder: Path) -> dict[str, Any]:
    """All files of the run folders, without what may differ."""
    found: dict[str, Any] = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if not file.is_file() or file.name in (".lock", "log"):
            continue
        text = file.read_text(encoding="utf-8").replace(str(folder), "FOLDER")
        if file.suffix == ".jsonl":
            found[name] = [{**json.loads(line), "seconds": None} for line in text.splitlines()]
            if file.name == "steps.jsonl":  # of conversations that went on side by side
                found[name].sort(key=json.dumps)
        elif file.suffix == ".json":
            found[name] = timeless(json.loads(text))
        else:
            found[name] = re.sub(r"\d+(\.\d+)? ?(ms|s|min|h)\b|\d{4}-\d\d-\d\d[T ][\d:.+]+|\d\d:\d\d", "TIME", text)
    return found


def timeless(value: Any) -> Any:
    times = ("started", "finished", "rescored", "sessions", "seconds", "ended")  # hashes of files that hold times
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in times}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            if name not in one or name not in other:
                yield f"{where}/{name}: only {'after the kills' if name in other else 'without them'}"
            else:
                yield from differences(one[name], other[name], f"{where}/{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from differences(mine, theirs, f"{where}/{number}")
    elif "/logprobs/" in where and isinstance(one, float) and math.isclose(one, other, rel_tol=1e-6):
        return  # beside other rows a model adds up in another order, and of a run that goes on these are fewer
    elif one != other:
        yield f"{where}: {str(one)[:200]} != {str(other)[:200]}"


def template(folder: Path, kind: str, answers: list[str]) -> Path:
    """What is there before the command: the tasks, and for what works on a finished run, that."""
    write_tasks(folder / "task")
    if kind == "talks":
        write_talks(folder / "task")
    if kind in ("judge", "score", "decided"):
        finished(folder, [answers])
    return folder


def commands_of(url: str, model: str) -> dict[str, Commands]:
    """The commands of each kind, by the folder that they run in. url: of a server. model: folder of a small model."""
    ask = ["--tasks", TASKS, "--output", "runs"]
    only = ["--tasks", "task/sums.yaml", "--output", "runs"]
    dummy = [*ask, "--model", "dummy", "--model_args", "mode=random"]
    rubric = ["--rubric", "correctness_en", "--model", "dummy", "--model_args", "mode=random", "--tasks", "sums"]
    hf = ["--model", "hf", "--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
    served = ["--model", "openai", "--model_args", f"model=small,base_url={url},api=chat,num_concurrent=3"]
    drawn = [*dummy, "--precision", "0.25"]
    rival = [*ask, "--model", "dummy", "--model_args", "mode=gold", "--until_decided"]
    turns = ["--tasks", "task/turns.yaml", "--output", "runs", "--apply_chat_template"]
    talks = ["--tasks", "task/talks.yaml", "--output", "runs", "--apply_chat_template", "--trust_task_code_in_process"]
    talks += ["task", *served, "--user_model", f"openai,model=user,base_url={url},api=chat,num_concurrent=3"]
    judged = ["--tasks", "task/judged.yaml", "--output", "runs", "--judge", "dummy,mode=random", *dummy[-4:]]
    shards = [[*dummy, "--shard", f"{part}/2"] for part in (1, 2)]
    return {
        "dummy": lambda path: [dummy],
        "large": lambda path: [dummy],
        "hf": lambda path: [[*ask, *hf]],
        "openai": lambda path: [[*only, *served]],
        "judge": lambda path: [["judge", str(run_folder(path)), *rubric]],
        "score": lambda path: [["score", str(run_folder(path))]],
        "shards": lambda path: [*shards, ["merge", "runs", "--output", "merged"]],
        "drawn": lambda path: [drawn],
        "drawn large": lambda path: [drawn],
        "decided": lambda path: [[*rival, str(run_folder(path)), "--output", "decided"]],
        "turns": lambda path: [[*turns, *served]],
        "talks": lambda path: [talks],
        "judged": lambda path: [judged],
    }


def main(folder: Path, kills: int, seed: int, kinds: list[str], model: str, here: str) -> int:
    draw = random.Random(seed)
    server = subprocess.Popen([sys.executable, "-c", SERVER, here], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    commands = commands_of(url, model)
    dummy = commands["dummy"](folder)[0]
    wrong, done = 0, 0
    usual = spool.FEW, runner.NOTED, begun.AT_ONCE
    try:
        for kind in kinds:
            spool.FEW, runner.NOTED, begun.AT_ONCE = (4, 3, 2) if "large" in kind else usual
            before = template(folder / kind / "before", kind, dummy)
            whole = folder / kind / "whole"
            shutil.copytree(before, whole)
            took = finished(whole, commands[kind](whole))
            wanted = contents(whole)
            killed = 0
            for number in range(10**6):
                if killed >= kills:
                    break
                path = folder / kind / str(number)
                shutil.copytree(before, path)
                for _ in range(draw.randint(1, 4)):
                    child = started(path, commands[kind](path))
                    time.sleep(draw.uniform(0, took * 1.05))
                    os.kill(child, signal.SIGKILL)
                    killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
                finished(path, commands[kind](path))
                found = list(differences(wanted, contents(path)))
                wrong += bool(found)
                for line in found[:5]:
                    print(f"{kind} {number}: {line}", flush=True)
                shutil.rmtree(path)
            done += killed
            print(f"{kind}: {killed} kills, {took:.2f} s without", flush=True)
    finally:
        server.kill()
    print(f"{done} kills, {wrong} folders differ", flush=True)
    return 1 if wrong or not done else 0


if __name__ == "__main__":
    import harness.cli.judge
    import harness.cli.run
    import harness.cli.score
    import harness.judging.judge  # noqa: F401
    from harness import spool
    from harness.cli.new import copy_scaffold, find_scaffold
    from harness.record import begun
    from harness.registry import load_plugins
    from harness.run import runner

    load_plugins()

    kinds = sys.argv[6:] or [*commands_of("", "")]
    if "hf" in kinds:
        import torch

        torch.set_num_threads(1)
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), kinds, sys.argv[4], sys.argv[5]))
