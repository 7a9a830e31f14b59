"""Read the processor's name and instruction flags from the system. Needs nothing but Python.

Why our own: deploy-time code may import onnxruntime, tokenizers and numpy alone, and the packages that exist do no better.
py-cpuinfo 9.0 takes more than a second where this takes less than a millisecond, and does not read the bit of AVX-VNNI.
archspec 0.2 gives the features of the best microarchitecture that it knows, which can lack an AVX-512 VNNI that is there.
Where the system lists no flags (macOS, Windows), the answers here are the safe ones. The kernels ask the processor itself.
"""

import platform
from functools import cache
from pathlib import Path

X64_PRECISION = "session.x64quantprecision"
"""ONNX Runtime's session entry for exact int8 matmuls on x86; two to three times as slow where they are exact anyway."""


@cache
def about() -> tuple[str, frozenset[str]]:
    """Return name and instruction flags; no flags where the system does not list them (`/proc/cpuinfo`)."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor(), frozenset()
    lines = (line.split(":", 1) for line in info.read_text(encoding="utf-8").splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in lines}
    flags = fields.get("flags", fields.get("Features", ""))
    return fields.get("model name", platform.processor()), frozenset(flags.split())


def adds_bytes_exactly() -> bool:
    """Return whether sums of uint8 by int8 multiplications are known not to saturate here: other than x86, or with VNNI."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    return bool(about()[1] & {"avx512_vnni", "avx_vnni"})
