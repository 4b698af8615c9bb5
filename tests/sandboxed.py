"""A mark for tests of programs: they run where programs can be run in a sandbox, and say why where they cannot."""

from __future__ import annotations

import pytest

from harness.errors import UsageError
from harness.scoring import sandbox

try:
    sandbox.usable()
    _refused = ""
except UsageError as error:
    _refused = str(error)
needs_sandbox = pytest.mark.skipif(bool(_refused), reason=f"runs where there is a sandbox: {_refused}")
