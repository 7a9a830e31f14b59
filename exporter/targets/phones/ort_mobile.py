"""ONNX Runtime on phones: the graph of target `ort` in ORT format (`.ort`), and what a reduced build of the runtime needs.

Nothing optimizes a `.ort` file when it is loaded, so every fusion has to be made here. The lowering of target `ort` leaves few; the
runtime's own optimizer then runs up to its level "extended". It is kept from layouts that only x86 has, and from folding constants,
which would turn int8 and float16 weights into float32. With `graph_optimization: device` its changes are recorded in the file
instead, and the runtime replays them on the phone, where accelerators may take whole nodes.

Weights of int8 matmuls are stored as uint8 around 128. No session entry could make sums of int8 weights exact on old x86 processors
here. Arm has instructions for both.

A second export gives the same nodes and tensors, but not the same bytes: the runtime writes one list (which types operators
constrain) in the order of a hash with a random seed.

`dtype: fp16` stores weights and embeddings as float16. Rows of embeddings are cast when they are looked up, weights in every run,
since nothing folds them when the file is loaded. The file has half the bytes and is slower: `python -m benchmarks.mobile` measures it.
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
from ...recipe.recipe import Recipe
from ..base import TargetSpec
from ..ort.target import MODEL_FILE as ONNX_FILE
from ..ort.target import SLOW_FUSIONS, OrtTarget, files, lower, write
from .ort_format import OrtFile, check_operators, full_build, lacks, read_ort

MODEL_FILE = "model.ort"
OPERATORS_FILE = "required_operators_and_types.config"
SPEC = TargetSpec("ort-mobile", neuron_multiple=16, rank_multiple=16)
_FOLDING = "ConstantFolding"
_REPLAY = "session.enable_saved_runtime_optimizations"


@dataclass(frozen=True)
class OrtMobileTarget(OrtTarget):
    """Target `ort-mobile`. `optimized`: optimizations are "baked" into the file, or recorded in it for the "device"."""

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
        return lower(model, anatomy, unsigned=True).as_dict()

    def build(self, model: ir.Model, directory: Path, text: object = None) -> None:
        """Write `model.ort` and `required_operators_and_types.config`. Raise TargetError for a node without a kernel on phones."""
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

    def record(self, directory: Path) -> dict[str, Any]:
        """Return bytes by kind, operators, and the size of the runtime here."""
        file = read_ort(directory / MODEL_FILE)
        return {
            "dtype": self.precision,
            "graph_optimization": self.optimized,
            "sizes": sizes(file, (directory / MODEL_FILE).stat().st_size),
            "operators": file.operators(),
            "runtime": runtime_size(),
        }

    def _write_operators(self, directory: Path) -> None:
        """Write the configuration for `--include_ops_by_config` with type reduction, by ONNX Runtime's own tool."""
        from onnxruntime.tools.ort_format_model import create_config_from_models

        models = [directory / MODEL_FILE]
        if self.optimized == "device":  # the phone also needs what the replay makes
            models.append(directory / "replayed.ort")
            convert(directory / ONNX_FILE, models[-1], "apply")
        path = directory / OPERATORS_FILE
        create_config_from_models(models, path, True)
        lines = path.read_text(encoding="utf-8").splitlines()
        settings = [line for line in lines if not line.startswith("#")]  # the comment holds this machine's paths
        path.write_text(f"# what {MODEL_FILE} needs\n" + "\n".join(settings) + "\n", encoding="utf-8")
        for extra in models[1:]:
            extra.unlink()


def ort_mobile_target(recipe: Recipe) -> OrtMobileTarget:
    """Return the target that a recipe describes."""
    assert recipe.dtype != "bf16"
    return OrtMobileTarget(precision=recipe.dtype, optimized=recipe.graph_optimization)


def convert(source: Path, target: Path, optimized: Literal["baked", "device", "apply"]) -> None:
    """Write an `.onnx` file in ORT format; "apply": as the replay on the device would. Raise what ONNX Runtime raises."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.optimized_model_filepath = str(target)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    settings.add_session_config_entry("session.save_model_format", "ORT")
    settings.add_session_config_entry("session.qdqisint8allowed", "1")  # ARM multiplies int8 by int8 as fast
    settings.add_session_config_entry(
        "session.qdq_matmulnbits_accuracy_level", "1"
    )  # activations stay float, as in the graph
    if optimized != "baked":
        how = "save" if optimized == "device" else "apply"
        settings.add_session_config_entry("optimization.minimal_build_optimizations", how)
    onnxruntime.InferenceSession(
        str(source),
        settings,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=[*SLOW_FUSIONS, _FOLDING],
    )


def sizes(file: OrtFile, total: int) -> dict[str, int]:
    """Return bytes of a file by kind; `structure` is all that is no tensor: nodes, names, types."""
    kinds = file.kinds()
    return {**kinds, "structure": total - sum(kinds.values()), "total": total}


def runtime_size() -> dict[str, Any] | None:
    """Return the bytes of the shared library in this installation's wheel, a full build; None where it lies elsewhere.

    This estimates what the library adds to an app: the one for phones is built from the same source for another processor. A build
    reduced to `required_operators_and_types.config` is smaller; by how much is known only once it is built.
    """
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = next((p for pattern in ("libonnxruntime.so*", "*.dylib") for p in sorted(folder.glob(pattern))), None)
    if library is None:
        return None
    return {"bytes": library.stat().st_size, "of": f"{library.name}, full build of the wheel {onnxruntime.__version__}"}


def _explain(graph: ir.Graph) -> None:
    """Raise the error that names the first node without a kernel, where there is one."""
    known = {(domain, op_type) for domain, op_type in full_build().kernels}
    for node in graph.all_nodes():
        if (node.domain, node.op_type) not in known:
            module = module_of(node) or str(node.outputs[0].name)
            raise lacks(str(node.name), module, f"{node.domain or 'ai.onnx'}.{node.op_type}")
