"""The first module that differs."""

from headway.exporter.check.diagnose import run_inside
from headway.exporter.check.parity import first_divergence
from headway.exporter.targets.tensorrt.layer_names import module_values

from tests.support.typed_graphs import batch, big, lowered


def test_the_first_module_that_differs_is_found(canonical) -> None:
    model, typed = canonical("bert"), canonical("bert")
    big(model), big(typed)
    feeds = batch(model)
    lowered(typed, "fp16", feeds, rules=False)
    names = list(module_values(typed.graph))
    values = [run_inside(m, feeds, names) for m in (model, typed)]
    assert first_divergence(names, *values, feeds["attention_mask"], 0.1) == "encoder.layer.0.output.dense"
