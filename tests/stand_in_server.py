"""A program that is started as vLLM's or SGLang's server is, and that starts, answers and dies as `--how` says."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TRACEBACK = """(APIServer pid=7) ERROR 11-29 09:20:06 [core.py:97] Traceback (most recent call last):
(EngineCore pid=9) ERROR 11-29 09:20:06 [core.py:97] ValueError: no kernel for 显卡 of this kind 😀
(APIServer pid=7)     raise RuntimeError("Engine core initialization failed.")
(APIServer pid=7) RuntimeError: Engine core initialization failed. See root cause above.
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("port", "served-model-name", "how", "notes", "tensor-parallel-size", "host"):
        parser.add_argument(f"--{name}")
    asked, _ = parser.parse_known_args()
    with Path(asked.notes).open("a") as notes:
        print(json.dumps({"pids": [os.getpid(), *children()], "argv": sys.argv[1:]}), file=notes)
    print("INFO 11-29 09:20:01 [api_server.py:1] starting", flush=True)
    if asked.how == "dies":
        sys.exit(TRACEBACK)
    if asked.how == "never":
        time.sleep(600)
    if asked.how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if asked.how == "loses its port" and len(Path(asked.notes).read_text().splitlines()) == 1:
        sys.exit("[Errno 98] error while attempting to bind on address ('127.0.0.1', 1): address already in use")
    time.sleep(0.5 if asked.how == "slow" else 0)
    serve(int(asked.port), asked.served_model_name, asked.how, Path(asked.notes))


def children() -> list[int]:
    """A process of this group, one of a group of its own, and one whose parent has ended already."""
    sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
    starts = f"import subprocess; print(subprocess.Popen({sleeps}, start_new_session=True, stdout=-3).pid)"
    daemon = subprocess.run([sys.executable, "-c", starts], stdout=subprocess.PIPE, check=True).stdout
    return [subprocess.Popen(sleeps, start_new_session=own).pid for own in (False, True)] + [int(daemon)]


def serve(port: int, name: str, how: str | None, notes: Path) -> None:
    answered = 0

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({"data": [{"id": name}]})

        def do_POST(self) -> None:
            nonlocal answered
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with notes.with_name("asked").open("a") as file:
                print(json.dumps({"path": self.path, "model": body.get("model"), **body}), file=file)
            if self.path.endswith("load_lora_adapter") and how == "refuses adapters":
                self.reply({"object": "error", "message": "rank 99 is too large"}, 400)
                return
            if how == "dies in the middle" and answered == 3:
                print("RuntimeError: CUDA error: out of memory", flush=True)
                os._exit(3)
            if how == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
            answered += 1
            choice = {"text": " 6", "message": {"role": "assistant", "content": "6"}, "finish_reason": "stop"}
            self.reply({"choices": [choice]})

        def reply(self, body: Any, status: int = 200) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
