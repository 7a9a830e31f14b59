"""From an engine's layers back to modules."""

from headway.exporter.check.diagnose import run_inside
from headway.exporter.check.parity import first_divergence
from headway.exporter.targets.tensorrt.layer_names import module_of, module_values

from tests.support.typed_graphs import batch, lowered


def test_layers_lead_back_to_modules(canonical) -> None:
    model, typed = canonical("bert"), canonical("bert")
    feeds = batch(model)
    lowered(typed, "fp16", feeds)
    modules = module_values(typed.graph)
    assert "encoder.layer.1.output.dense" in modules
    assert all(module_of(str(n.name), modules) for n in typed.graph if "encoder.layer" in str(n.name))
    assert module_of("encoder.layer.0.attention.self.scores", modules) == "encoder.layer.0.attention.self"
    fused = "[encoder.layer.0.attention.self.scores + encoder.layer.0.attention.self.masked]"
    assert module_of(fused, modules) == "encoder.layer.0.attention.self"
    assert module_of("Reformatting CopyNode", modules) is None
    values = [run_inside(m, feeds, list(modules)) for m in (model, typed)]
    assert list(values[0]) == list(values[1]) == list(modules)
    assert first_divergence(list(modules), *values, feeds["attention_mask"], 0.01) is None
