"""A bundle for a GPU, run by its typed graph."""

import pytest

from headway.exporter.export import Exported
from headway.exporter.verification import verify_bundle


def test_a_bundle_for_a_gpu_is_verified_by_its_typed_graph(plan_bundle: Exported) -> None:
    verdict = verify_bundle(plan_bundle.path, None, None)
    assert verdict.ok and verdict.parity is not None and verdict.parity.dtype == "float16"
    worst, before = (p.outputs[0].max_abs for p in (verdict.parity, plan_bundle.parity))
    assert worst == pytest.approx(before, rel=1e-3) and worst > 1e-4
