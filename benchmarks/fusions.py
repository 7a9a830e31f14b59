"""Which of ONNX Runtime's fused operators pay on this CPU: each against the operators it replaces, paired.

    python -m benchmarks.fusions

The ONNX Runtime target makes those that pay, and keeps the runtime from making the others.
"""

from collections.abc import Callable

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table

from headway.exporter.bench.measure import Case, Contestant, machine, measure

from .results import save

BATCH, LENGTH, HIDDEN, HEADS, WIDTH = 8, 128, 384, 12, 1536
MS = "com.microsoft"


def session(nodes: list, weights: dict[str, np.ndarray], width: int) -> Callable[[dict], object]:
    """Run hand-made nodes from `x` (and `y`) to `out` on one thread, nothing fused behind our back."""
    shape = ["b", "s", width]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in ("x", "y")]
    inputs.append(helper.make_tensor_value_info("mask", TensorProto.INT32, ["b", "s"]))
    graph = helper.make_graph(
        nodes, "g", inputs, [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(MS, 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    off = ["SkipLayerNormFusion", "BiasGeluFusion", "MatMulAddFusion"]
    opened = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], disabled_optimizers=off)
    return lambda feeds: opened.run(None, {i.name: feeds[i.name] for i in opened.get_inputs()})


def pairs() -> dict[str, tuple[int, list, list, dict[str, np.ndarray]]]:
    """Name → width, fused nodes, plain nodes, weights."""
    n, rng = helper.make_node, np.random.default_rng(0)
    f32 = np.float32
    ones, zeros = np.ones(HIDDEN, f32), np.zeros(HIDDEN, f32)
    parts = {f"w{p}": rng.normal(0, 0.05, (HIDDEN, HIDDEN)).astype(f32) for p in "qkv"} | {
        f"b{p}": zeros for p in "qkv"
    }
    merged = {"w": np.concatenate([parts[f"w{p}"] for p in "qkv"], 1), "b": np.zeros(3 * HIDDEN, f32)}
    apart = [x for p in "qkv" for x in (n("MatMul", ["x", f"w{p}"], [f"m{p}"]), n("Add", [f"m{p}", f"b{p}"], [p]))]
    scale = HEADS / HIDDEN
    heads = {"num_heads": HEADS, "domain": MS, "scale": float(np.sqrt(scale))}
    return {
        "SkipLayerNormalization": (
            HIDDEN, [n("SkipLayerNormalization", ["x", "y", "g", "z"], ["out"], domain=MS)],
            [n("Add", ["x", "y"], ["a"]), n("LayerNormalization", ["a", "g", "z"], ["out"])], {"g": ones, "z": zeros},
        ),
        "BiasGelu": (
            WIDTH, [n("BiasGelu", ["x", "c"], ["out"], domain=MS)],
            [n("Add", ["x", "c"], ["a"]), n("Gelu", ["a"], ["out"], domain=MS)], {"c": np.zeros(WIDTH, f32)},
        ),
        "Attention with merged projections": (
            HIDDEN, [n("Attention", ["x", "w", "b", "mask"], ["out"], **heads)],
            [*apart, n("MultiHeadAttention", ["q", "k", "v", "", "mask"], ["out"], **heads)], merged | parts,
        ),
        "MultiHeadAttention without a mask": (
            HIDDEN, [n("MultiHeadAttention", ["x", "y", "x"], ["out"], **heads)],
            [n("MultiHeadAttention", ["x", "y", "x", "", "mask"], ["out"], **heads)], {},
        ),
    }  # fmt: skip


def main() -> None:
    rng = np.random.default_rng(1)
    table = Table("fused operator", "fused ms", "plain ms", "plain / fused", "verdict")
    kept: dict[str, object] = {"machine": machine(), "shape": [BATCH, LENGTH, HIDDEN]}
    for name, (width, fused, plain, weights) in pairs().items():
        feeds = {k: rng.normal(size=(BATCH, LENGTH, width)).astype(np.float32) for k in "xy"}
        feeds |= {"mask": np.ones((BATCH, LENGTH), np.int32), "attention_mask": np.ones((BATCH, LENGTH), np.int64)}
        used = [{k: v for k, v in weights.items() if any(k in x.input for x in nodes)} for nodes in (fused, plain)]
        runs = [session(nodes, w, width) for nodes, w in zip((fused, plain), used, strict=True)]
        a, b = (np.asarray(run(feeds)) for run in runs)  # type: ignore[arg-type]
        np.testing.assert_allclose(a, b, atol=1e-4)
        contestants = [Contestant("fused", runs[0]), Contestant("plain", runs[1])]
        case = measure(contestants, {Case(BATCH, LENGTH): feeds}, rounds=41, threads=1).cases[0]
        ratio, low, high = case.ratio("plain")
        verdict = "pays" if low > 1 else "does not pay" if high < 1 else "no difference"
        table.add_row(
            name,
            *(f"{case.percentile(x, 50):.2f}" for x in ("fused", "plain")),
            f"{ratio:.2f} ({low:.2f} to {high:.2f})",
            verdict,
        )
        kept[name] = {"ratio": [ratio, low, high], "verdict": verdict}
    Console(width=140).print(table)
    save("fusions", kept)


if __name__ == "__main__":
    main()
