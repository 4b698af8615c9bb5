"""`harness view`: look at runs in a browser."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path

import click

from harness.cli.completion import complete_runs
from harness.cli.console import notice, notice_path
from harness.errors import UsageError
from harness.files import check_folder
from harness.words import locale_language, translator

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


@click.command("view")
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), shell_complete=complete_runs)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: one that is free]")
@click.option("--token", metavar="TEXT", help="What a browser must know. [default: a random one]")
@click.option("--no_browser", is_flag=True, help="Print the address, and open nothing.")
@click.option("--export", type=click.Path(path_type=Path), metavar="DIR", help="Write the pages as files instead.")
@click.option("--single", type=click.Path(path_type=Path), metavar="FILE", help="Write them as one HTML file instead.")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Look there for pictures of rows, where they have moved. Repeatable.",
)
@click.option("--lang", metavar="en|zh", help="Of pages and messages. [default: by the browser, then the locale]")
def command(
    runs: tuple[Path, ...],
    port: int,
    token: str | None,
    no_browser: bool,
    export: Path | None,
    single: Path | None,
    data: tuple[Path, ...],
    lang: str | None,
) -> None:
    """Look at the runs in and below the folders RUNS (`runs` where none is named), in a browser on this machine.

    \b
    harness view                                     every run below `runs`
    harness view runs/2026-08-01-demo-0f3a9c         one run
    harness view runs/A runs/B --export site         the pages as files, for any web server
    """
    t = translator(locale_language(lang))
    folders = list(runs) or [Path("runs")]
    for mirror in data:
        if not mirror.is_dir():
            raise UsageError(t("--data: there is no folder '{folder}'", folder=mirror))
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                t("there is no folder '{folder}'; `harness --tasks demo` makes a first run in `runs`", folder=folder)
            )
    try:
        import uvicorn

        from harness.view.app import make_app
    except ModuleNotFoundError as error:
        raise UsageError(f"harness view needs {error.name}: pip install 'harness-eval[view]'") from None
    if export or single:
        if export:
            check_folder("--export", export)
        if single:
            check_folder("--single", single.parent, str(single))
        from harness.view.export import export_pages, export_single

        for target, write in ((export, export_pages), (single, export_single)):
            if target is not None:
                n = write(folders, target, data, locale_language(lang))
                notice_path(t("1 page written") if n == 1 else t("{n} pages written", n=n), target)
        return
    listener = _listener(port)
    port, token = listener.getsockname()[1], token or secrets.token_urlsafe(16)
    app = make_app(folders, token, [f"{host}:{port}" for host in _LOCAL], data, lang)
    address = f"http://127.0.0.1:{port}/?token={token}"
    notice(t("Runs can be seen at {address} until Ctrl-C", address=address))
    if not no_browser and has_screen():
        click.launch(address)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    uvicorn.Server(config).run(sockets=[listener])


def has_screen() -> bool:
    """Whether a browser can open beside the terminal: on a machine that is worked on from afar, none can."""
    is_unix = sys.platform not in ("darwin", "win32")
    return not is_unix or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def _listener(port: int) -> socket.socket:
    """A socket of this machine alone. Raises UsageError where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)  # from the moment at which the address is printed, nobody is refused
    except OSError as error:
        listener.close()
        raise UsageError(f"--port {port}: {error.strerror or error}; leave it out for one that is free") from None
    return listener
