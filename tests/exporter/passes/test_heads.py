"""Removing heads: exact where the heads contribute nothing, in every family."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers

from headway.errors import UsageError
from headway.exporter.compress.evidence import sites
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import initializer
from headway.exporter.passes.blocks import RemoveParts
from headway.exporter.passes.cuts import Cuts
from headway.exporter.passes.heads import RemoveHeads, columns_of, original_heads
from headway.exporter.passes.neurons import RemoveNeurons

from tests.support import models
from tests.support.pass_checks import answers, by_runtime, feeds, gate, largest_difference
from tests.support.variants import canonical


@pytest.mark.parametrize("family", list(models.FAMILIES))
def test_removal_equals_closed_gates(family: str, family_models: dict[str, ir.Model]) -> None:
    model = family_models[family].clone()
    anatomy = read_anatomy(model)
    shared = family == "albert"
    heads = {b.index: [0, 2] if b.index == 0 or shared else [1] if b.index == 1 else [] for b in anatomy.blocks}
    neurons = {
        (b.index, i): [1, 5, 9, 30] if b.index == 0 or shared else list(range(3, 20)) if b.index == 1 else []
        for b in anatomy.blocks
        for i in range(len(b.feed_forwards))
    }
    hooks = {}
    for site in sites(anatomy):
        open_columns = (
            columns_of(heads[site.block], site.unit) if site.is_attention else neurons[site.block, site.number or 0]
        )
        hooks[site.projection.input] = gate(np.asarray(open_columns, np.int64))
    wanted = answers(model, hooks)
    RemoveNeurons(neurons)(model)
    RemoveHeads(heads)(model)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert largest_difference(wanted, by_runtime(model)) < 1e-5
    after = [b.attention.heads for b in read_anatomy(model).blocks if b.attention is not None]
    assert after == [len(k) for k in heads.values() if k]


def grouped(model: ir.Model) -> ir.Model:
    """Return a copy whose first block has four query heads over two heads of keys and values."""
    changed = model.clone()
    part = read_anatomy(changed).blocks[0].attention
    assert part is not None
    cuts = Cuts()
    for projection in (part.k, part.v):
        cuts.columns(projection.node, columns_of([0, 1], part.head_dim))
    cuts.apply()
    part.node.attributes["kv_num_heads"] = ir.AttrInt64("kv_num_heads", 2)
    return changed


@pytest.mark.parametrize("group", [0, 1])
def test_heads_of_a_group_are_removed_together_and_exactly(bert_model: ir.Model, group: int) -> None:
    model = grouped(bert_model)
    part = read_anatomy(model).blocks[0].attention
    assert part is not None and (part.heads, part.kv_heads) == (4, 2)
    kept = [2 * group, 2 * group + 1]
    wanted = answers(model, {part.o.input: gate(columns_of(kept, part.head_dim))})
    RemoveHeads({0: kept})(model)
    left = read_anatomy(model).blocks[0].attention
    assert left is not None and (left.heads, left.kv_heads) == (2, 1)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert largest_difference(wanted, by_runtime(model)) < 1e-5


@pytest.mark.parametrize("kept", [[0], [0, 2], [1, 2, 3], [0, 1, 3]])
def test_a_part_of_a_group_is_refused_and_nothing_is_changed(bert_model: ir.Model, kept: list[int]) -> None:
    """Also where as many heads are kept as whole groups would have."""
    model = grouped(bert_model)
    wanted = answers(model)
    with pytest.raises(UsageError, match=r"attention '.*': 2 heads share their keys and values"):
        RemoveHeads({0: kept})(model)
    assert largest_difference(wanted, answers(model)) == 0
    assert {b.attention.heads for b in read_anatomy(model).blocks if b.attention} == {4}


def test_a_head_as_wide_as_there_are_heads_keeps_its_width(tmp_path: Path) -> None:
    """Four heads of width 4, split by a shape that is computed from the batch's and by one that is a constant."""
    kept = [0, 1, 3]
    source = canonical(models.make_model(tmp_path, "modernbert", hidden_size=16, num_hidden_layers=1))
    for fixed in (False, True):
        model = source.clone()
        if fixed:
            split = next(n for n in model.graph if n.op_type == "Reshape" and len(n.outputs[0].shape or ()) == 5)
            split.attributes.pop("allowzero", None)
            split.replace_input_with(1, initializer(model.graph, "split", np.array([0, 0, 3, 4, 4])))
        part = read_anatomy(model).blocks[0].attention
        assert part is not None and part.heads == part.head_dim == 4
        wanted = answers(model, {part.o.input: gate(columns_of(kept, 4))})
        RemoveHeads({0: kept})(model)
        assert largest_difference(wanted, answers(model)) < 1e-5
        assert largest_difference(wanted, by_runtime(model)) < 1e-5


def test_disentangled_heads_as_wide_as_there_are_heads_keep_their_width(tmp_path: Path) -> None:
    """Recorded shapes of transposed keys hold the number twice, once as the width: the runtime refused what was noted there."""
    model = canonical(
        models.make_model(tmp_path, "deberta-v2", hidden_size=64, num_attention_heads=8, num_hidden_layers=1)
    )
    part = read_anatomy(model).blocks[0].attention
    assert part is not None and part.heads == part.head_dim == 8 and part.disentangled
    kept = [0, 2, 5]
    wanted = answers(model, {part.o.input: gate(columns_of(kept, 8))})
    RemoveHeads({0: kept})(model)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert largest_difference(wanted, by_runtime(model)) < 1e-5


def test_what_cannot_be_removed_is_refused(bert_model: ir.Model) -> None:
    for keep, reason in (({0: [4]}, "head"), ({0: [-1]}, "head"), ({0: [1, 1]}, "head"), ({7: [0]}, "block")):
        with pytest.raises(UsageError, match=reason):
            RemoveHeads(keep)(bert_model.clone())


def test_heads_removed_twice_know_where_they_came_from(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    RemoveHeads({0: [1, 2, 3]})(model)
    RemoveHeads({0: [0, 2]})(model)
    once = bert_model.clone()
    RemoveHeads({0: [1, 3]})(once)
    parts = [read_anatomy(m.clone()).blocks[0].attention for m in (model, once, bert_model)]
    assert [original_heads(p) for p in parts if p is not None] == [(1, 3), (1, 3), (0, 1, 2, 3)]
    assert largest_difference(answers(model), answers(once)) == 0


@pytest.mark.parametrize("family", sorted(set(models.FAMILIES) - {"albert"}))
def test_heads_going_one_by_one_are_gone_as_at_once(family: str, family_models: dict[str, ir.Model]) -> None:
    """Whatever the count is in between: three heads look like queries, keys and values in a merged projection's shape."""
    once, model = family_models[family].clone(), family_models[family].clone()
    RemoveHeads({0: [2], 1: [1, 3]})(once)
    for kept_heads in ([0, 1, 2], [1, 2], [1]):
        RemoveHeads({0: kept_heads})(model)
    RemoveHeads({1: [0, 1, 3]})(model)
    RemoveHeads({1: [1, 2]})(model)
    assert largest_difference(answers(model), answers(once)) < 1e-6
    assert largest_difference(answers(once), by_runtime(model)) < 1e-5


def test_attention_without_heads_leaves_residual_and_its_constant(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    part = read_anatomy(model).blocks[1].attention
    assert part is not None
    wanted = answers(model, {part.o.input: lambda x: x * 0})
    other = model.clone()
    RemoveHeads({1: []})(model)
    RemoveParts(attentions=[1])(other)
    for pruned in (model, other):
        assert largest_difference(wanted, answers(pruned)) < 1e-6
        assert sum(n.op_type == "Attention" for n in pruned.graph) == 2
        assert "encoder.layer.1.attention.self.query.weight" not in pruned.graph.initializers
        assert "encoder.layer.1.attention.output.dense.bias" in pruned.graph.initializers


def test_head_removal_equals_masked_heads_in_transformers(tmp_path: Path) -> None:
    directory = models.make_model(tmp_path, "bert")
    reference = transformers.AutoModel.from_pretrained(directory).eval()
    keep = {0: [1, 3], 1: [0, 1, 2]}
    for layer, kept_heads in keep.items():
        weight = reference.encoder.layer[layer].attention.output.dense.weight
        with torch.no_grad():  # heads are masked where they are mixed: columns of the output projection
            weight[:, np.setdiff1d(np.arange(32), columns_of(kept_heads, 8))] = 0
    with torch.no_grad():
        wanted = reference(**{k: torch.from_numpy(v) for k, v in feeds().items()}).last_hidden_state.numpy()
    model = canonical(directory)
    RemoveHeads(keep)(model)
    mask = feeds()["attention_mask"].astype(bool)
    assert np.abs(wanted[mask] - answers(model)["last_hidden_state"]).max() < 1e-5


def test_every_run_edits_in_the_same_order(family_models: dict[str, ir.Model], tmp_path: Path) -> None:
    """The order of new shapes, and with it the artifact's bytes, must not depend on where objects lie in memory."""
    path = tmp_path / "deberta.onnx"
    ir.save(family_models["deberta-v2"], path)
    script = (
        "import sys; import onnx_ir as ir\n"
        "from headway.exporter.passes.heads import RemoveHeads\n"
        "filler = [object() for _ in range(int(sys.argv[2]))]\n"
        "model = ir.load(sys.argv[1]); RemoveHeads({0: [0, 2], 1: [1, 3]})(model)\n"
        "print([*model.graph.initializers, *(n.name for n in model.graph)])\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script, path, str(filler)], capture_output=True, text=True, check=True
        ).stdout
        for filler in (0, 33333)
    }
    assert len(printed) == 1
