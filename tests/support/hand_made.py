"""Small graphs made by hand: one attention in each form in which exporters write it, and what it computes in numpy."""

import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

HEADS, HEAD_DIM = 2, 4
WIDTH = HEADS * HEAD_DIM


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})


def load(
    nodes: list, weights: dict[str, np.ndarray], outputs: list[str], opset: int = 23, mask: bool = True
) -> ir.Model:
    """Return a model over input_ids and attention_mask, `[batch, sequence]`, with shapes inferred."""
    names = ["input_ids", "attention_mask"] if mask else ["input_ids"]
    graph = helper.make_graph(
        nodes,
        "hand-made",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in names],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)], ir_version=10
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def decomposed(scale_form: str, mask_form: str, seed: int) -> ir.Model:
    """One attention, written out in one of the ways exporters do."""
    n, rng = helper.make_node, np.random.default_rng(seed)
    f32 = np.float32
    weights: dict[str, np.ndarray] = {
        "table": rng.normal(size=(50, WIDTH)).astype(f32),
        "split": np.array([0, 0, HEADS, HEAD_DIM]),
        "join": np.array([0, 0, WIDTH]),
        "one": f32(1),
        "low": f32(-1e9),
        "axes": np.array([1, 2]),
        "scale": f32(0.5),
        "inverse": f32(2),
        "root": f32(math.sqrt(0.5)),
        "zero": f32(0),
    }
    nodes = [n("Gather", ["table", "input_ids"], ["x"])]
    for name in "qkv":
        weights |= {
            f"{name}.weight": rng.normal(size=(WIDTH, WIDTH)).astype(f32),
            f"{name}.bias": rng.normal(size=WIDTH).astype(f32),
        }
        perm = [0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]
        nodes += [
            n("MatMul", ["x", f"{name}.weight"], [f"{name}m"]),
            n("Add", [f"{name}m", f"{name}.bias"], [f"{name}3"]),
            n("Reshape", [f"{name}3", "split"], [f"{name}4"]),
            n("Transpose", [f"{name}4"], [f"{name}h"], perm=perm),
        ]
    if scale_form == "both":
        nodes += [n("Mul", ["qh", "root"], ["qs"]), n("Mul", ["kh", "root"], ["ks"]), n("MatMul", ["qs", "ks"], ["s0"])]
    else:
        nodes += [
            n("MatMul", ["qh", "kh"], ["raw"]),
            n("Mul", ["raw", "scale"], ["s0"]) if scale_form == "mul" else n("Div", ["raw", "inverse"], ["s0"]),
        ]
    if mask_form == "add":
        nodes += [
            n("Cast", ["attention_mask"], ["f"], to=1),
            n("Sub", ["one", "f"], ["d"]),
            n("Mul", ["d", "low"], ["m"]),
            n("Unsqueeze", ["m", "axes"], ["bias"]),
            n("Add", ["s0", "bias"], ["s1"]),
        ]
    else:
        nodes += [n("Cast", ["attention_mask"], ["bm"], to=9), n("Unsqueeze", ["bm", "axes"], ["keep"])]
        nodes += (
            [n("Where", ["keep", "s0", "low"], ["s1"])]
            if mask_form == "keep"
            else [n("Not", ["keep"], ["drop"]), n("Where", ["drop", "low", "s0"], ["s1"])]
        )
    nodes += [
        n("Softmax", ["s1"], ["p0"], axis=-1),
        n("IsNaN", ["p0"], ["nan"]),
        n("Where", ["nan", "zero", "p0"], ["p"]),
        n("MatMul", ["p", "vh"], ["o4"]),
        n("Transpose", ["o4"], ["ot"], perm=[0, 2, 1, 3]),
        n("Reshape", ["ot", "join"], ["out"]),
    ]
    return load(nodes, weights, ["out"])


def reference(model: ir.Model, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the same attention in float64, from its definition: softmax(Q K^T / 2 + mask) V."""
    w = {k: v.const_value.numpy().astype(np.float64) for k, v in model.graph.initializers.items()}  # type: ignore[union-attr]
    x = w["table"][ids]
    q, k, v = (
        (x @ w[f"{p}.weight"] + w[f"{p}.bias"]).reshape(*ids.shape, HEADS, HEAD_DIM).transpose(0, 2, 1, 3)
        for p in "qkv"
    )
    scores = 0.5 * q @ k.swapaxes(-1, -2) + np.where(mask, 0, -np.inf)[:, None, None, :]
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return ((p / p.sum(-1, keepdims=True)) @ v).transpose(0, 2, 1, 3).reshape(*ids.shape, WIDTH)
