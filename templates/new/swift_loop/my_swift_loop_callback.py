"""Measures when ms-swift's training evaluates: `swift sft ... --external_plugins THIS_FILE --callbacks harness`."""

from pathlib import Path

from swift.callbacks import callbacks_map

from harness.training import HarnessCallback

SUMS = Path(__file__).parent / "my_swift_loop_sums.yaml"

callbacks_map["harness"] = lambda args, trainer: HarnessCallback(SUMS, limit=50, apply_chat_template=True)
