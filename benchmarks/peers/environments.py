"""Each peer in a virtual environment of its own, under `.cache/peers`, at pinned versions."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(".cache/peers")

TORCH = "torch==2.13.0"
REQUIREMENTS: dict[str, list[str]] = {
    # optimum-onnx needs an older transformers than ours; the runtime is the same version as ours, so that engines are equal.
    "optimum": [
        TORCH,
        "optimum-onnx[onnxruntime]==0.1.0",
        "transformers==4.57.6",
        "sentence-transformers==5.7.0",
        "datasets==4.4.1",
        "onnxruntime==1.32.0",
        "onnx==1.23.2",
    ],
    "litserve": ["litserve==0.2.19", "onnxruntime==1.32.0", "tokenizers==0.23.3", "numpy==2.4.6"],
    # Its stub needs numpy 1.
    "pytriton": ["nvidia-pytriton==0.7.0", "onnxruntime==1.32.0", "tokenizers==0.23.3", "numpy==1.26.4"],
    "openvino": ["openvino==2026.4.1", "numpy==2.4.6"],
    "ctranslate2": [TORCH, "ctranslate2==4.8.5", "transformers==4.57.6", "numpy==2.4.6"],
}


def python_of(name: str) -> Path:
    """Return the interpreter of a peer's environment, which is made on first use."""
    home = ROOT / name
    python = home / "bin" / "python"
    if not (home / ".ready").is_file():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        requirements = REQUIREMENTS[name]
        if TORCH in requirements:  # first and alone: a looser requirement would bring the CUDA build
            subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, *requirements], check=True)
        (home / ".ready").touch()
    return python.absolute()
