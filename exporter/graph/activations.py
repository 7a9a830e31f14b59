"""Replace activations and norms that are written out in several operators by single nodes: `Gelu` and `LayerNormalization`."""

import math

import onnx_ir as ir
from onnxscript.rewriter import RewriteRule, RewriteRuleSet, pattern
from onnxscript.rewriter.rules.common import gemm_to_matmul_add_rule
from onnxscript.rewriter.rules.fusion._layer_norm import layer_normalization_rules

from .edit import nodes, scalar

_ROOT_2 = math.sqrt(2)
_CUBIC = 0.044715
_ROOT_2_OVER_PI = math.sqrt(2 / math.pi)


def _erf_term(op, x):
    return op.Erf(pattern.OrValue([op.Div(x, _ROOT_2), op.Mul(x, 1 / _ROOT_2)])) + 1.0


def _tanh_term(op, x):
    cube = pattern.OrValue([op.Pow(x, 3.0), op.Mul(x, op.Mul(x, x))])
    return op.Tanh(op.Mul(op.Add(x, op.Mul(cube, _CUBIC)), _ROOT_2_OVER_PI)) + 1.0


def _outer(term):
    """Return the three patterns in which exporters multiply by x and by one half."""
    return [
        lambda op, x: op.Mul(op.Mul(x, term(op, x)), 0.5),
        lambda op, x: op.Mul(x, op.Mul(term(op, x), 0.5)),
        lambda op, x: op.Mul(op.Mul(x, 0.5), term(op, x)),
    ]


def _exact(op, x):
    return op.Gelu(x, approximate="none")


def _tanh(op, x):
    return op.Gelu(x, approximate="tanh")


def _rules(graph: ir.Graph) -> list[RewriteRule]:
    """Return the rules that may match: each is tried on every node, in all orders of its operands."""
    rules = [gemm_to_matmul_add_rule] if nodes(graph, "Gemm") else []
    if nodes(graph, "ReduceMean"):
        rules += layer_normalization_rules
    if nodes(graph, "Erf"):
        rules += [RewriteRule(p, _exact) for p in _outer(_erf_term)]
    if nodes(graph, "Tanh") and any(_is_cubic_factor(n) for n in nodes(graph, "Mul")):
        rules += [RewriteRule(p, _tanh) for p in _outer(_tanh_term)]
    return rules


def _is_cubic_factor(node: ir.Node) -> bool:
    """Return True for a multiplication by the factor that only the tanh form of GELU has."""
    return any(n is not None and math.isclose(n, _CUBIC, rel_tol=1e-3) for n in map(scalar, node.inputs))


def single_node_activations(model: ir.Model) -> None:
    """Rewrite in place. What is no known activation stays in ordinary operators."""
    rules = _rules(model.graph)
    if rules:
        RewriteRuleSet(rules, commute=True).apply_to_model(model)
