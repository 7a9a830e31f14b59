"""Bring any encoder's ONNX graph into canonical form: opset 23, plain `ai.onnx`, one form for each thing computed.

The contract: inputs int64 `[batch, sequence]`; every self-attention one `Attention` node on 3-D inputs with one shared
additive bias; projections `MatMul(x, W[in, out]) + Add(b)`; norms `LayerNormalization`; activations single nodes;
initializers under their source parameter's name and never copied; values named by the module that computes them.
"""

import re
from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes import common
from onnxscript import optimizer, version_converter
from onnxscript.rewriter import RewriteRuleSet
from onnxscript.rewriter.rules.common import squeeze_reshape_1d_rule

from ...errors import SourceError
from .activations import single_node_activations
from .canonical_attention import canonicalize_attention
from .edit import (
    ancestors,
    attribute_int,
    bias_add,
    consumers,
    dims,
    first_of,
    insert,
    is_vector,
    nodes,
    producer,
    projection_weight,
    reach,
)
from .flattened_rows import unflatten_rows
from .inner_axes import name_inner_axes
from .mask import OWN
from .parts import UNREAD
from .probe import Prober
from .source_rounding import SourceScales, put_rounding, take_rounding

OPSET = 23
_NUMBERED = re.compile(r".*::.*|[^.]*\d|t|permute|transpose")
"""Names that exporters make up for weights: `onnx::MatMul_12`, `val_12`, or the operator alone. Names of parameters have dots."""
_MASK_ARITHMETIC = ("GatherND", "IsNaN", "Trilu", "ScatterND")


@dataclass
class Canonical:
    """A canonical model; `sources` maps the names of its values to those in the source's graph.

    `rounding`: how the source rounds the inputs of its matmuls. `sentences` say what of it stays in the source's own operators,
    and why.
    """

    model: ir.Model
    sources: dict[str, str]
    rounding: SourceScales
    sentences: tuple[str, ...] = ()


def canonicalize(model: ir.Model, *, longest: int) -> Canonical:
    """Bring `model` into canonical form, in place.

    `longest` is the longest sequence that the positions allow, in tokens. Raises SourceError naming what does not fit.
    """
    graph = model.graph
    _check_operators(model)
    common.InlinePass()(model)
    common.ClearMetadataAndDocStringPass()(model)  # exporters leave stack traces with the paths of their machine
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common.RemoveInitializersFromInputsPass()(model)
    common.IdentityEliminationPass()(model)
    if graph.opset_imports.get("", 0) < OPSET:
        _to_opset(model)
        graph = model.graph  # one of the converters replaces it
    taken = take_rounding(model)
    for value in _values(graph):
        value.meta["source"] = value.name
    _name_nodes(graph)
    ids, mask = _name_inputs(graph)
    _fold_weight_transposes(graph)
    _name_weights(graph)
    _fold(model)
    single_node_activations(model)
    if graph.opset_imports.get("", 0) == OPSET:
        common.ShapeInferencePass()(model)
    prober = Prober(model, _vocabulary(graph, ids))
    name_inner_axes(graph, prober, longest)
    unflatten_rows(graph)
    sentences = canonicalize_attention(model, prober, _flat(mask), _flat(ids), longest)
    graph.sort()
    _fold(model)
    _check_mask_arithmetic(graph)
    sources = _name_values(graph)
    put_rounding(model, taken)
    common.ShapeInferencePass()(model)
    if small_enough_to_check(model):
        common.CheckerPass()(model)
    return Canonical(model, sources, taken, sentences)


def _check_operators(model: ir.Model) -> None:
    known = {"", "ai.onnx", *{domain for domain, _, _ in model.functions}}
    foreign = [n for n in model.graph.all_nodes() if n.domain not in known]
    if foreign:
        kinds = ", ".join(f"{n.domain}.{n.op_type}" for n in {n.op_type: n for n in foreign}.values())
        raise SourceError(
            f"the graph holds runtime-specific operators ({kinds}; first: node {foreign[0].name or foreign[0].outputs[0].name!r}): "
            "give the model as it was before that runtime's optimizer ran"
        )


def _to_opset(model: ir.Model) -> None:
    version = model.graph.opset_imports.get("", 0)
    if version < 14:
        raise SourceError(f"opset {version} is too old: opsets 14 to {OPSET} are read; export the model again")
    try:
        version_converter.convert_version(model, OPSET, fallback=True)
    except Exception as error:  # the converters raise many kinds
        raise SourceError(f"the graph cannot be converted from opset {version} to {OPSET}: {error}") from error
    if model.graph.opset_imports.get("", 0) != OPSET:
        raise SourceError(
            f"the graph cannot be converted from opset {version} to {OPSET}: an operator has no conversion"
        )


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [out for node in graph for out in node.outputs]


def _name_nodes(graph: ir.Graph) -> None:
    for node in graph:
        node.name = node.name or node.outputs[0].name


def _name_inputs(graph: ir.Graph) -> tuple[ir.Value, ir.Value | None]:
    """Name the batch and sequence axes everywhere; return the token ids and the attention mask."""
    by_name = {i.name: i for i in graph.inputs}
    ids = by_name.get("input_ids")
    if ids is None:
        raise SourceError(
            f"the model has no input called input_ids, but {sorted(map(str, by_name))}: only text encoders are read"
        )
    meant: dict[str, set[str]] = {}
    for value in graph.inputs:
        if value.shape is None or len(value.shape) not in (2, 3):
            raise SourceError(f"input {value.name!r} has shape {value.shape}; [batch, sequence] is expected")
        names = ["batch", "sequence"] if len(value.shape) == 2 else ["batch", "choices", "sequence"]
        for dim, name in zip(value.shape, names, strict=True):
            if isinstance(dim, int):
                raise SourceError(
                    f"input {value.name!r} has the fixed shape {value.shape}: export the model with dynamic batch and sequence axes"
                )
            if dim.value is not None:
                meant.setdefault(str(dim.value), set()).add(name)
        value.shape = ir.Shape(names)
        _widen(graph, value)
    # One name for two axes says nothing of where it stands elsewhere.
    renamed = {given: names.pop() if len(names) == 1 else None for given, names in meant.items()}
    for value in dict.fromkeys([*_values(graph), *graph.outputs]):
        if value.shape is not None and any(not isinstance(d, int) and str(d.value) in renamed for d in value.shape):
            value.shape = ir.Shape(
                [d if isinstance(d, int) else renamed.get(str(d.value), d.value) for d in value.shape]
            )
    return ids, by_name.get("attention_mask")


def _widen(graph: ir.Graph, value: ir.Value) -> None:
    """Make an input int64, as runners feed it: readers that need the source's own type get a Cast."""
    given = value.dtype
    if given in (None, ir.DataType.INT64):
        return
    value.type = ir.TensorType(ir.DataType.INT64)
    readers = [n for n in consumers(value) if n.op_type not in ("Cast", "Shape")]
    readers = [n for n in readers if n.op_type != "Gather" or n.inputs[0] is value]  # indices may be of either width
    if not readers:
        return
    first = first_of(graph, readers)
    cast = insert(first, "Cast", [value], name=f"{value.name}.given", dtype=given, shape=value.shape, to=int(given))
    for node in readers:
        for i, read in enumerate(node.inputs):
            if read is value:
                node.replace_input_with(i, cast)


def _flat(value: ir.Value | None) -> ir.Value | None:
    """Return an input as `[rows, sequence]`: itself, or where the model folds choices into the batch, the result of that."""
    if value is None or value.shape is None or len(value.shape) == 2:
        return value
    reshaped = (n.outputs[0] for n in consumers(value) if n.op_type == "Reshape")
    folded = next((v for v in reshaped if len(dims(v) or ()) == 2), None)
    if folded is None:
        raise SourceError(f"input {value.name!r} has choices, but the model does not fold them into the batch")
    return folded


def _vocabulary(graph: ir.Graph, ids: ir.Value) -> int:
    """Return the rows of the token embedding: the ids of probes must stay below. It is the nearest that ids are looked up in.

    Where ids only mark which tokens there are, it is the width of what they mark.
    """

    def onward(value: ir.Value) -> list[ir.Value]:
        return [out for n in consumers(value) if n.op_type not in ("Gather", "Shape") for out in n.outputs]

    for value in reach(ids, onward):
        for node in consumers(value):
            looked_up = node.op_type == "Gather" and node.inputs[1] is value
            embedding = dims(node.inputs[0]) if looked_up and node.inputs[0] is not value else None
            if embedding and len(embedding) == 2 and embedding[0] and embedding[1] != 1:
                return embedding[0]
            marked = dims(node.outputs[0]) if node.op_type == "ScatterElements" and node.inputs[1] is value else None
            if marked and marked[-1]:
                return marked[-1]
    raise SourceError("no embedding is looked up by input_ids")


def _fold_weight_transposes(graph: ir.Graph) -> None:
    """Store W of `MatMul(x, Transpose(W))` as `[in, out]`, without a copy.

    An embedding that is also looked up (a tied output head) keeps its Transpose: it is stored once.
    """
    for node in nodes(graph, "Transpose"):
        weight = node.inputs[0]
        if (
            weight is None
            or not weight.is_initializer()
            or weight.const_value is None
            or len(weight.const_value.shape) != 2
        ):
            continue
        readers = consumers(weight)
        if any(r.op_type != "Transpose" for r in readers):
            continue
        array = weight.const_value.numpy()
        weight.const_value = ir.Tensor(array.T, name=weight.name)
        weight.shape = ir.Shape(array.T.shape)
        for reader in readers:
            ir.convenience.replace_all_uses_with(reader.outputs[0], weight)
            graph.remove(reader, safe=True)


def _name_weights(graph: ir.Graph) -> None:
    """Name a weight that an exporter stored under a number after its bias, whose name exporters keep."""
    for node in nodes(graph, "MatMul"):
        weight = projection_weight(node)
        if weight is None or not _NUMBERED.fullmatch(weight.name or ""):
            continue
        add = next((n for n in consumers(node.outputs[0]) if n.op_type == "Add"), None)
        bias = next((v.name for v in add.inputs if is_vector(v) and v is not None), None) if add is not None else None
        if bias and bias.endswith(".bias"):
            name = bias.removesuffix(".bias") + ".weight"
            if name not in graph.initializers:
                weight.name = name


def _fold(model: ir.Model) -> None:
    """Fold small constants, merge repeated nodes, and remove nodes that change nothing. Weights stay as they are."""
    common.CommonSubexpressionEliminationPass(size_limit=0)(model)
    optimizer.fold_constants(model, onnx_shape_inference=False, input_size_limit=1024, output_size_limit=4096)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    RewriteRuleSet([squeeze_reshape_1d_rule]).apply_to_model(model)
    for node in nodes(model.graph, "Dropout", "Cast"):
        source = node.inputs[0]
        if source is not None and (
            node.op_type == "Dropout" or (source.dtype is not None and source.dtype == attribute_int(node, "to"))
        ):
            ir.convenience.replace_all_uses_with(node.outputs[0], source, replace_graph_outputs=True)
    common.IdentityEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)


def _check_mask_arithmetic(graph: ir.Graph) -> None:
    """Raise SourceError where an attention's bias still depends on the exporter's own mask arithmetic."""
    for node in nodes(graph, "Attention"):
        bias = node.inputs[3] if len(node.inputs) > 3 else None
        if UNREAD in node.meta:
            continue
        own = [v for v in ancestors(bias) if (v.name or "").startswith(f"{OWN}.added")] if bias is not None else []
        inputs = ancestors(bias, stop=own) if bias is not None else ()
        left = next((p for v in inputs if (p := producer(v, *_MASK_ARITHMETIC))), None)
        if left is not None:
            raise SourceError(
                f"node {left.name!r} ({left.op_type}) is left over from the mask of attention {node.name!r}"
            )


def _name_values(graph: ir.Graph) -> dict[str, str]:
    """Name the result of each module after the module; return canonical name → source value name.

    A module used more than once (ALBERT) gets `#1`, `#2` … from its second use on, in order of execution.
    """
    uses: Counter[str] = Counter()
    outputs = {v.name for v in graph.outputs}
    sources = {}
    for node in graph:
        named = _module_of(node)
        if named is None:
            continue
        module, value = named
        if value.name not in outputs:
            value.name = module if uses[module] == 0 else f"{module}#{uses[module]}"
        uses[module] += 1
        source = value.meta.get("source")
        if source and value.name:
            sources[value.name] = str(source)
    return sources


def _module_of(node: ir.Node) -> tuple[str, ir.Value] | None:
    """Return the source module whose result this node computes, by the parameter it reads; with the value it ends in."""
    if node.op_type == "LayerNormalization":
        name = node.inputs[1].name if node.inputs[1] is not None else None
    elif node.op_type == "MatMul" and projection_weight(node) is not None:
        weight = projection_weight(node)
        name = weight.name if weight is not None else None
    else:
        return None
    if name is None or not name.endswith(".weight"):
        return None
    value = node.outputs[0]
    if node.op_type == "MatMul":
        bias = bias_add(node)
        value = bias.outputs[0] if bias is not None else value
    return name.removesuffix(".weight"), value


def small_enough_to_check(model: ir.Model) -> bool:
    """Return True where the checker can serialize the model: protobuf's limit is 2 GB."""
    return (
        sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
        < 2**31 - 2**24
    )
