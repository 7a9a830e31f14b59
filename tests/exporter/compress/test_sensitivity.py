"""What each group of weights costs, and which stay float."""

from pathlib import Path

import onnx_ir as ir
import pytest

from headway.exporter.compress.rounding_plan import groups, look, plan
from headway.exporter.compress.sensitivity import Effect, effects, mixed
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.recipe.pass_specs import QuantizeSpec

from tests.support.rounded import batches
from tests.support.variants import canonical


@pytest.fixture(scope="module")
def model(bert: Path) -> ir.Model:
    return canonical(bert)


@pytest.fixture(scope="module")
def seen(model: ir.Model):
    return look(model, groups(read_anatomy(model)), batches(), source="s", text="t", seed=0)


def test_sensitivity_and_the_mixed_assignment(model: ir.Model, seen) -> None:
    spec = QuantizeSpec(weights="int4", block=16)
    chosen = plan(model, read_anatomy(model), spec)
    found, floor = effects(model, chosen, seen, spec, batches(2), activations="none", signed=False)
    assert len(found) == 16 and all(e.error > floor > 0 for e in found)
    worst = {e.group.name for e in sorted(found, key=lambda e: -e.error / e.group.cost)[:3]}

    def judge(one) -> tuple[float, list[str]]:
        names = [g.name for g in one.groups]
        return (2.0 if worst & {*names} else 0.5), names

    best = mixed(chosen, found, judge, 1.0)
    assert best is not None and {g.name for g in chosen.groups} - {g.name for g in best[0].groups} == worst
    assert best[1] == [g.name for g in best[0].groups]  # what was judged is handed over, not made again
    assert mixed(chosen, found, lambda _: (0.0, "made"), 1.0) == (chosen, "made")
    assert mixed(chosen, found, lambda _: (9.0, "made"), 1.0) is None
    assert isinstance(found[0], Effect)
