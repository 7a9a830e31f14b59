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
    """`optimum-cli export onnx`, plain or with an optimization level."""
    out = ROOT / model.parent.name / f"optimum-{level or 'plain'}"
    if not (out / "model.onnx").is_file():
        run_optimum(model, out, level)
    return out / "model.onnx"


def run_optimum(model: Path, out: Path, level: str | None = None) -> None:
    """Return the command itself, as a user calls it."""
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


def torch_onnx(model: Path) -> Path:
    """Torch's own exporter on the encoder alone: the plain graph that other runtimes optimize for themselves."""
    out = ROOT / (model.name if model.name != "model" else model.parent.name) / "torch-onnx" / "model.onnx"
    if not out.is_file():
        import torch
        from transformers import AutoModel

        out.parent.mkdir(parents=True, exist_ok=True)

        class Encoder(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.whole = AutoModel.from_pretrained(model).eval()

            def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
                return self.whole(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

        ids = torch.randint(5, 100, (2, 16))
        names = ["input_ids", "attention_mask", "last_hidden_state"]
        staged = out.with_suffix(".part")
        torch.onnx.export(
            Encoder(),
            (ids, torch.ones_like(ids)),
            staged,
            input_names=names[:2],
            output_names=names[2:],
            dynamic_axes={name: {0: "batch", 1: "sequence"} for name in names},
            opset_version=17,
            dynamo=False,
        )
        staged.rename(out)
    return out


def ort_fused(model: Path, heads: int, hidden: int) -> Path:
    """ONNX Runtime's own transformer optimizer on the plain export."""
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


def optimum_int8(model: Path, texts: list[str] | None = None) -> Path:
    """Optimum's int8 for AVX-512 VNNI, by channel: dynamic, or static where `texts` to calibrate on are given."""
    plain = optimum(model, None).parent
    out = plain.parent / ("optimum-int8-static" if texts else "optimum-int8-dynamic")
    if not (out / "model_quantized.onnx").is_file():
        worker = Path(__file__).parent / "optimum_int8.py"
        command = [environments.python_of("optimum"), worker, plain, model, out]
        text = "\n".join(texts or [])
        subprocess.run(command, check=True, capture_output=True, input=text, text=True, env=optimum_environment())
    return out / "model_quantized.onnx"


def ort_dynamic(model: Path, *, per_channel: bool) -> Path:
    """ONNX Runtime's own `quantize_dynamic` on its fused graph: what its documentation recommends for transformers."""
    plain = optimum(model, None)
    out = plain.parent.parent / f"ort-dynamic-{'channel' if per_channel else 'tensor'}" / "model.onnx"
    if not out.is_file():
        out.parent.mkdir(parents=True, exist_ok=True)
        code = (
            "import sys; from onnxruntime.quantization import QuantType, quantize_dynamic; "
            "quantize_dynamic(sys.argv[1], sys.argv[2], per_channel=sys.argv[3] == 'True', weight_type=QuantType.QInt8)"
        )
        command = [environments.python_of("optimum"), "-c", code, plain, out, str(per_channel)]
        subprocess.run(command, check=True, capture_output=True)
    return out


def int8_peers(model: Path, texts: list[str]) -> list[Peer]:
    """Every peer's int8, its artifact made."""
    onnx_python = environments.python_of("optimum")
    ct2 = environments.python_of("ctranslate2")
    return [
        Peer("ONNX Runtime dynamic", "onnx", onnx_python, ort_dynamic(model, per_channel=False)),
        Peer("ONNX Runtime dynamic, by channel", "onnx", onnx_python, ort_dynamic(model, per_channel=True)),
        Peer("Optimum dynamic", "onnx", onnx_python, optimum_int8(model)),
        Peer("Optimum static", "onnx", onnx_python, optimum_int8(model, texts)),
        Peer("CTranslate2 int8", "ctranslate2_int8", ct2, ctranslate2(model)),
    ]


def all_peers(model: Path, heads: int, hidden: int) -> list[Peer]:
    """Every peer, its artifact made. The same ONNX Runtime runs all ONNX files."""
    onnx_python = environments.python_of("optimum")
    plain = optimum(model, None)
    return [
        Peer("Optimum O2", "onnx", onnx_python, optimum(model, "O2")),
        Peer("Optimum O3", "onnx", onnx_python, optimum(model, "O3")),
        Peer("ONNX Runtime fused", "onnx", onnx_python, ort_fused(model, heads, hidden)),
        Peer("ONNX Runtime plain", "onnx", onnx_python, plain),
        Peer("OpenVINO", "openvino_float32", environments.python_of("openvino"), plain),
        Peer("CTranslate2", "ctranslate2", environments.python_of("ctranslate2"), ctranslate2(model)),
    ]
