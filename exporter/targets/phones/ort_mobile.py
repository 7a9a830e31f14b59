"""ONNX Runtime on phones: the graph of target `ort`, written in ORT format (`.ort`), and what a reduced build of the runtime needs.

A `.ort` file is run as it stands: no optimizer sees it when it is loaded, so what is to be fused has to be fused here. The
lowering of target `ort` leaves little to find; the runtime's own optimizer then goes up to its level "extended", without layouts
that only x86 has, without the sums of bytes that only old x86 processors need, and without folding constants, which would
unfold int8 and float16 weights to float32. With `graph_optimization: device` the rest is recorded instead, and
replayed by the runtime on the phone, which leaves whole nodes to accelerators there.

Made again, a file has the same nodes and tensors, but not the same bytes: the runtime writes one table (which types operators
constrain) in the order of a hash with a random seed.

`dtype: fp16` stores matrices and tables as float16; rows are cast when they are looked up, matrices in every run, since
nothing folds them when the file is loaded. It is half the bytes, and slower (`python -m benchmarks.mobile` measures by how much).
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir
import onnxruntime

from ....errors import TargetError
from ...graph.anatomy import Anatomy
from ...graph.edit import module_of
from ...passes.quantize import StoreHalf
from ..base import TargetSpec
from ..ort.target import MODEL_FILE as ONNX_FILE
from ..ort.target import SLOW_FUSIONS, OrtTarget, files, write
from .ort_format import OrtFile, check_operators, full_build, lacks, read_ort

MODEL_FILE = "model.ort"
OPERATORS_FILE = "required_operators_and_types.config"
SPEC = TargetSpec("ort-mobile", neuron_multiple=16, rank_multiple=16)
_FOLDING = "ConstantFolding"
_REPLAY = "session.enable_saved_runtime_optimizations"


@dataclass(frozen=True)
class OrtMobileTarget(OrtTarget):
    """Target `ort` in ORT format. `optimized`: "baked" into the file, or recorded in it for the "device"."""

    spec: TargetSpec = SPEC
    artifact: str = MODEL_FILE
    precision: Literal["fp32", "fp16"] = "fp32"
    optimized: Literal["baked", "device"] = "baked"
    dtype: str = field(init=False, default="float32")

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", "float16" if self.precision == "fp16" else "float32")

    def lower(self, model: ir.Model, anatomy: Anatomy, text: object = None) -> dict[str, int]:
        if self.precision == "fp16":
            StoreHalf()(model)
        return super().lower(model, anatomy)

    def build(self, model: ir.Model, directory: Path, text: object = None) -> None:
        """Writes `model.ort` and `required_operators_and_types.config`. TargetError names a node that phones have no kernel for."""
        model.producer_name = "headway"
        write(model, directory)
        try:
            convert(directory / ONNX_FILE, directory / MODEL_FILE, self.optimized)
        except Exception as error:  # onnxruntime raises its own unrelated exception types
            _explain(model.graph)
            raise TargetError(f"ONNX Runtime {onnxruntime.__version__} cannot write the graph: {error}") from error
        check_operators(read_ort(directory / MODEL_FILE), full_build())
        self._write_operators(directory)
        for file in files(directory):
            file.unlink()

    def files(self, directory: Path) -> list[Path]:
        return [p for p in (directory / MODEL_FILE,) if p.is_file()]

    def options(self, *, regroup: bool) -> dict[str, Any]:
        config = {_REPLAY: "1"} if self.optimized == "device" else {}
        return {"graph_optimization_level": "all", "regroup": regroup, "config": config}

    def record(self, directory: Path) -> dict[str, Any]:  # type: ignore[override]
        """Bytes by kind, operators, and how large the runtime is that they were estimated from."""
        found = read_ort(directory / MODEL_FILE)
        return {
            "dtype": self.precision,
            "graph_optimization": self.optimized,
            "sizes": sizes(found, (directory / MODEL_FILE).stat().st_size),
            "operators": found.operators(),
            "runtime": runtime_size(),
        }

    def _write_operators(self, directory: Path) -> None:
        """The configuration for `--include_ops_by_config` with type reduction, by ONNX Runtime's own tool."""
        from onnxruntime.tools.ort_format_model import create_config_from_models

        models = [directory / MODEL_FILE]
        if self.optimized == "device":  # what replaying on the phone would make is needed as well
            models.append(directory / "replayed.ort")
            convert(directory / ONNX_FILE, models[-1], "apply")
        path = directory / OPERATORS_FILE
        create_config_from_models(models, path, True)
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not line.startswith("#")]  # the comment holds this machine's paths
        path.write_text(f"# what {MODEL_FILE} needs\n" + "\n".join(kept) + "\n", encoding="utf-8")
        for extra in models[1:]:
            extra.unlink()


def convert(source: Path, target: Path, optimized: Literal["baked", "device", "apply"]) -> None:
    """Writes an `.onnx` file in ORT format; "apply": as replaying on the device would. Raises what ONNX Runtime raises."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(target)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.add_session_config_entry("session.save_model_format", "ORT")
    settings.add_session_config_entry("session.qdqisint8allowed", "1")  # ARM multiplies int8 by int8 as fast
    if optimized != "baked":
        how = "save" if optimized == "device" else "apply"
        settings.add_session_config_entry("optimization.minimal_build_optimizations", how)
    onnxruntime.InferenceSession(
        str(source),
        settings,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[*SLOW_FUSIONS, _FOLDING],
    )


def sizes(found: OrtFile, total: int) -> dict[str, int]:
    """Bytes of a file by kind; `structure` is what no tensor takes: nodes, names, types."""
    kinds = found.kinds()
    return {**kinds, "structure": total - sum(kinds.values()), "total": total}


def runtime_size() -> dict[str, Any] | None:
    """Bytes of the shared library in this installation's wheel, a full build; None where it lies elsewhere.

    An estimate of what the library adds to an app: phones' are built from the same source for another processor. A build
    reduced to `required_operators_and_types.config` is smaller; by how much is known once it is built.
    """
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = next((p for pattern in ("libonnxruntime.so*", "*.dylib") for p in sorted(folder.glob(pattern))), None)
    if library is None:
        return None
    return {"bytes": library.stat().st_size, "of": f"{library.name}, full build of the wheel {onnxruntime.__version__}"}


def _explain(graph: ir.Graph) -> None:
    """Raises the error that names the first node without a kernel, where that is the reason."""
    known = {(domain, op_type) for domain, op_type in full_build().kernels}
    for node in graph.all_nodes():
        if (node.domain, node.op_type) not in known:
            module = module_of(node) or str(node.outputs[0].name)
            raise lacks(str(node.name), module, f"{node.domain or 'ai.onnx'}.{node.op_type}")
