"""The other end of `workers`: loads the model on one device and works until told to end."""

from __future__ import annotations

import contextlib
import pickle
import signal
import sys
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError

if TYPE_CHECKING:
    from harness.engine.model import TorchModel

_PIECES = 16


def main(descriptor: int) -> None:
    """Serve one parent over an open pipe, until it says so or is gone."""
    # Ctrl-C reaches all processes of a terminal: the parent says what it means, and this one has nothing to add.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    connection: Connection[Any, Any] = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(connection)


def _serve(connection: Connection[Any, Any]) -> None:
    pickled, device, threads = connection.recv()
    model = _load(pickled, device, threads, None, connection)
    while model is not None and (order := connection.recv()) is not None:
        if isinstance(order, bytes):
            model = _load(order, device, threads, model, connection)
            continue
        try:
            pieces = []
            for piece in model.run_sequences(order.scores, order.generations):
                pieces.append(piece)
                if len(pieces) == _PIECES:
                    connection.send(("pieces", pieces))
                    connection.send(("activity", model.activity()))
                    pieces = []
            connection.send(("pieces", pieces))
            connection.send(("activity", model.activity()))
            connection.send(("done", [incident["text"] for incident in model.incidents()]))
        except HarnessError as error:
            # The model itself is at fault, on whichever device.
            connection.send(("refused", _one_line(error)))
            return
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            connection.send(("broken", f"stopped: {type(error).__name__}: {_one_line(error)}"))
            return


def _load(
    pickled: bytes, device: str, threads: int, before: TorchModel | None, connection: Connection[Any, Any]
) -> TorchModel | None:
    """Load a model, in the place of `before`, and say so. None when it cannot be loaded."""
    try:
        import torch

        if device == "cpu":
            torch.set_num_threads(threads)
        model: TorchModel = pickle.loads(pickled)
        model.devices = (device,)
        model.device = device
        if before is not None:
            model.take_over(before)
            before.close()
        model.load()
        described = dict(model.describe())
    except Exception as error:
        connection.send(("broken", _one_line(error)))
        return None
    connection.send(("ready", described))
    return model


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    main(int(sys.argv[1]))
