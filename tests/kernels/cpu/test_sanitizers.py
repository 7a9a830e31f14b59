"""The operators' tests again on a library built with the address and undefined-behavior sanitizers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headway.kernels.cpu import build

RUN = """
import sys
from pathlib import Path
import pytest
from headway.kernels import cpu
cpu.library_path = lambda: Path(sys.argv[1])
sys.exit(pytest.main(["-p", "no:xdist", "-p", "no:cacheprovider", "-q", "-x", "-s", "-k", "not memory and not long", *sys.argv[2:]]))
"""


def _file(compiler: str, name: str) -> Path:
    command = [*compiler.split(), f"-print-file-name={name}"]
    return Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())


@pytest.mark.slow
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    compiler = build.compiler()
    if compiler is None:
        pytest.skip("no C++ compiler")
    # Exceptions are intercepted too, for which the C++ library has to be there from the beginning.
    runtimes = [_file(compiler, name) for name in ("libasan.so", "libstdc++.so.6")]
    if not all(path.is_absolute() for path in runtimes):
        pytest.skip(f"{compiler} has no address sanitizer")
    library = build.build(tmp_path / build.LIBRARY, flags=build.SANITIZERS)
    # Python and the runtime themselves leave memory to the end of the process, and are not built for this.
    settings = {
        "LD_PRELOAD": " ".join(map(str, runtimes)),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    others = (Path(__file__), Path(__file__).with_name("test_ort_api.py"))
    files = [str(path) for path in sorted(Path(__file__).parent.glob("test_*.py")) if path not in others]
    command = [sys.executable, "-c", RUN, str(library), *files]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
