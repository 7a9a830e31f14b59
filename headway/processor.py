"""What the processor at hand can do, as far as the system tells. Needs nothing but Python."""

import platform
from functools import cache
from pathlib import Path

X64_PRECISION = "session.x64quantprecision"
"""ONNX Runtime's session entry for exact products of bytes on x86; two to three times as slow where they are exact anyway."""


@cache
def about() -> tuple[str, frozenset[str]]:
    """Name and instruction flags; no flags where the system does not list them (`/proc/cpuinfo`)."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor(), frozenset()
    fields = dict(line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
    found = {k.strip(): v.strip() for k, v in fields.items()}
    flags = found.get("flags", found.get("Features", ""))
    return found.get("model name", platform.processor()), frozenset(flags.split())


def adds_bytes_exactly() -> bool:
    """Whether products of unsigned by signed bytes are known not to saturate here: other than x86, or with VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return bool(about()[1] & {"avx512_vnni", "avx_vnni"})
