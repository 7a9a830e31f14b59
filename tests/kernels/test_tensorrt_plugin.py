"""Declaration check, not execution: TensorRT's own decorators and templates take the plugins, on the lean bindings, without a GPU.

What those bindings lack (two names) and what a build would bring (dimension expressions, here integers that count themselves out)
stands in for it. The PTX that the plugins return is checked by the assembler; no engine is built, no kernel runs.
"""

import re
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton is published for Linux only")
pytest.importorskip("tensorrt_lean_bindings", reason="the lean bindings are published for Linux on x86-64 only")

import onnx_ir as ir
import tensorrt_lean_bindings as lean

from headway.kernels import tensorrt_plugin as plugins
from headway.kernels.triton import build as builder
from headway.kernels.triton.configs import AttentionConfig, SoftmaxConfig

ARCH = 80


class Dimension:
    """A dimension expression whose value is known; `dynamic` where TensorRT would not know it when it builds."""

    def __init__(self, value: int, dynamic: bool = False) -> None:
        self.value, self.dynamic = value, dynamic

    def is_constant(self) -> bool:
        return not self.dynamic

    def get_constant_value(self) -> int:
        assert not self.dynamic
        return self.value


class Arithmetic:
    """TensorRT's builder of expressions."""

    def constant(self, value: int) -> Dimension:
        return Dimension(value)

    def operation(self, op: Any, a: Dimension, b: Dimension) -> Dimension:
        results = {
            "SUM": a.value + b.value, "SUB": a.value - b.value, "PROD": a.value * b.value,
            "FLOOR_DIV": a.value // (b.value or 1), "CEIL_DIV": -(-a.value // (b.value or 1)),
        }  # fmt: skip
        return Dimension(results[op.name], a.dynamic or b.dynamic)


@pytest.fixture(scope="module")
def trtp() -> Iterator[Any]:
    """`tensorrt.plugin`, with all our plugins registered."""
    patch = pytest.MonkeyPatch()
    patch.setattr(lean, "ITensor", type("ITensor", (), {}), raising=False)
    patch.setattr(lean, "TensorFormat", SimpleNamespace(LINEAR="LINEAR"), raising=False)
    patch.setattr(lean, "IDimensionExpr", Dimension)
    patch.setattr(plugins, "architecture", lambda: ARCH)
    patch.setitem(sys.modules, "tensorrt", lean)
    import tensorrt_lean_bindings.plugin as module

    patch.setitem(sys.modules, "tensorrt.plugin", module)
    patch.setattr(lean, "plugin", module, raising=False)
    assert plugins.register() == plugins.OPS
    assert plugins.register() == plugins.OPS
    yield module
    patch.undo()


def described(trtp: Any, dtype: str, *shape: int | str) -> Any:
    """Return a tensor as a build describes it; a size given as text is dynamic."""
    desc = trtp.TensorDesc()
    desc.dtype = getattr(lean.DataType, dtype)
    desc.shape_expr = trtp.ShapeExprs(len(shape))
    for i, size in enumerate(shape):
        desc.shape_expr[i] = trtp.ShapeExpr(Dimension(int(size), isinstance(size, str)))
    desc._immutable = True
    return desc


def launched(
    trtp: Any, op: str, inputs: list[tuple[Any, ...]], attributes: dict[str, Any], tactic: int
) -> dict[str, Any]:
    """Return what the engine would launch, with every expression counted out."""
    from tensorrt_lean_bindings.plugin import _lib, _tensor

    definition = _lib.QDP_REGISTRY[f"headway::{op}"]
    _tensor.SymIntExpr._exprBuilder = Arithmetic()
    try:
        descs = [described(trtp, *each) for each in inputs]
        out = definition.register_func(*descs, **attributes)
        assert out.dtype == descs[0].dtype
        assert [e._expr.value for e in out.shape_expr] == [int(n) for n in inputs[0][1:]]
        # TensorRT's template passes every attribute, in the order of registration.
        name, ptx, launch, extra = definition.aot_impl_func(*descs, *attributes.values(), (out,), tactic)
    finally:
        _tensor.SymIntExpr._exprBuilder = None
    assert isinstance(launch, trtp.KernelLaunchParams)
    assert all(isinstance(e, trtp.SymInt32) for e in extra)
    sizes = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_mem")
    values = {n: getattr(launch, n)._expr.value for n in sizes}
    return values | {"name": name, "ptx": ptx, "extra": [e._expr.value for e in extra]}


def parameters(ptx: str) -> list[str]:
    entry = re.search(r"\.entry \w+\((.*?)\)\n", ptx, re.DOTALL)
    assert entry is not None
    return re.findall(r"\.param \.(\w+) ", entry[1])


def test_tensorrt_knows_the_plugins(trtp: Any) -> None:
    registry = lean.get_plugin_registry()
    for op in plugins.OPS:
        creator = registry.get_creator(op, "1", "headway")
        assert creator is not None
        wanted = ["scale", "longest"] if "Softmax" in op else ["heads", "head_dim", "scale", "causal"]
        assert [f.name for f in creator.field_names] == wanted
        from tensorrt_lean_bindings.plugin._lib import QDP_REGISTRY

        definition = QDP_REGISTRY[f"headway::{op}"]
        assert definition.aot_impl_func is not None
        assert definition.impl_func is None  # nothing that would need Python at run time
        assert definition.aot_impl_attr_names == wanted


def test_tensorrt_makes_a_plugin_of_a_nodes_attributes(trtp: Any) -> None:
    creator = lean.get_plugin_registry().get_creator("PackedAttention", "1", "headway")
    fields = lean.PluginFieldCollection(
        [
            lean.PluginField("heads", np.array([12], np.int32), lean.PluginFieldType.INT32),
            lean.PluginField("head_dim", np.array([32], np.int32), lean.PluginFieldType.INT32),
            lean.PluginField("scale", np.array([0.25], np.float32), lean.PluginFieldType.FLOAT32),
            lean.PluginField("causal", np.array([0], np.int32), lean.PluginFieldType.INT32),
        ]
    )
    ask = lean.QuickPluginCreationRequest.STRICT_AOT
    plugin = creator.create_plugin("PackedAttention", "headway", fields, lean.TensorRTPhase.BUILD, ask)
    assert type(plugin).__name__ == "_TemplateAOTPlugin"
    assert plugin.attrs == {"heads": 12, "head_dim": 32, "scale": 0.25, "causal": 0}
    half, integer = lean.DataType.HALF, lean.DataType.INT32
    assert plugin.get_output_data_types([half, half, half, integer], [2, 2, 2, 1]) == [half]


def test_a_wrong_declaration_is_noticed(trtp: Any) -> None:
    """The validation that our declarations pass is one that fails."""

    def describe(x: trtp.TensorDesc, scale: float) -> trtp.TensorDesc:
        return x.like()

    trtp.register("headway_test::Wrong", lazy_register=True)(describe)
    with pytest.raises(ValueError, match="does not match the expected input arg schema"):
        trtp.aot_impl("headway_test::Wrong")(lambda x, scale, outputs: None)
    with pytest.raises(ValueError, match="No return annotation"):
        trtp.aot_impl("headway_test::Wrong")(lambda x, scale, outputs, tactic: None)


@pytest.mark.parametrize("op", plugins.OPS)
def test_types_and_tiles_that_tensorrt_tries(trtp: Any, op: str) -> None:
    from tensorrt_lean_bindings.plugin._lib import QDP_REGISTRY

    definition = QDP_REGISTRY[f"headway::{op}"]
    count = len(definition.input_tensor_names)
    attributes = (1.0, 512) if "Softmax" in op else (2, 64, 1.0, 0)
    tried = definition.autotune_func(*[None] * count, *attributes, None)
    combinations = [c for each in tried for c in each._get_combinations()]
    assert [c.types[0].name for c in combinations] == ["HALF", "BF16", "FLOAT"]
    for c in combinations:
        floating = [t for t in c.types if t != lean.DataType.INT32]
        assert set(floating) == {c.types[0]}
        assert len(c.types) == count + 1
        assert ("Attention" in op) == (c.types[3:4] == [lean.DataType.INT32])
        assert len(c.tactics) > 2
        assert min(c.tactics) > 0


def test_packed_attention_launch(trtp: Any) -> None:
    attributes = {"heads": 3, "head_dim": 32, "scale": 0.25, "causal": 0}
    tactic = next(n for n, t in plugins.attention_tactics(32, False).items() if t == AttentionConfig(64, 32, 4, 2))
    inputs = [("HALF", "130", 96)] * 3 + [("INT32", "6")]
    got = launched(trtp, "PackedAttention", inputs, attributes, tactic)
    # tokens, sequences, padded, three strides, two of the bias
    assert got["extra"] == [130, 5, 0, 96, 96, 96, 0, 0]
    assert (got["grid_x"], got["grid_y"], got["grid_z"]) == (130 // 64 + 5, 3, 1)
    assert (got["block_x"], got["block_y"], got["block_z"]) == (128, 1, 1)
    assert got["name"] == "attention_kernel"
    assert parameters(got["ptx"]) == ["u64"] * 4 + ["u32"] * 8 + ["u64"]
    assert builder.assemble(got["ptx"], f"sm_{ARCH}")[0][:4] == b"\x7fELF"
    assert 0 < got["shared_mem"] <= plugins.SHARED_BYTES
    assert len(plugins.attention_tactics(128, True)) > 3


def test_padded_attention_with_bias_launch(trtp: Any) -> None:
    attributes = {"heads": 2, "head_dim": 16, "scale": 0.25, "causal": 1}
    tactic, tile = next(iter(plugins.attention_tactics(16, True).items()))
    inputs = [("BF16", "7", "33", 32)] * 3 + [("INT32", "7"), ("BF16", 1, 48, 48)]
    got = launched(trtp, "PaddedAttentionBias", inputs, attributes, tactic)
    assert got["extra"] == [7 * 33, 7, 33, 32, 32, 32, 0, 48]
    assert (got["grid_x"], got["grid_y"]) == (7 * -(-33 // tile.block_m), 2)
    assert parameters(got["ptx"]) == ["u64"] * 5 + ["u32"] * 8 + ["u64"]


def test_attention_launch_in_float32(trtp: Any) -> None:
    attributes = {"heads": 2, "head_dim": 128, "scale": 0.25, "causal": 0}
    (tactic, tile), *rest = plugins.attention_tactics(128, True, itemsize=4).items()
    assert len(rest) == 2
    inputs = [("FLOAT", "7", "33", 256)] * 3 + [("INT32", "7"), ("FLOAT", 1, 48, 48)]
    got = launched(trtp, "PaddedAttentionBias", inputs, attributes, tactic)
    assert got["extra"] == [7 * 33, 7, 33, 256, 256, 256, 0, 48]
    assert got["block_x"] == 32 * tile.warps and 0 < got["shared_mem"] <= plugins.SHARED_BYTES
    assert "mma.sync" not in got["ptx"]  # a product of float32 is not one of TF32


def test_softmax_launch(trtp: Any) -> None:
    attributes = {"scale": 0.5, "longest": 512}
    tactic = next(n for n, t in plugins.softmax_tactics(512).items() if t == SoftmaxConfig(4, 4))
    got = launched(
        trtp, "MaskedSoftmaxBias", [("HALF", "5", 12, "40", "40"), ("HALF", "5", 1, 1, "40")], attributes, tactic
    )
    # rows, columns, sizes of two axes, strides of the bias's first three
    assert got["extra"] == [5 * 12 * 40, 40, 12, 40, 40, 0, 0]
    assert (got["grid_x"], got["grid_y"]) == (5 * 12 * 40 // 4, 1)
    assert parameters(got["ptx"]) == ["u64"] * 2 + ["u32"] * 7 + ["u64"]
    bare = launched(trtp, "MaskedSoftmax", [("BF16", "9", 30)], attributes, tactic)
    assert bare["extra"][:4] == [9, 30, 1, 9]
    assert bare["grid_x"] == 3
    assert "ld.global.v4" not in bare["ptx"]
    known = launched(trtp, "MaskedSoftmax", [("BF16", "9", 48)], attributes, tactic)
    assert "ld.global.v4" in known["ptx"]  # columns known to be a multiple of 16: several are read at a time
    assert parameters(bare["ptx"]) == ["u64"] + ["u32"] * 7 + ["u64"]


def test_nodes_for_the_onnx_parser() -> None:
    half = ir.TensorType(ir.DataType.FLOAT16)
    q, k, v, bias = (ir.Value(name=n, type=half, shape=ir.Shape(["tokens", 96])) for n in ("q", "k", "v", "b"))
    cu = ir.Value(name="cu", type=ir.TensorType(ir.DataType.INT32), shape=ir.Shape([None]))
    node = plugins.attention_node([q, k, v, cu], heads=3, head_dim=32, scale=0.25, padded=False, name="attention.0")
    assert (node.op_type, node.domain, node.outputs[0].name) == ("PackedAttention", "headway", "attention.0")
    assert node.outputs[0].shape == q.shape
    written = {a.name: a for a in ir.serde.serialize_node(node).attribute}
    assert (written["aot"].i, written["plugin_namespace"].s) == (1, b"headway")
    assert (written["heads"].i, written["head_dim"].i, written["causal"].i) == (3, 32, 0)
    assert written["scale"].f == 0.25
    wide = plugins.attention_node([q, k, v, cu, bias], heads=3, head_dim=32, scale=1, padded=True, name="a")
    assert wide.op_type == "PaddedAttentionBias"
    assert plugins.softmax_node([q], scale=1, longest=96, name="s").op_type == "MaskedSoftmax"
    assert plugins.softmax_node([q, bias], scale=1, longest=96, name="s").op_type == "MaskedSoftmaxBias"
    with pytest.raises(ValueError, match="PackedAttention takes 4 inputs, not 3"):
        plugins.attention_node([q, k, v], heads=3, head_dim=32, scale=1, padded=False, name="a")
