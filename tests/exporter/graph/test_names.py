"""Modules from the names of their tensors."""

import pytest

from headway.exporter.graph.names import module_of_weight


@pytest.mark.parametrize(
    ("names", "module"),
    [
        (["x", "encoder.layer.0.query.weight"], "encoder.layer.0.query"),
        (["encoder.query.weight_scale"], "encoder.query"),
        (["a.weight", "b.weight"], "a"),
        (["a.bias", "position_ids"], None),
        ([], None),
    ],
)
def test_the_first_weight_tells_the_module(names: list[str], module: str | None) -> None:
    assert module_of_weight(names) == module
