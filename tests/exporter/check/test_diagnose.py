"""The first module that differs."""

from headway.exporter.check.diagnose import run_inside
from headway.exporter.check.parity import first_divergence
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.targets.ort.target import OrtTarget
from headway.exporter.targets.tensorrt.layer_names import module_values

from tests.support.rounded import needs_kernels
from tests.support.typed_graphs import batch, big, lowered


def test_the_first_module_that_differs_is_found(canonical) -> None:
    model, typed = canonical("bert"), canonical("bert")
    big(model), big(typed)
    feeds = batch(model)
    lowered(typed, "fp16", feeds, rules=False)
    names = list(module_values(typed.graph))
    values = [run_inside(m, feeds, names) for m in (model, typed)]
    assert first_divergence(names, *values, feeds["attention_mask"], 0.1) == "encoder.layer.0.output.dense"


@needs_kernels
def test_a_graph_with_headway_s_kernels_is_run_with_them(canonical) -> None:
    """Its values are those of packed tokens, which are compared where their shape is that of the source's."""
    model, lowered_model = canonical("bert"), canonical("bert")
    feeds = batch(model)
    OrtTarget(kernels="custom").lower(lowered_model, read_anatomy(lowered_model))
    names = [str(n.outputs[0].name) for n in lowered_model.graph]
    values = run_inside(lowered_model, feeds, names)
    assert values and any(n.domain == "headway" for n in lowered_model.graph)
    assert first_divergence(names, run_inside(model, feeds, names), values, feeds["attention_mask"], 1e-4) is None
