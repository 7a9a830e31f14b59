"""Weights in two factors: exact at the true rank, the best in their measure."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.graph.ranks import break_even
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights, factors, global_ranks, tail_energy
from headway.exporter.passes.neurons import RemoveNeurons

from tests.support import models
from tests.support.pass_checks import answers, by_runtime, largest_difference
from tests.support.variants import canonical


@pytest.mark.parametrize(
    "family",
    [
        "bert",
        pytest.param("albert", marks=pytest.mark.slow),
        "modernbert",
        pytest.param("deberta-v2", marks=pytest.mark.slow),
    ],
)
def test_a_split_at_the_true_rank_is_exact(family: str, tmp_path: Path) -> None:
    model = canonical(models.make_model(tmp_path, family, "fill-mask", intermediate_size=256, **models.soonest(family)))
    anatomy = read_anatomy(model)
    names = dict.fromkeys([*(p.weight for b in anatomy.blocks for p in b.projections), next(iter(anatomy.embeddings))])
    ranks = {}
    for name in names:
        value = model.graph.initializers[name]
        weight = constant(value)
        assert weight is not None
        ranks[name] = min(break_even(*weight.shape), 7)
        set_array(value, np.matmul(*factors(weight, ranks[name])))
    wanted = answers(model)
    structural_pass = SplitWeights(ranks)
    structural_pass(model)
    assert largest_difference(wanted, answers(model)) < 1e-4
    assert largest_difference(wanted, by_runtime(model)) < 1e-4
    assert (
        structural_pass.report is not None and structural_pass.report.nbytes[1] < 0.6 * structural_pass.report.nbytes[0]
    )
    after = read_anatomy(model)
    assert all(p.rank == ranks_of(p.weight, ranks) for b in after.blocks for p in b.projections)
    # and heads and neurons can still go
    if family != "modernbert":
        RemoveHeads({b.index: [0, 3] for b in after.blocks})(model)
        RemoveNeurons({(b.index, 0): [2, 3, 50] for b in after.blocks})(model)
        by_runtime(model)


def ranks_of(weight: str, ranks: dict[str, int]) -> int:
    return ranks[weight.replace(".second.weight", ".weight")]


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(4, 40), columns=st.integers(4, 40), seed=st.integers(0, 99), data=st.data())
def test_factors_are_the_best_in_their_measure(rows: int, columns: int, seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.standard_normal((rows, columns))
    x, g = rng.standard_normal((200, rows)) * rng.random(rows), rng.standard_normal((200, columns))
    inputs, outputs = x.T @ x, g.T @ g
    rank = data.draw(st.integers(1, min(rows, columns)))
    a, b = factors(weight, rank, inputs=inputs, outputs=outputs)

    def error(approximation: np.ndarray) -> float:
        d = weight - approximation
        return float(np.trace(d.T @ inputs @ d @ outputs))

    best = tail_energy(weight, inputs=inputs, outputs=outputs)[rank]
    scale = error(np.zeros_like(weight))
    assert error(a.astype(np.float64) @ b) == pytest.approx(best, abs=1e-4 * scale)
    plain = np.matmul(*(f.astype(np.float64) for f in factors(weight, rank)))
    assert error(a.astype(np.float64) @ b) <= error(plain) + 1e-4 * scale


def test_global_ranks_spend_the_budget_where_energy_is() -> None:
    rng = np.random.default_rng(0)
    thin = rng.standard_normal((64, 8)) @ rng.standard_normal((8, 64))
    full = rng.standard_normal((64, 64))
    ranks = global_ranks({"thin": thin, "full": full}, 0.6, 4, {}, {})
    assert ranks["thin"] == 8
    assert "full" not in ranks or ranks["full"] > 16


def test_a_vector_is_a_diagonal_and_an_indefinite_moment_has_factors() -> None:
    rng = np.random.default_rng(0)
    weight, x = rng.standard_normal((24, 16)), rng.standard_normal((9, 24))  # of 24 directions, 9 occur
    scale = rng.random(24) + 0.1
    one, other = factors(weight, 6, inputs=scale), factors(weight, 6, inputs=np.diag(scale))
    np.testing.assert_allclose(np.matmul(*one), np.matmul(*other), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(tail_energy(weight, inputs=scale), tail_energy(weight, inputs=np.diag(scale)), atol=1e-9)
    moment = x.T @ x - 1e-3 * np.eye(24)  # as sums in float32 leave it where values are large
    a, b = factors(weight, 12, inputs=moment)
    assert np.square(x @ (weight - a.astype(np.float64) @ b)).sum() < 1e-3 * np.square(x @ weight).sum()
