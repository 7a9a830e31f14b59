"""What each peer makes of a model directory: exports cached under `.cache/artifacts`."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import environments

ROOT = Path(".cache/artifacts")


@dataclass(frozen=True)
class Peer:
    """A contestant: the worker's kind, the interpreter that runs it, and the artifact it loads."""

    name: str
    kind: str
    python: Path
    artifact: Path


def optimum(model: Path, level: str | None) -> Path:
    """`optimum-cli export onnx`, plain or with an optimisation level."""
    out = ROOT / model.parent.name / f"optimum-{level or 'plain'}"
    if not (out / "model.onnx").is_file():
        run_optimum(model, out, level)
    return out / "model.onnx"


def run_optimum(model: Path, out: Path, level: str | None = None) -> None:
    """The command itself, as a user calls it."""
    subprocess.run(optimum_command(model, out, level), check=True, capture_output=True, env=optimum_environment())


def optimum_command(model: Path, out: Path, level: str | None = None) -> list[str]:
    python = environments.python_of("optimum")
    command = [
        str(python.parent / "optimum-cli"),
        "export",
        "onnx",
        "--task",
        "feature-extraction",
        "--model",
        str(model),
    ]
    return [*command, *(["--optimize", level] if level else []), str(out)]


def optimum_environment() -> dict[str, str]:
    """Its own programs first: the command starts helpers by name."""
    bin_folder = environments.python_of("optimum").parent
    return os.environ | {"PATH": f"{bin_folder}:{os.environ['PATH']}"}


def ort_fused(model: Path, heads: int, hidden: int) -> Path:
    """ONNX Runtime's own transformer optimiser on the plain export."""
    plain = optimum(model, None)
    out = plain.parent.parent / "ort-fused" / "model.onnx"
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        command = [
            environments.python_of("optimum"),
            "-m",
            "onnxruntime.transformers.optimizer",
            "--input",
            plain,
            "--output",
            out,
        ]
        command += ["--model_type", "bert", "--num_heads", str(heads), "--hidden_size", str(hidden)]
        subprocess.run(command, check=True, capture_output=True)
    return out


def ctranslate2(model: Path) -> Path:
    """CTranslate2's converter for Hugging Face encoders."""
    out = ROOT / model.parent.name / "ctranslate2"
    if not (out / "model.bin").is_file():
        python = environments.python_of("ctranslate2")
        command = [
            str(python.parent / "ct2-transformers-converter"),
            "--model",
            str(model),
            "--output_dir",
            str(out),
            "--force",
        ]
        subprocess.run(command, check=True, capture_output=True)
    return out


def all_peers(model: Path, heads: int, hidden: int) -> list[Peer]:
    """Every peer, its artifact made. The same ONNX Runtime runs all ONNX files."""
    onnx_python = environments.python_of("optimum")
    plain = optimum(model, None)
    return [
        Peer("Optimum O2", "onnx", onnx_python, optimum(model, "O2")),
        Peer("Optimum O3", "onnx", onnx_python, optimum(model, "O3")),
        Peer("ONNX Runtime fused", "onnx", onnx_python, ort_fused(model, heads, hidden)),
        Peer("ONNX Runtime plain", "onnx", onnx_python, plain),
        Peer("OpenVINO", "openvino", environments.python_of("openvino"), plain),
        Peer("CTranslate2", "ctranslate2", environments.python_of("ctranslate2"), ctranslate2(model)),
    ]
