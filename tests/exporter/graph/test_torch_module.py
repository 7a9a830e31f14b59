"""The canonical graph as a torch module: as it is, as passes leave it, and exported with a sequence of any length."""

from pathlib import Path

import onnx_ir as ir
import pytest
import torch

from headway.errors import SourceError, TargetError
from headway.exporter.graph.edit import nodes
from headway.exporter.graph.torch_module import TorchModule
from headway.exporter.targets.phones.torch_export import export_module

from tests.support import models
from tests.support.run_module import run
from tests.support.variants import answers, apart, canonical, feeds, pruned, rounded

FAMILIES = ("bert", "distilbert", "albert", "mobilebert", "roberta")


@pytest.mark.parametrize(
    "family", [f if f in ("bert", "albert") else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES]
)
def test_every_family_computes_the_same_at_every_length(family: str, tmp_path: Path) -> None:
    depth = {"n_layers": 1} if family == "distilbert" else {"num_hidden_layers": 2 if family == "albert" else 1}
    model = canonical(models.make_model(tmp_path, family, "text-classification", **depth))
    module, exported = export_module(model, 60)
    assert apart(answers(model, feeds()), run(module, feeds()), feeds()) < 1e-5
    program = exported.module()
    for length in (5, 31, 60):
        given = feeds(1, length)
        assert apart(answers(model, given), run(module, given, program), given) < 1e-5


@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
def test_sentence_heads(pooling: str, tmp_path: Path) -> None:
    model = canonical(models.make_sentence_model(tmp_path, pooling, dense=True))
    module, exported = export_module(model, 60)
    assert apart(answers(model, feeds()), run(module, feeds()), feeds()) < 1e-5
    given = feeds(1, 17)
    assert apart(answers(model, given), run(module, given, exported.module()), given) < 1e-5


def test_what_passes_leave(bert_model: ir.Model) -> None:
    small = pruned(bert_model)
    module, exported = export_module(small, 60)
    given = feeds(1, 17)
    assert apart(answers(small, given), run(module, given, exported.module()), given) < 1e-5
    assert apart(answers(bert_model, given), run(module, given), given) > 1e-4
    quantized, _ = rounded(small)
    assert apart(answers(quantized, given), run(TorchModule(quantized), given), given) < 1e-4
    assert apart(answers(small, given), run(TorchModule(quantized), given), given) > 1e-5


def test_what_is_shared_is_held_once(tmp_path: Path) -> None:
    albert = TorchModule(canonical(models.make_model(tmp_path / "albert", "albert")))
    shapes = [p.shape for p in albert.parameters()]
    assert shapes.count(torch.Size([64, 32])) == 1  # three layers, one matrix
    tied = TorchModule(canonical(models.make_model(tmp_path / "tied", "bert", "fill-mask", num_hidden_layers=1)))
    tables = [t for t in (*tied.parameters(), *tied.buffers()) if t.shape == (models.VOCABULARY, 32)]
    assert len({t.data_ptr() for t in tables}) == 1


def test_steps_name_the_modules_behind_them(bert_model: ir.Model) -> None:
    module = TorchModule(bert_model)
    assert len(module.names) == len(module.steps)
    wanted = ("embeddings.word_embeddings", "encoder.layer.0.attention.self.query", "encoder.layer.0.attention.self")
    assert {f"bert.{name}" for name in wanted} <= set(module.names)


def test_what_has_no_counterpart_is_named(bert_model: ir.Model) -> None:
    causal = bert_model.clone()
    node = nodes(causal.graph, "Attention")[0]
    node.attributes["is_causal"] = ir.AttrInt64("is_causal", 1)
    with pytest.raises(SourceError, match=f"{node.name}.*causal"):
        run(TorchModule(causal), feeds())
    strange = bert_model.clone()
    gelu = nodes(strange.graph, "Gelu")[0]
    gelu.op_type = "Det"
    with pytest.raises(TargetError, match=rf"{gelu.name}' \(Det, .*no counterpart.*--target ort"):
        export_module(strange, 60)
