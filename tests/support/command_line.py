"""The command line in tests: words in, what it printed and its exit code out. The fixture is in tests/exporter/cli/conftest.py."""

import subprocess
from collections.abc import Callable

Headway = Callable[..., subprocess.CompletedProcess[str]]
