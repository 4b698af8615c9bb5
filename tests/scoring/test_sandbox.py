"""Programs that try to get out of the sandbox. Skipped only where the system has no namespaces to make one of."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from sandboxed import needs_sandbox

from harness.errors import UsageError
from harness.scoring import sandbox
from harness.scoring.sandbox import Limits, execute
from harness.scoring.sandbox.command import IMAGE, PROGRAM_ENVIRONMENT

SHORT = Limits(seconds=1, patience=1)
AMPLE = Limits(seconds=20)


def run(program, limits=AMPLE):
    return sandbox.run_program(program, limits)


def processes_with(mark):
    """The processes of this machine that have `mark` on their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:  # it has ended meanwhile
            continue
    return found


@needs_sandbox
def test_what_passes():
    outcome = run("print('你好'); assert __name__ == 'program'")
    assert outcome.passed
    assert outcome.output == "你好\n"
    assert outcome.reason == ""


@needs_sandbox
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("assert 1 == 2, 'no'", "AssertionError: no"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "ended before its end"),
        ("import os; os.kill(os.getpid(), 9)", "ended before its end"),
        ("import os; os.write(3, b'passed\\n'); [os.close(n) for n in range(3, 64)]", "ended before its end"),
        ("print('ready'); print('passed 0'); raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("def f(): f()\nf()", "RecursionError"),
        ("class E(Exception):\n    def __str__(self): raise self\nraise E", "E"),
        ("input()", "EOFError"),
        ("bytes(2)[5]", "IndexError"),
    ],
)
def test_what_fails(program, reason):
    outcome = run(program)
    assert not outcome.passed
    assert outcome.reason.startswith(reason)


@needs_sandbox
@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import signal\nfor n in range(1, 32):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\n"
        "while True: pass",
        "9 ** 9 ** 9 ** 9",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ],
)
def test_time_ends(program):
    outcome = run(program, SHORT)
    assert not outcome.passed
    # By the clock or by processor time; what ignores the signal of the latter is killed.
    assert outcome.reason in ("out of time", "ended before its end (exit code 137)")


@needs_sandbox
def test_processor_time_ends_what_the_clock_would_let_go_on():
    assert run("while True: pass", Limits(seconds=1, patience=60)).reason == "out of time"


@pytest.mark.slow
@needs_sandbox
def test_a_fork_bomb_finds_no_room():
    outcome = run("import os\nwhile True: os.fork()")
    assert outcome.reason.startswith("BlockingIOError")
    stubborn = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    assert run(stubborn, SHORT).reason == "out of time"
    count = (
        "import os, time\nn = 0\ntry:\n    while os.fork(): n += 1\n    time.sleep(9)\nexcept OSError: assert n < 64, n"
    )
    assert run(count).passed


@needs_sandbox
@pytest.mark.parametrize(
    "program",
    ["bytearray(10 << 30)", "x = []\nwhile True: x.append(bytearray(1 << 20))", "import mmap; mmap.mmap(-1, 10 << 30)"],
)
def test_ten_gigabytes_are_not_to_be_had(program):
    outcome = run(program)
    assert outcome.reason.startswith(("MemoryError", "OSError", "out of memory"))


@needs_sandbox
def test_files_cannot_fill_the_disk():
    one = "with open('/tmp/x', 'wb') as f:\n    while True: f.write(bytes(1 << 20))"
    assert not run(one).passed
    many = "for n in range(99):\n    with open(f'/tmp/{n}', 'wb') as f: f.write(bytes(8 << 20))"
    assert run(many).reason.startswith("OSError: [Errno 28]")


@needs_sandbox
def test_files_outside_are_not_there_or_stay(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("42")
    tmp_path.chmod(0o777)
    secret.chmod(0o666)
    for program in (f"open({str(secret)!r})", f"import os; os.remove({str(secret)!r})", f"open({str(secret)!r}, 'w')"):
        assert run(program).reason.startswith("FileNotFoundError")
    home = f"import os; assert not os.path.exists({str(Path(__file__))!r}), 'seen'"
    assert run(home).passed
    assert secret.read_text() == "42"


@needs_sandbox
def test_what_is_there_cannot_be_written():
    program = """
import os, shutil, sys
tried = []
for folder in ("/", "/usr", "/usr/lib", "/proc", os.path.dirname(os.__file__), os.path.dirname(sys.executable)):
    try:
        open(folder + "/harness_was_here", "w")
        tried.append(folder)
    except OSError:
        pass
shutil.rmtree("/usr", ignore_errors=True)
assert os.listdir("/usr") and not tried, tried
open("/tmp/mine", "w").write("ok")
assert open("/tmp/mine").read() == "ok"
"""
    outcome = run(program)
    assert outcome.passed, outcome
    assert Path(os.__file__).exists()
    # Of this machine's /tmp only what holds this Python may show, and of an earlier program nothing.
    with tempfile.NamedTemporaryFile(dir="/tmp") as secret:
        names = {"mine", Path(secret.name).name}
        assert run(f"import os; assert not {names} & set(os.listdir('/tmp'))").passed


@needs_sandbox
def test_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "Error" in run(f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)").reason
    assert "Error" in run("import socket; socket.create_connection(('1.1.1.1', 53), 5)").reason
    names = "import os; assert os.listdir('/sys/class/net') == []" if Path("/sys/class/net").exists() else ""
    assert not run(names).passed or not names  # there is no /sys
    with socket.socket(socket.AF_UNIX) as local:
        local.bind("\0harness-test-sandbox")
        local.listen()
        assert "Error" in run("import socket; socket.socket(socket.AF_UNIX).connect('\\0harness-test-sandbox')").reason


@needs_sandbox
@pytest.mark.parametrize("family", [17, 38, 40])  # packets, the kernel's cryptography, the host of a virtual machine
def test_no_sockets_that_know_no_network_namespace(family):
    outcome = run(f"import socket; socket.socket({family}, socket.SOCK_STREAM)")
    assert "Errno 97" in outcome.reason


@needs_sandbox
def test_pairs_of_sockets_and_processes_still_work():
    assert run("import socket; a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'").passed
    assert run("import subprocess, sys; subprocess.run([sys.executable, '-c', ''], check=True)").passed


@needs_sandbox
def test_no_memory_that_no_process_owns():
    segment = "import ctypes; assert ctypes.CDLL(None).shmget(0, 500 << 20, 0o1600) == -1"
    assert run(segment).passed
    assert "Errno 38" in run("import os; os.memfd_create('x')").reason


@needs_sandbox
def test_no_keys_of_the_session():
    number = {"x86_64": 250, "aarch64": 219, "riscv64": 219}[os.uname().machine]
    assert run(f"import ctypes; assert ctypes.CDLL(None).syscall({number}, 0, -3, 1) == -1").passed


@needs_sandbox
def test_a_cause_is_fit_for_a_terminal():
    assert run(r"raise ValueError('\x1b[31m 错误 \x00 \ud800\n')").reason == "ValueError: ?[31m 错误 ? ?"


@needs_sandbox
def test_the_environment_is_not_ours(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a secret")
    outcome = run("import os, json; print(json.dumps(dict(os.environ)))")
    assert set(json.loads(outcome.output)) <= set(PROGRAM_ENVIRONMENT) | {"LC_CTYPE"}
    search = """
import pathlib
for file in pathlib.Path("/proc").glob("*/environ"):
    try: assert b"secret" not in file.read_bytes()
    except OSError: pass
"""
    assert run(search).passed


@needs_sandbox
def test_no_other_process_is_seen_or_killed():
    outcome = run("import os; print(sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))")
    assert len(json.loads(outcome.output)) == 3  # the first of the namespace, its tests, and itself
    for program in ("os.kill(-1, 9)", "os.kill(1, 9)", "os.kill(os.getppid(), 9)", f"os.kill({os.getpid()}, 9)"):
        run(f"import os\ntry: {program}\nexcept OSError: pass")
    assert "Error" in run("open('/proc/1/environ').read()").reason
    assert "Error" in run("open('/proc/1/mem', 'rb').read(1)").reason
    assert "Error" in run("import os; os.listdir('/proc/1/root/')").reason
    assert "Error" in run("import os; os.listdir('/proc/1/fd')").reason


@pytest.mark.slow
@needs_sandbox
def test_nothing_survives():
    mark = f"harness-daemon-{os.getpid()}"
    daemon = f"""
import os, subprocess, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)", {mark!r}])
    os._exit(0)
os.wait()
for _ in range(500):
    lines = [open(f"/proc/{{n}}/cmdline").read() for n in os.listdir("/proc") if n.isdigit()]
    if any(line.endswith({mark!r} + chr(0)) for line in lines):
        print("started", flush=True)
        break
    time.sleep(0.01)
"""
    for ending in ("", "os._exit(0)", "time.sleep(600)"):
        outcome = run(daemon + ending, Limits(seconds=4, patience=1))
        assert outcome.output == "started\n", outcome
        for _ in range(200):  # the kernel ends a namespace's processes one by one
            if not processes_with(mark):
                break
            time.sleep(0.02)
        assert processes_with(mark) == []


@needs_sandbox
def test_no_more_privileges():
    namespaces = "import ctypes\nassert ctypes.CDLL(None).unshare({}) == -1"
    for flags in ("0x10000000", "0x00020000", "0x10020000"):
        assert run(namespaces.format(flags)).passed
    assert run("import ctypes; assert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == -1").passed
    status = "lines = dict(l.split(':', 1) for l in open('/proc/self/status'))\n"
    assert run(status + "assert int(lines['CapEff'], 16) == 0 and int(lines['NoNewPrivs']) == 1").passed
    assert run("import os; assert os.getuid() != 0 or os.geteuid() != 0").passed
    assert "Error" in run("import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))").reason


@needs_sandbox
def test_much_output_is_cut():
    outcome = run("for _ in range(1000): print('x' * 100_000)")
    assert outcome.passed
    assert len(outcome.output) <= 16_384
    assert run("while True: print('x' * 100_000)", SHORT).reason == "out of time"


@needs_sandbox
def test_it_ends_with_the_harness(tmp_path):
    mark = f"harness-orphan-{os.getpid()}"
    sleep = "import time; time.sleep(600)"
    program = f"import os, sys; os.execv(sys.executable, [sys.executable, '-c', {sleep!r}, {mark!r}])"
    parent = subprocess.Popen(
        [sys.executable, "-c", f"from harness.scoring.sandbox import *; run_program({program!r}, Limits(seconds=300))"],
        env={**os.environ, "TMPDIR": str(tmp_path)},  # its folder stays behind
    )
    try:
        for _ in range(1500):
            if len(processes_with(f"time.sleep(600)\0{mark}")) == 1:
                break
            time.sleep(0.02)
        assert len(processes_with(f"time.sleep(600)\0{mark}")) == 1
    finally:
        parent.kill()
        parent.wait()
    for _ in range(500):
        if not processes_with(mark):
            break
        time.sleep(0.02)
    assert processes_with(mark) == []


@needs_sandbox
@pytest.mark.skipif(os.getuid() != 0, reason="runs as root: all other tests run as an ordinary user already")
def test_an_ordinary_user_has_a_sandbox_too():
    program = "import os; assert os.getuid() == 65534 and os.listdir('/tmp') == []; open('/tmp/x', 'w'); print('in')"
    order = {
        "program": program,
        "setup": "",
        "call_seconds": 0,
        "limits": {"processes": 8, "memory": 1 << 30, "cpu": 9},
        "path": [],
    }
    bodies = [json.dumps(part).encode() for part in (order, {"tests": "", "token": "t"})]
    jail = (Path(execute.__file__).parent / "jail.py").read_text("utf-8")
    with tempfile.TemporaryDirectory(prefix="harness-test-") as root:
        os.chown(root, 65534, 65534)
        python, *options, _, setup = sandbox.command_line("namespaces", AMPLE, root, "")
        show = [path for path in json.loads(setup)["show"] if path.startswith(("/usr", "/lib", "/bin", "/dev", "/etc"))]
        if not python.startswith("/usr/"):  # in root's home, perhaps: take one that is everybody's
            python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or pytest.skip(
                "runs where there is a Python that every user may run"
            )
        command = [python, *json.loads(setup)["command"][1:]]
        setup = json.dumps({**json.loads(setup), "show": show, "command": command})
        done = subprocess.run(
            [python, *options, "-c", jail, setup],
            input=b"".join(f"{len(body):016d}".encode() + body for body in bodies),
            capture_output=True, cwd="/", user=65534, group=65534, extra_groups=[],
        )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == (b"ready\npassed t\n", b"in\n", 0)


@needs_sandbox
def test_many_run_at_once_and_in_order():
    outcomes = list(sandbox.run_programs([f"print({n}); assert {n} % 2" for n in range(6)]))
    assert [outcome.passed for outcome in outcomes] == [False, True] * 3
    assert [outcome.output for outcome in outcomes] == [f"{n}\n" for n in range(6)]
    assert list(sandbox.run_programs([])) == []


@pytest.fixture
def fresh(monkeypatch):
    """Tried anew, whatever was tried before."""
    monkeypatch.delenv("HARNESS_SANDBOX", raising=False)
    execute._problem.cache_clear()
    yield monkeypatch
    execute._problem.cache_clear()


def test_none_is_never_chosen_by_itself(fresh):
    refusal = "import sys; sys.exit('jail: unshare: Operation not permitted')"
    fresh.setattr(execute, "command_line", lambda *_: [sys.executable, "-c", refusal])
    with pytest.raises(UsageError, match=r"Operation not permitted; allow user namespaces, or choose --sandbox docker"):
        sandbox.usable()


def test_what_cannot_be_chosen(fresh):
    with pytest.raises(UsageError, match=r"--sandbox: there is no sandbox 'dokcer'; did you mean 'docker'"):
        sandbox.usable("dokcer")
    fresh.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="there is no command 'docker'"):
        sandbox.usable("docker")


def test_none_runs_with_limits_alone(fresh):
    fresh.setenv("HARNESS_SANDBOX", "none")
    fresh.setenv("HF_TOKEN", "a secret")
    assert sandbox.usable() == "none"
    assert run("import os; assert 'HF_TOKEN' not in os.environ").passed
    assert run("bytearray(10 << 30)").reason.startswith("MemoryError")
    assert run("while True: pass", SHORT).reason == "out of time"


def test_the_command_of_docker():
    command = sandbox.command_line("docker", Limits(memory=5 << 20), "/unused", "box")
    assert command[:2] == ["docker", "run"]
    for option in ("--network=none", "--read-only", "--cap-drop=ALL", "--name=box", "--memory=5242880", "--rm"):
        assert option in command
    assert "--security-opt=no-new-privileges" in command
    image = command.index(IMAGE)
    assert command[image + 1 : image + 3] == ["python", "-I"]
    assert not any(part.startswith(("--volume", "-v", "--privileged")) for part in command[:image])
