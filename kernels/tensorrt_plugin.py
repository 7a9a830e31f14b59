"""Run the Triton kernels inside a TensorRT engine: ahead-of-time plugins of the namespace `headway`.

| op | inputs | attributes |
|---|---|---|
| `MaskedSoftmax` | x of one to four axes | scale, longest |
| `MaskedSoftmaxBias` | x, bias of as many axes, each like x's or 1 | the same |
| `PackedAttention` | q, k, v `[tokens, heads * head_dim]`, cu_seqlens int32 `[sequences + 1]` | heads, head_dim, scale, causal |
| `PackedAttentionBias` | the same, bias `[heads or 1, positions, positions]` | the same |
| `PaddedAttention` | q, k, v `[batch, sequence, heads * head_dim]`, lengths int32 `[batch]` | the same |
| `PaddedAttentionBias` | the same, bias | the same |

`reference` defines what each computes. Floating-point inputs and the output have one type: FP16, BF16 or FP32.

`register()` is called once in the process that builds the engine. TensorRT then times the tiles (`tactics`) for the shapes of
the optimization profile and stores the PTX of the fastest in the engine, which runs without Python. Attributes become constants
of the compiled code. What depends on shapes is passed as int32 expressions that TensorRT evaluates. PTX is compiled for the
architecture of the GPU that builds. TensorRT-RTX has no plugins. Shared memory stays within 48 KiB: a kernel that needs more
must be configured before its launch, and TensorRT's documentation does not say that it does so.

Source: TensorRT documentation, Python API, `tensorrt.plugin` (register, autotune, aot_impl).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, Signature
from typing import Any

from .device import architecture

NAMESPACE = "headway"
OPS = (
    "MaskedSoftmax",
    "MaskedSoftmaxBias",
    "PackedAttention",
    "PackedAttentionBias",
    "PaddedAttention",
    "PaddedAttentionBias",
)

_SOFTMAX = {"scale": float, "longest": int}
_ATTENTION = {"heads": int, "head_dim": int, "scale": float, "causal": int}
"""Attributes and their types, in TensorRT's order."""

SHARED_BYTES = 49_152
"""Dynamic shared memory that any kernel may use on any architecture."""


def register() -> tuple[str, ...]:
    """Declare all plugins to TensorRT and return their names. Calling it again is harmless.

    Raises ModuleNotFoundError without tensorrt (10.9 or later) or triton.
    """
    import tensorrt.plugin as trtp
    import triton  # noqa: F401 - a missing compiler is noticed here and not during a build

    if not hasattr(getattr(trtp.op, NAMESPACE, None), OPS[0]):
        for op in OPS:
            _declare(op)
    return OPS


def attention_node(
    inputs: Sequence[Any], *, heads: int, head_dim: int, scale: float, causal: bool = False, padded: bool, name: str
) -> Any:
    """Return the `onnx_ir.Node` with one output called `name` that TensorRT's ONNX parser turns into the plugin.

    `inputs` are the `onnx_ir` values q, k, v, lengths (or cu_seqlens) and, where there is one, the bias.
    """
    op = ("PaddedAttention" if padded else "PackedAttention") + ("Bias" if len(inputs) == 5 else "")
    attributes = {"heads": heads, "head_dim": head_dim, "scale": float(scale), "causal": int(causal)}
    return _node(op, inputs, 4 if op[-4:] != "Bias" else 5, attributes, name)


def softmax_node(inputs: Sequence[Any], *, scale: float, longest: int, name: str) -> Any:
    """Return the node of a softmax of x and, where there is one, the bias. `longest` is the maximal number of columns."""
    op = "MaskedSoftmaxBias" if len(inputs) == 2 else "MaskedSoftmax"
    return _node(op, inputs, len(inputs), {"scale": float(scale), "longest": longest}, name)


def _node(op: str, inputs: Sequence[Any], expected: int, attributes: Mapping[str, Any], name: str) -> Any:
    import onnx_ir as ir

    if len(inputs) != expected:
        raise ValueError(f"{op} takes {expected} inputs, not {len(inputs)}")
    # The parser finds the plugin by op type and this attribute; `aot` selects one of a plugin's two forms.
    attributes = {**attributes, "plugin_namespace": NAMESPACE, "aot": 1}
    node = ir.node(op, list(inputs), attributes=attributes, domain=NAMESPACE, name=name)
    out, like = node.outputs[0], inputs[0]
    out.name, out.type, out.shape = name, like.type, like.shape
    return node


def attention_tactics(head_dim: int, bias: bool, itemsize: int = 2) -> dict[int, Any]:
    """Return tiles by tactic number, those within `SHARED_BYTES` everywhere; numbers mean the same on every machine.

    Elements of 4 bytes have tiles of their own: they are multiplied without tensor cores.
    """
    from .triton.configs import AttentionConfig, padded_dim

    half = ((16, 32, 1, 2), (32, 32, 2, 2), (32, 16, 2, 1), (64, 16, 4, 2), (64, 32, 4, 1), (64, 32, 4, 2), (64, 64, 4, 2),
            (128, 32, 4, 2), (128, 64, 8, 2))  # fmt: skip
    single = ((16, 16, 4, 1), (16, 32, 4, 1), (32, 16, 8, 1), (32, 32, 8, 1))
    fits = {}
    for number, each in enumerate(half if itemsize == 2 else single, 1):
        tile = AttentionConfig(*each)
        rows = tile.block_m + 2 * tile.stages * tile.block_n
        scores = tile.block_m * tile.block_n * (2 if bias else 1)
        if itemsize * (rows * padded_dim(head_dim) + scores) < SHARED_BYTES:
            fits[number] = tile
    return fits


def softmax_tactics(longest: int) -> dict[int, Any]:
    """Return tiles by tactic number."""
    from .triton.configs import softmax_candidates

    return dict(enumerate(softmax_candidates(longest), 1))


def _declare(op: str) -> None:
    """Declare one plugin. TensorRT reads its inputs from the signatures of three functions, which are made here."""
    import tensorrt.plugin as trtp

    bias, make = op.endswith("Bias"), _attention if "Attention" in op else _softmax
    tensors = (("q", "k", "v", "lengths") if make is _attention else ("x",)) + (("bias",) if bias else ())
    attributes = _ATTENTION if make is _attention else _SOFTMAX

    def describe(*given: Any, **_: Any) -> Any:
        return given[0].like()

    def tune(*given: Any) -> Any:
        return _combinations(tensors, dict(zip(names, given, strict=False)))

    def kernel(*given: Any) -> Any:
        return make(op, **dict(zip(names, given[:-2], strict=True)), tactic=given[-1])

    def signed(function: Any, returns: Any, *extra: str) -> Any:
        annotations = dict.fromkeys(tensors, trtp.TensorDesc) | attributes | dict.fromkeys(extra, Parameter.empty)
        kind = Parameter.POSITIONAL_OR_KEYWORD
        parameters = [Parameter(name, kind, annotation=each) for name, each in annotations.items()]
        function.__signature__ = Signature(parameters, return_annotation=returns)
        return function

    names, plugin = (*tensors, *attributes), f"{NAMESPACE}::{op}"
    launch = tuple[str, str, trtp.KernelLaunchParams, trtp.SymIntExprs]
    trtp.register(plugin)(signed(describe, trtp.TensorDesc))
    trtp.autotune(plugin)(signed(tune, list[trtp.AutoTuneCombination], "outputs"))
    trtp.aot_impl(plugin)(signed(kernel, launch, "outputs", "tactic"))


def _combinations(tensors: Sequence[str], given: Mapping[str, Any]) -> list[Any]:
    """Return the supported types (one for all floating-point tensors), each with the tiles for elements of its size."""
    import tensorrt.plugin as trtp

    combinations = []
    for types, itemsize in (("FP16|BF16", 2), ("FP32", 4)):
        tactics = (
            attention_tactics(given["head_dim"], "bias" in tensors, itemsize)
            if "lengths" in tensors
            else softmax_tactics(given["longest"])
        )
        inputs = ["INT32" if name == "lengths" else types for name in tensors]
        combinations.append(trtp.AutoTuneCombination(",".join([*inputs, types]), "LINEAR", sorted(tactics)))
    return combinations


def _attention(
    op: str, q: Any, k: Any, v: Any, lengths: Any, heads: int, head_dim: int, scale: float, causal: int, tactic: int, bias: Any = None
) -> tuple[str, str, Any, Any]:  # fmt: skip
    import tensorrt.plugin as trtp

    from .triton.build import DTYPES, attention_variant

    dtype, arch, padded = _dtype(q), architecture(), op.startswith("Padded")
    tile = attention_tactics(head_dim, bias is not None, DTYPES[dtype])[tactic]
    variant = attention_variant(
        arch, dtype, head_dim, padded=padded, bias=bias is not None, causal=bool(causal), scale=scale, config=tile
    )
    hidden, shape = heads * head_dim, q.shape_expr
    tokens = shape[0] * shape[1] if padded else shape[0]
    sequences = lengths.shape_expr[0] if padded else lengths.shape_expr[0] - 1
    extras = {
        "tokens": tokens, "sequences": sequences, "padded": shape[1] if padded else 0,
        "stride_q": hidden, "stride_k": hidden, "stride_v": hidden, "stride_bias_head": 0, "stride_bias": 0,
    }  # fmt: skip
    if bias is not None:
        of_heads, rows, positions = bias.shape_expr
        extras["stride_bias_head"] = 0 if _is(of_heads, 1) else rows * positions
        extras["stride_bias"] = positions
        if not _is_multiple(positions, 16):
            variant = replace(variant, multiples=variant.multiples - {"stride_bias", "stride_bias_head"})
    blocks = sequences * trtp.cdiv(shape[1], tile.block_m) if padded else tokens // tile.block_m + sequences
    return _kernel(variant, arch, extras, (blocks, heads))


def _softmax(op: str, x: Any, scale: float, longest: int, tactic: int, bias: Any = None) -> tuple[str, str, Any, Any]:
    import tensorrt.plugin as trtp

    from .triton.build import softmax_variant

    columns = x.shape_expr[-1]
    leading = [1] * (4 - len(x.shape_expr)) + list(x.shape_expr)[:-1]
    rows = trtp.ShapeExpr(1)
    for size in leading:
        rows = rows * size
    extras = {"rows": rows, "columns": columns, "size1": leading[1], "size2": leading[2]}
    extras |= dict.fromkeys(("stride0", "stride1", "stride2"), 0)
    if bias is not None:
        stride, axes = trtp.ShapeExpr(1), list(bias.shape_expr)
        if len(axes) != len(x.shape_expr):
            raise ValueError(f"{op}: the bias has {len(axes)} axes, x has {len(x.shape_expr)}")
        for i, size in enumerate(reversed(axes)):
            extras[f"stride{3 - i}"] = 0 if _is(size, 1) else stride
            stride = stride * size
    tile, arch = softmax_tactics(longest)[tactic], architecture()
    variant = softmax_variant(
        arch,
        _dtype(x),
        longest,
        bias=bias is not None,
        aligned=_is_multiple(columns, 16),
        bias_of_columns=bias is None or not _is(bias.shape_expr[-1], 1),
        scale=scale,
        config=tile,
    )
    return _kernel(variant, arch, extras, (trtp.cdiv(rows, tile.rows), 1))


def _kernel(variant: Any, arch: int, extras: Mapping[str, Any], grid: tuple[Any, Any]) -> tuple[str, str, Any, Any]:
    """Return what an `aot_impl` returns: extra arguments are in the kernel's own order, between inputs and output."""
    import tensorrt.plugin as trtp

    from .triton.build import compile_variant

    compiled = compile_variant(variant, arch)
    shared = compiled.shared_bytes
    if shared > SHARED_BYTES:
        raise RuntimeError(f"{variant.name}: {shared} bytes of shared memory are needed, {SHARED_BYTES} are available")
    launch = trtp.KernelLaunchParams(grid_x=grid[0], grid_y=grid[1], block_x=compiled.threads, shared_mem=shared)
    order = [parameter["name"] for parameter in variant.parameters if parameter["type"] == "i32"]
    arguments = trtp.SymIntExprs.from_tuple([trtp.SymInt32(extras[name]) for name in order])
    return compiled.entry, compiled.ptx, launch, arguments


def _is(size: Any, value: int) -> bool:
    return bool(size.is_constant) and size.constant_value() == value


def _is_multiple(size: Any, of: int) -> bool:
    return bool(size.is_constant) and size.constant_value() % of == 0


def _dtype(tensor: Any) -> str:
    import tensorrt

    kinds = tensorrt.DataType
    return {kinds.HALF: "fp16", kinds.BF16: "bf16", kinds.FLOAT: "fp32"}[tensor.dtype]
