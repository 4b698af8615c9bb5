"""Where a run ran: versions and settings that can change a number or a speed. Nothing heavy is imported for it."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from harness.record.manifest_fields import Manifest
from harness.secret import shown_urls

DISTRIBUTION = "harness-eval"
# None of these holds a secret, but for the password of an address, which is not written down.
_SETTINGS = (
    "CUDA_VISIBLE_DEVICES",
    "HARNESS_DATA",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TOKENIZERS_PARALLELISM",
)


def describe() -> Manifest:
    """`versions` of this package and of what it needs, and the `environment`: interpreter, machine, settings."""
    return {
        "versions": versions(),
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "settings": {name: shown_urls(os.environ[name]) for name in _SETTINGS if name in os.environ},
        },
    }


def versions() -> dict[str, str]:
    """Package -> version, for this package and everything that it can use and that is installed."""
    return dict(_installed())


@functools.cache  # each version is a file of metadata to read, and what was imported stays as it was
def _installed() -> dict[str, str]:
    try:
        requirements = requires(DISTRIBUTION) or []
    except PackageNotFoundError:  # run from a checkout that was never installed
        requirements = []
    names = (re.match(r"[\w.-]+", requirement) for requirement in [DISTRIBUTION, *requirements])
    installed = {}
    for name in sorted({match[0] for match in names if match}):
        with contextlib.suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed
