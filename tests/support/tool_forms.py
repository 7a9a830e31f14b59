"""One tiny classifier in the forms in which other tools write it, and what has to hold of each when it is read."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from headway.exporter.capture.base import Captured
from headway.exporter.capture.capture import canonical_of, capture
from headway.exporter.capture.forms.base import Reading
from headway.exporter.capture.onnx_forms import read_forms
from headway.exporter.graph.anatomy import describe, read_anatomy
from headway.exporter.graph.edit import constant, consumers, scalar
from headway.exporter.source.source import open_source

RNG = np.random.default_rng(0)
MASK = np.array([[1] * 9, [1] * 5 + [0] * 4, [1] * 7 + [0] * 2])
FEEDS = {"input_ids": RNG.integers(5, 99, MASK.shape), "attention_mask": MASK}
Make = Callable[[Path, Path], None]
"""Writes one form of a file: from the float file to the other."""


def form_of(plain: Path, folder: Path, make: Make) -> Path:
    """Return a file made of the float file `plain`, with its config and tokenizer beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in plain.parent.iterdir():
        if file.is_file() and file.suffix in (".json", ".txt"):
            shutil.copy(file, folder)
    make(plain, folder / "model.onnx")
    return folder / "model.onnx"


def dynamic(**options: object) -> Make:
    """ONNX Runtime's dynamic quantization."""

    def make(plain: Path, out: Path) -> None:
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(str(plain), str(out), **options)  # type: ignore[arg-type]

    return make


def static(form: str, **options: object) -> Make:
    """ONNX Runtime's static quantization, `QDQ` or `QOperator`."""

    def make(plain: Path, out: Path) -> None:
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

        class Reader(CalibrationDataReader):
            def __init__(self) -> None:
                self.left = iter([FEEDS])

            def get_next(self) -> dict:
                return next(self.left, None)  # type: ignore[return-value]

        quantize_static(str(plain), str(out), Reader(), quant_format=QuantFormat[form], **options)  # type: ignore[arg-type]

    return make


def blocks(**options: object) -> Make:
    """Weights in blocks, by ONNX Runtime's tool for MatMulNBits."""

    def make(plain: Path, out: Path) -> None:
        from onnxruntime.quantization import QuantFormat
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        if options.pop("pairs", False):
            options["quant_format"] = QuantFormat.QDQ
        tool = MatMulNBitsQuantizer(onnx.load(plain), **options)  # type: ignore[arg-type]
        tool.process()
        tool.model.save_model_to_file(str(out))

    return make


def fused(*, half: bool = False, **options: object) -> Make:
    """ONNX Runtime's optimizer for Transformers."""

    def make(plain: Path, out: Path) -> None:
        from onnxruntime.transformers import optimizer
        from onnxruntime.transformers.fusion_options import FusionOptions

        chosen = FusionOptions("bert")
        for name, value in options.items():
            setattr(chosen, name, value)
        sizes = json.loads((plain.parent / "config.json").read_text())
        model = optimizer.optimize_model(
            str(plain),
            model_type="bert",
            num_heads=sizes["num_attention_heads"],
            hidden_size=sizes["hidden_size"],
            opt_level=0,
            optimization_options=chosen,
        )
        if half:
            model.convert_float_to_float16(keep_io_types=False)
        model.save_model_to_file(str(out))

    return make


def read(path: Path) -> tuple[Captured, ir.Model]:
    """Return what is captured of a file, and its canonical graph."""
    captured = capture(open_source(str(path)))
    return captured, canonical_of(captured).model


def run(model: ir.Model, feeds: dict[str, np.ndarray] | None = None) -> np.ndarray:
    """Return the first output of a graph as it is written, in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    feeds = feeds or FEEDS
    return session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0]


def file_outputs(path: Path) -> np.ndarray:
    """Return what the file itself gives."""
    return run(ir.load(path)).astype(np.float32)


def anatomy_of(model: ir.Model) -> dict:
    """Return blocks, heads and sizes, without the names of weights."""
    return {k: v for k, v in describe(read_anatomy(model)).items() if k in ("blocks", "vocabulary")}


def integers_of(model: ir.Model) -> dict[str, np.ndarray]:
    """Return the integers of a graph's matrices by name, int16: less their zero point, and with what lookups add to them."""
    graph, found = model.graph, {}
    for name, value in graph.initializers.items():
        array = constant(value)
        if array is None or array.ndim != 2 or value.dtype not in (ir.DataType.INT8, ir.DataType.INT4):
            continue
        levels, zero = array.astype(np.int16), constant(graph.initializers.get(f"{name}_zero_point"))
        if zero is not None:
            levels = levels - zero.astype(np.int16)
        for cast in (c for g in consumers(value) if g.op_type == "Gather" for c in consumers(g.outputs[0])):
            added = [n for n in consumers(cast.outputs[0]) if n.op_type == "Add"]
            levels = levels + np.int16(scalar(added[0].inputs[1]) or 0) if added else levels
        found[name] = levels
    return found


def levels_in(path: Path) -> list[np.ndarray]:
    """Return the integers less their zero points of every 8-bit matrix of a file, int16."""
    arrays = {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}
    found = []
    for name, array in arrays.items():
        zero = arrays.get(f"{name.removesuffix('_quantized')}_zero_point")
        if array.ndim == 2 and array.dtype in (np.int8, np.uint8) and zero is not None:
            found.append(
                array.astype(np.int16) - (zero.astype(np.int16) if zero.size == 1 or zero.any() else np.int16(0))
            )
    return found


def same_integers(model: ir.Model, path: Path) -> int:
    """Check that each matrix of integers in a canonical graph is one of the file, code by code; return how many there are."""
    known = {
        a.tobytes() for array in levels_in(path) for a in (np.ascontiguousarray(array), np.ascontiguousarray(array.T))
    }
    held = integers_of(model)
    assert not [name for name, levels in held.items() if np.ascontiguousarray(levels).tobytes() not in known]
    return len(held)


def one_node(
    node: onnx.NodeProto,
    inputs: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
    outputs: int = 1,
    opset: int = 17,
) -> ir.Model:
    """Return a model of one operator over inputs like the arrays given."""
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), [f"{n}{i}" for i in range(a.ndim)])
        for n, a in inputs.items()
    ]
    graph = helper.make_graph(
        [node],
        "one",
        infos,
        [helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in node.output[:outputs]],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in weights.items()],
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return ir.from_proto(helper.make_model(graph, opset_imports=imports, ir_version=10))


def as_read(model: ir.Model) -> Reading:
    """Return a copy of a model as the readers of forms leave it."""
    return read_forms(ir.from_proto(ir.to_proto(model)), Path("m.onnx"))


def check_one(
    node: onnx.NodeProto,
    inputs: dict[str, np.ndarray],
    weights: dict[str, np.ndarray],
    *,
    tolerance: float = 1e-5,
    opset: int = 17,
) -> Reading:
    """Check that one operator, rewritten, gives what ONNX Runtime makes of it; return the reading."""
    model = one_node(node, inputs, weights, opset=opset)
    reading = as_read(model)
    assert not [n for n in reading.graph if n.domain == "com.microsoft"]
    np.testing.assert_allclose(run(reading.model, inputs), run(model, inputs), atol=tolerance, rtol=tolerance)
    return reading


def refuse_one(
    match: str, node: onnx.NodeProto, inputs: dict[str, np.ndarray], weights: dict[str, np.ndarray], opset: int = 17
) -> None:
    """Check that one operator is refused with a sentence that names it."""
    from headway.errors import SourceError

    with pytest.raises(SourceError, match=f"m.onnx: node '{node.name}' .{node.op_type}.: .*{match}"):
        as_read(one_node(node, inputs, weights, opset=opset))
