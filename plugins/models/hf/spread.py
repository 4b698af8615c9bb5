"""A model that is larger than a card: one copy over all cards, then main memory, then disk, by accelerate."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from harness import UsageError

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")


@dataclass
class Placement:
    """device_map: how accelerate fills devices. max_memory: bytes (or `20GiB`) by GPU number, `cpu` and `disk`.

    per_gpu, cpu: the same for every GPU, and for main memory. folder: where what fits nowhere goes; None is a folder of
    this run's own.
    """

    device_map: str = "auto"
    max_memory: Mapping[int | str, int | str] | None = None
    per_gpu: int | str | None = None
    cpu: int | str | None = None
    folder: str | None = None
    _own: str | None = field(default=None, compare=False)

    @classmethod
    def of(
        cls,
        parallelize: bool,
        device_map: str | None,
        max_memory: Mapping[int | str, int | str] | None,
        per_gpu: int | str | None,
        cpu: int | str | None,
        folder: str | None,
    ) -> Self | None:
        """What the arguments ask for; None when they ask for one device. Raises UsageError for values of no sense."""
        if not (parallelize or device_map or max_memory or per_gpu is not None or cpu is not None):
            return None
        if device_map is not None and device_map not in DEVICE_MAPS:
            raise UsageError(f"--model_args: unknown device_map '{device_map}' (one of {', '.join(DEVICE_MAPS)})")
        if max_memory is not None and (per_gpu is not None or cpu is not None):
            raise UsageError("--model_args: give max_memory, or max_memory_per_gpu and max_cpu_memory, not both")
        if max_memory is not None and not isinstance(max_memory, Mapping):
            raise UsageError(f"--model_args: max_memory={max_memory} is not of the form {{0: 20GiB, cpu: 60GiB}}")
        return cls(device_map or "auto", max_memory, per_gpu, cpu, folder)

    def check(self) -> None:
        """Refuse amounts of memory that cannot be read. Needs accelerate."""
        from accelerate.utils import convert_file_size_to_int

        for place, amount in self._limits(1).items():
            try:
                if convert_file_size_to_int(amount) < 0:
                    raise ValueError
            except (ValueError, TypeError, AttributeError):
                raise UsageError(
                    f"--model_args: max_memory of {place}: '{amount}' is no amount of memory (20GiB, 500MB, or bytes)"
                ) from None

    def options(self, devices: Sequence[str]) -> dict[str, Any]:
        """What `from_pretrained` is told. Several `devices` are the only GPUs that are used; a single one means all."""
        import torch

        if self.folder is None and self._own is None:
            self._own = tempfile.mkdtemp(prefix="harness_offload_")
        options: dict[str, Any] = {"device_map": self.device_map, "offload_folder": self.folder or self._own}
        limits = self._limits(torch.cuda.device_count() if torch.cuda.is_available() else 0)
        if len(devices) > 1 and devices[0].startswith("cuda:"):
            from accelerate.utils import get_max_memory

            chosen = {int(device.partition(":")[2]) for device in devices}
            limits = {
                place: amount
                for place, amount in get_max_memory(limits or None).items()
                if not isinstance(place, int) or place in chosen
            }
        return {**options, "max_memory": limits} if limits else options

    def close(self) -> None:
        """Forget what was put on disk, unless the user named the place."""
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            self._own = None

    def _limits(self, gpus: int) -> dict[int | str, int | str]:
        if self.max_memory is not None:
            return {int(key) if str(key).isdigit() else key: value for key, value in self.max_memory.items()}
        limits: dict[int | str, int | str] = {}
        if self.per_gpu is not None:
            limits = dict.fromkeys(range(gpus), self.per_gpu)
        if self.cpu is not None:
            limits["cpu"] = self.cpu
        return limits
