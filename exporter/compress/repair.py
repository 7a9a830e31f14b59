"""Refit the remaining weights after a removal, site by site: least squares on calibration data. Imports torch.

Both models run over the data together, a piece at a time. Each site sees what the compressed sites before it really give, and is
fitted to what the source's residual stream holds behind it. So errors of earlier sites are corrected too.
Source: Kwon et al. 2022, section 4.3 (scales of gates); K-prune, arXiv 2308.03449, section 3.4 (whole projections).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir
import torch

from ...calibration.batches import Batch
from ..graph.anatomy import read_anatomy
from ..graph.edit import bias_of, consumers, is_vector, other_input
from ..graph.torch_graph import Env, TorchGraph
from ..passes.cuts import set_array
from .evidence import Site, sites

RIDGE = 3e-2
"""Strength of the pull towards the present weights, as a part of the mean diagonal of the inputs' second moment."""

_WILD = 10.0
"""A gate whose scale would exceed this is badly determined; the site then keeps its scales."""

_NOISE = 1e-7
"""Rounding of the sums of squares, relative to what a site adds to the residual stream."""

_TINY = 1e-30
"""The least squared error, and the least pull: inputs that are zero on all text determine nothing, and their weights stay."""

Method = Literal["projection", "scale"]


@dataclass(frozen=True)
class _Place:
    """A residual sum in the compressed model, and the site whose projection may change (None where only a constant is left)."""

    add: ir.Node
    site: Site | None
    residual: ir.Value
    bias: ir.Value | None


def repair(
    source: TorchGraph,
    model: ir.Model,
    batches: Sequence[Batch],
    *,
    method: Method = "projection",
    ridge: float = RIDGE,
    on_site: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """Refit every site's projection (or its gates' scales) and bias, in place; return squared error before ÷ after by site.

    Sites that share a weight are left alone: they cannot follow different inputs.
    """
    graph = TorchGraph(model)
    gains = {}
    before_source, before_model = 0, 0
    envs = [(source.feeds(b.feeds), graph.feeds(b.feeds)) for b in batches]
    their = {str(v.name): i for i, n in enumerate(source.nodes) for v in n.outputs}
    known = {str(v.name): v for n in source.nodes for v in n.outputs}
    order = {n: i for i, n in enumerate(graph.nodes)}
    with torch.no_grad():
        for place in _places(model):
            name = str(place.add.outputs[0].name)
            if name not in their:
                continue
            own = _own_nodes(place)
            end, their_end = order[place.add] + 1, their[name] + 1
            if end <= before_model or their_end <= before_source:
                continue
            lead = [n for n in graph.nodes[before_model:end] if n not in own]
            theirs = source.nodes[before_source:their_end]
            keep = graph.crossing([*graph.nodes[:before_model], *lead])
            keep_theirs = source.crossing(source.nodes[:their_end]) | {known[name]}
            normal = _Normal(place)
            for i, batch in enumerate(batches):
                theirs_env = source.run(envs[i][0], keep_theirs, nodes=theirs)
                ours_env = graph.run(envs[i][1], keep, nodes=lead)
                envs[i] = (theirs_env, ours_env)
                mask = torch.from_numpy(batch.mask.reshape(-1, batch.mask.shape[-1]))
                normal.add(ours_env, theirs_env[known[name]], mask)
            gains[name] = normal.solve(graph, method, ridge)
            tail = [n for n in graph.nodes[before_model:end] if n in own]
            keep = graph.crossing(graph.nodes[:end])
            for i, (theirs_env, ours_env) in enumerate(envs):
                envs[i] = (theirs_env, graph.run(ours_env, keep, nodes=tail))
            before_model, before_source = end, their_end
            on_site(name)
    for name, value in model.graph.initializers.items():
        if name in graph.changed:
            set_array(value, graph.weights[name].numpy())
    return gains


def residual_sum(site: Site) -> ir.Node | None:
    """Return the Add of a site's result to the residual; None where there is none."""
    return next((n for n in consumers(site.projection.output) if n.op_type == "Add"), None)


def _places(model: ir.Model) -> list[_Place]:
    """Return every residual sum, in order: of the sites, and of parts of which only a constant is left."""
    graph = model.graph
    anatomy = read_anatomy(model)
    by_add = {add: s for s in sites(anatomy) if (add := residual_sum(s)) is not None}
    uses: dict[str, int] = {}
    for site in by_add.values():
        uses[site.projection.weight] = uses.get(site.projection.weight, 0) + 1
    places = []
    for node in graph:
        if node in by_add:
            site = by_add[node]
            residual = other_input(node, site.projection.output)
            vector = bias_of(site.projection.bias)
            if residual is not None and uses[site.projection.weight] == 1:
                places.append(_Place(node, site, residual, vector))
        elif node.op_type == "Add" and is_vector(node.inputs[1]) and node.meta.get("part_removed"):
            assert node.inputs[0] is not None
            places.append(_Place(node, None, node.inputs[0], node.inputs[1]))
    return places


def _own_nodes(place: _Place) -> set[ir.Node]:
    if place.site is None:
        return {place.add}
    projection = place.site.projection
    return {place.add, *projection.nodes, *([projection.bias] if projection.bias is not None else [])}


class _Normal:
    """The normal equations of one place. Inputs are extended by a one for the bias."""

    def __init__(self, place: _Place):
        self.place = place
        self.a: torch.Tensor | None = None
        self.b: torch.Tensor | None = None
        self.energy = 0.0

    def add(self, env: Env, target: torch.Tensor, mask: torch.Tensor) -> None:
        """Add a batch. Matmuls are float32, sums over batches float64."""
        wanted = (target - env[self.place.residual])[mask]
        parts = [env[self.place.site.projection.input][mask]] if self.place.site is not None else []
        if self.place.bias is not None:
            parts.append(torch.ones(len(wanted), 1))
        x = torch.cat(parts, dim=1)
        a, b = (x.T @ x).double(), (x.T @ wanted).double()
        self.a, self.b = (a, b) if self.a is None or self.b is None else (self.a + a, self.b + b)
        self.energy += float(wanted.double().square().sum())

    def solve(self, graph: TorchGraph, method: Method, ridge: float) -> float:
        """Put the solution into `graph`; return how many times smaller the squared error became."""
        assert self.a is not None and self.b is not None
        site, bias = self.place.site, self.place.bias
        rows = []
        if site is not None:
            first = site.projection.first
            second = graph.weights[site.projection.weight].double()
            rows.append(graph.weights[str(first.inputs[1].name)].double() @ second if first is not None else second)  # type: ignore[union-attr]
        if bias is not None:
            rows.append(graph.weights[str(bias.name)].double()[None])
        old = torch.cat(rows)
        if site is None:
            new = self.b / self.a
        elif method == "scale":
            new = _scaled(old, self.a, self.b, site, ridge, bias is not None)
        elif site.projection.first is not None:
            new = self._second_only(graph, old, ridge)
        else:
            new = _ridge(old, self.a, self.b, ridge, bias is not None)
        before, after = self._error(old), self._error(new)
        if not torch.isfinite(new).all() or after >= before:
            return 1.0
        if site is not None and site.projection.first is None:
            graph.change(site.projection.weight, new[: site.projection.in_features].float())
        if bias is not None:
            graph.change(str(bias.name), new[-1].float())
        return before / after

    def _second_only(self, graph: TorchGraph, old: torch.Tensor, ridge: float) -> torch.Tensor:
        """Refit the second factor of a split weight; the first stays."""
        assert self.place.site is not None and self.a is not None and self.b is not None
        projection = self.place.site.projection
        assert projection.first is not None and projection.first.inputs[1] is not None
        first = graph.weights[str(projection.first.inputs[1].name)].double()
        biased = self.place.bias is not None
        lift = torch.block_diag(first, torch.ones(1, 1, dtype=torch.float64)) if biased else first
        start = (
            torch.cat([graph.weights[projection.weight].double(), old[-1:]])
            if biased
            else graph.weights[projection.weight].double()
        )
        inner = _ridge(start, lift.T @ self.a @ lift, lift.T @ self.b, ridge, biased)
        new = lift @ inner
        if torch.isfinite(inner).all() and self._error(new) < self._error(old):
            graph.change(projection.weight, inner[: first.shape[1]].float())
        return new

    def _error(self, w: torch.Tensor) -> float:
        assert self.a is not None and self.b is not None
        error = self.energy + float((w * (self.a @ w)).sum() - 2 * (w * self.b).sum())
        # What the sums cannot tell from zero is no error: without this, a site that was not touched gains by rounding noise.
        return max(error, self.energy * _NOISE, _TINY)


def _ridge(old: torch.Tensor, a: torch.Tensor, b: torch.Tensor, ridge: float, biased: bool) -> torch.Tensor:
    """Return the minimum of the weighted squared error plus a pull towards `old`; the bias is free."""
    strength = max(float(ridge * a.diagonal()[: len(a) - biased].mean()), _TINY)
    pull = torch.full((len(a),), strength, dtype=torch.float64)
    if biased:
        pull[-1] = 1e-9 * float(a[-1, -1])
    return torch.linalg.solve(a + torch.diag(pull), b + pull[:, None] * old)


def _scaled(
    old: torch.Tensor, a: torch.Tensor, b: torch.Tensor, site: Site, ridge: float, biased: bool
) -> torch.Tensor:
    """Fit one factor for each unit, and the bias: `new = s ∘ old`. Damped towards 1; left at 1 where a factor grows wild."""
    gram = a * (old @ old.T)
    units = gram[: site.units * site.unit, : site.units * site.unit]
    folded = units.unflatten(0, (site.units, site.unit)).sum(1).unflatten(1, (site.units, site.unit)).sum(2)
    shift = (
        (a[: len(units), -1:] * (old[: len(units)] @ old[-1:].T)).sum(1)
        if biased
        else torch.zeros(len(units), dtype=a.dtype)
    )
    right = (b * old).sum(1)[: len(units)] - shift
    right = right.unflatten(0, (site.units, site.unit)).sum(1)
    pull = max(float(ridge * folded.diagonal().mean()), _TINY)
    scales = torch.linalg.solve(folded + pull * torch.eye(len(folded), dtype=a.dtype), right + pull)
    if scales.abs().max() > _WILD:
        scales = torch.ones_like(scales)
    new = old.clone()
    new[: len(units)] *= scales.repeat_interleave(site.unit)[:, None]
    if biased:  # the constant that fits the scaled rest best
        new[-1] = (b[-1] - a[-1, :-1] @ new[:-1]) / a[-1, -1]
    return new
