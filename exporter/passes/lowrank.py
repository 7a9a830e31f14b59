"""Factor weights: `W ≈ A B` of a rank at which two matmuls take fewer operations than one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from ...errors import UsageError
from ..graph.anatomy import Anatomy
from ..graph.edit import constant, consumers, initializer, insert, replace
from ..graph.ranks import break_even
from .base import StructuralPass


def factors(
    weight: np.ndarray, rank: int, *, inputs: np.ndarray | None = None, outputs: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the best `A [in, rank]` and `B [rank, out]` for `weight [in, out]`: computed in float64, returned in float32.

    With `inputs [in, in]`, the second moment of the inputs, the error of the output is minimized (SVD-LLM, DRONE). A vector
    `[in]` weights rows alone (FWSVD: row sums of the weight's Fisher information). `outputs [out, out]`, the second moment of
    the loss's gradient at the output, weights output directions. Without both it is plain SVD.
    """
    left, right = _root(inputs), _root(outputs)
    weighted = _weighted(weight, left, right)
    # the eigenvectors of the smaller side; the product needs no others
    vectors = np.linalg.eigh(_gram(weighted))[1][:, ::-1][:, :rank]
    tall = weighted.shape[0] > weighted.shape[1]
    a, b = (weighted @ vectors, vectors) if tall else (vectors, weighted.T @ vectors)
    sizes = np.linalg.norm(a if tall else b, axis=0)
    root = np.sqrt(np.maximum(sizes, 1e-8 * max(sizes.max(), 1e-30)))  # both factors get the same scale
    a, b = (a / root, b * root) if tall else (a * root, b / root)
    a, b = _solved(left, a), _solved(right, b).T
    return np.ascontiguousarray(a, np.float32), np.ascontiguousarray(b, np.float32)


def tail_energy(
    weight: np.ndarray, *, inputs: np.ndarray | None = None, outputs: np.ndarray | None = None
) -> np.ndarray:
    """Return the squared error at each rank 0 … min(in, out), in the measure of `factors`."""
    weighted = _weighted(weight, _root(inputs), _root(outputs))
    # of singular values, without their vectors; ascending
    squares = np.maximum(np.linalg.eigvalsh(_gram(weighted)), 0.0)
    return np.append(np.cumsum(squares)[::-1], 0.0)


def global_ranks(
    weights: Mapping[str, np.ndarray],
    keep: float,
    multiple: int,
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> dict[str, int]:
    """Return a rank for each weight, so that about `keep` of all parameters stay, with as much singular energy as possible.

    Ranks grow in steps of `multiple` where a parameter gains most energy. A weight whose rank would pass its break-even is
    not factored, and is left out.
    """
    energy = {n: tail_energy(w, inputs=inputs.get(n), outputs=outputs.get(n)) for n, w in weights.items()}
    ranks = dict.fromkeys(weights, 0)
    left = keep * sum(w.size for w in weights.values())
    unfactored: set[str] = set()

    def gain(name: str) -> float:
        rank, price = ranks[name], sum(weights[name].shape)
        after = min(rank + multiple, len(energy[name]) - 1)
        return float(energy[name][rank] - energy[name][after]) / (max(after - rank, 1) * price)

    while candidates := [n for n in weights if n not in unfactored]:
        name = max(candidates, key=gain)
        step = multiple * sum(weights[name].shape)
        if left < step:
            break
        left -= step
        ranks[name] += multiple
        if ranks[name] + multiple > break_even(*weights[name].shape):
            unfactored.add(name)
            left -= weights[name].size - ranks[name] * sum(weights[name].shape)
    return {
        n: max(r, multiple)
        for n, r in ranks.items()
        if n not in unfactored and max(r, multiple) <= break_even(*weights[n].shape)
    }


def _root(moment: np.ndarray | None) -> np.ndarray | None:
    """Return a lower triangle whose product with its transpose is a second moment; a vector for a diagonal one.

    Damping keeps directions that never occur finite, and is far above what rounding makes negative. A triangle costs a small part of a
    symmetric root, and gives the same factors: the two differ by a rotation, which the singular vectors take up.
    """
    if moment is None:
        return None
    moment = moment.astype(np.float64)
    diagonal = moment if moment.ndim == 1 else np.diag(moment)
    damping = 1e-6 * max(np.maximum(diagonal, 0.0).mean(), 1e-30)
    if moment.ndim == 1:
        root: np.ndarray = np.sqrt(np.maximum(moment, 0.0) + damping)
        return root
    try:
        return np.linalg.cholesky(moment + damping * np.eye(len(moment)))
    except np.linalg.LinAlgError:  # sums of float32 may have left more than the damping below zero
        values, vectors = np.linalg.eigh(moment)
        upper: np.ndarray = np.linalg.qr((vectors * np.sqrt(np.maximum(values, 0.0) + damping)).T, mode="r")  # type: ignore[assignment]
        return upper.T


def _weighted(weight: np.ndarray, left: np.ndarray | None, right: np.ndarray | None) -> np.ndarray:
    """Return the weight between the transposed root of its inputs and the root of its outputs, in float64."""
    result = weight.astype(np.float64)
    if left is not None:
        result = left[:, None] * result if left.ndim == 1 else left.T @ result
    if right is not None:
        result = result * right if right.ndim == 1 else result @ right
    return result


def _gram(matrix: np.ndarray) -> np.ndarray:
    """Return a matrix times its transpose, the smaller of the two products."""
    rows, columns = matrix.shape
    product: np.ndarray = matrix.T @ matrix if rows > columns else matrix @ matrix.T
    return product


def _solved(root: np.ndarray | None, values: np.ndarray) -> np.ndarray:
    """Return the inverse of a root, transposed, times `values [n, rank]`."""
    if root is None:
        return values
    if root.ndim == 1:
        return values / root[:, None]
    from scipy.linalg import solve_triangular

    result: np.ndarray = solve_triangular(root, values, lower=True, trans="T", check_finite=False)
    return result


@dataclass
class SplitWeights(StructuralPass):
    """Replace each weight named by two factors of the rank given; a token embedding by a smaller embedding and a projection.

    `inputs` and `outputs` hold second moments by weight name, see `factors`; a weight without them is factored by plain SVD.
    A rank above the break-even is refused. Source: Eckart & Young 1936; SVD-LLM (arXiv 2403.07378), FWSVD (arXiv 2207.00112).
    """

    ranks: Mapping[str, int]
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    random: bool = False
    """Use factors of the right sizes and random content: for measuring time only."""

    def edit(self, model: ir.Model, anatomy: Anatomy) -> dict[str, str]:
        graph = model.graph
        for name, rank in self.ranks.items():
            _check(graph, name, rank)
        changes = {}
        for name, rank in self.ranks.items():
            weight = graph.initializers[name]
            array = constant(weight)
            assert array is not None
            if self.random:
                rng = np.random.default_rng(0)
                a, b = (
                    rng.standard_normal(s).astype(np.float32) * 0.02
                    for s in ((len(array), rank), (rank, array.shape[1]))
                )
            else:
                a, b = factors(array, rank, inputs=self.inputs.get(name), outputs=self.outputs.get(name))
            stem = name.removesuffix(".weight")
            first = initializer(graph, f"{stem}.first.weight", a)
            second = initializer(graph, f"{stem}.second.weight", b)
            for node in consumers(weight):
                _split(graph, node, weight, first, second)
            changes[name] = f"{array.shape[0]} × {array.shape[1]} → rank {rank}"
        return changes


def _check(graph: ir.Graph, name: str, rank: int) -> None:
    weight = graph.initializers.get(name)
    shape = list(weight.shape) if weight is not None and weight.shape is not None else []
    if weight is None or len(shape) != 2:
        raise UsageError(f"{name}: there is no such weight matrix (was it quantized or split before?)")
    rows, columns = (d if isinstance(d, int) else 0 for d in shape)
    if not 1 <= rank <= break_even(rows, columns):
        raise UsageError(
            f"{name}: rank {rank} does not pay for {rows} × {columns}: two matmuls are less work from rank "
            f"{break_even(rows, columns)} down"
        )
    for node in consumers(weight):
        fits = (node.op_type == "MatMul" and node.inputs[1] is weight) or (
            node.op_type == "Gather" and node.inputs[0] is weight
        )
        transposed = node.op_type == "Transpose" and all(n.op_type == "MatMul" for n in consumers(node.outputs[0]))
        if not (fits or transposed):
            raise UsageError(
                f"{name}: node {node.name!r} ({node.op_type}) reads it; only matmuls and embedding lookups can be split"
            )


def _split(graph: ir.Graph, node: ir.Node, weight: ir.Value, first: ir.Value, second: ir.Value) -> None:
    """Put both factors where `node` reads the weight; a transposed reader (a tied output head) gets both transposed."""
    if node.op_type == "Transpose":
        a, b = (list(v.shape) if v.shape is not None else [] for v in (first, second))
        transposed = insert(
            node, "Transpose", [second], name=f"{node.name}.second", dtype=second.dtype, shape=b[::-1], perm=[1, 0]
        )
        for matmul in consumers(node.outputs[0]):
            inner = insert(
                matmul, "MatMul", [matmul.inputs[0], transposed], name=f"{matmul.name}.first", dtype=first.dtype
            )
            matmul.replace_input_with(0, inner)
        node.replace_input_with(0, first)
        node.outputs[0].shape = ir.Shape(a[::-1])
        return
    slot = 1 if node.op_type == "MatMul" else 0
    result = node.outputs[0]
    name = result.name
    shape = result.shape
    inputs = [v if i != slot else first for i, v in enumerate(node.inputs)]
    attributes = {k: a.value for k, a in node.attributes.items()}
    rank = first.shape[1] if first.shape is not None else None
    inner_shape = [*list(shape)[:-1], rank] if shape is not None else None
    inner = insert(
        node, node.op_type, inputs, name=f"{node.name}.first", dtype=first.dtype, shape=inner_shape, **attributes
    )
    outer = insert(node, "MatMul", [inner, second], name=f"{node.name}.second", dtype=second.dtype, shape=shape)
    replace(result, outer)
    result.name = f"{name}.whole"
    outer.name = name
    graph.remove(node, safe=True)
