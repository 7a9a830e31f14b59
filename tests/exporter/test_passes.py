"""Structural passes on random models of every family: exact where nothing of value goes, and refused where they do not fit."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.errors import UsageError
from headway.exporter.compress.evidence import sites
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.base import REPORT_LENGTH
from headway.exporter.passes.blocks import RemoveBlocks, RemoveParts
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.heads import RemoveHeads, columns_of, original_heads
from headway.exporter.passes.lowrank import SplitMatrices, break_even, factors, global_ranks, tail_energy
from headway.exporter.passes.neurons import RemoveNeurons
from headway.exporter.passes.sharing import ShareWeights

from tests.support import models
from tests.support.variants import canonical

SHAPE = (3, 9)


def feeds(task: str = "") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.ones(SHAPE, np.int64)
    mask[1, 5:] = 0
    return {
        "input_ids": rng.integers(5, models.VOCABULARY - 1, SHAPE),
        "attention_mask": mask,
        "token_type_ids": np.zeros(SHAPE, np.int64),
    }


def answers(model: ir.Model, hooks: dict | None = None) -> dict[str, np.ndarray]:
    """Outputs at real tokens, by torch."""
    mask = feeds()["attention_mask"].astype(bool)
    with torch.no_grad():
        found = TorchGraph(model)(feeds(), hooks)
    return {k: v.numpy()[mask] if v.shape[:2] == SHAPE else v.numpy() for k, v in found.items()}


def by_runtime(model: ir.Model) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    mask = feeds()["attention_mask"].astype(bool)
    values = session.run(None, {i.name: feeds()[i.name] for i in session.get_inputs()})
    return {o.name: v[mask] if v.shape[:2] == SHAPE else v for o, v in zip(session.get_outputs(), values, strict=True)}


def gate(kept: np.ndarray) -> Callable[[torch.Tensor], torch.Tensor]:
    def close(x: torch.Tensor) -> torch.Tensor:
        open_ones = torch.zeros(x.shape[-1])
        open_ones[kept] = 1
        return x * open_ones

    return close


def largest_difference(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    assert a.keys() == b.keys()
    return max(float(np.abs(a[k] - b[k]).max()) for k in a)


@pytest.fixture(scope="module")
def family_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ir.Model]:
    folder = tmp_path_factory.mktemp("families")
    return {f: canonical(models.make_model(folder / f, f, "text-classification")) for f in models.FAMILIES}


@pytest.fixture(scope="module")
def bert_model(tmp_path_factory: pytest.TempPathFactory) -> ir.Model:
    return canonical(models.make_model(tmp_path_factory.mktemp("bert"), "bert", num_hidden_layers=3))


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
        kept = columns_of(heads[site.block], site.unit) if site.is_attention else neurons[site.block, site.number or 0]
        hooks[site.projection.input] = gate(np.asarray(kept, np.int64))
    wanted = answers(model, hooks)
    RemoveNeurons(neurons)(model)
    RemoveHeads(heads)(model)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert largest_difference(wanted, by_runtime(model)) < 1e-5
    after = [b.attention.heads for b in read_anatomy(model).blocks if b.attention is not None]
    assert after == [len(k) for k in heads.values() if k]


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "electra", "mpnet", "modernbert", "deberta-v2", "mobilebert"]
)
def test_a_removed_block_is_bypassed(family: str, family_models: dict[str, ir.Model]) -> None:
    for index in (0, 1):
        model = family_models[family].clone()
        block = read_anatomy(model).blocks[index]
        assert block.input is not None and block.output is not None
        graph = TorchGraph(model)
        with torch.no_grad():
            entry = graph.run(graph.feeds(feeds()), [block.input])[block.input]
        wanted = answers(model, {block.output: lambda _, entry=entry: entry})
        count = len(read_anatomy(model).blocks)
        RemoveBlocks([index])(model)
        assert largest_difference(wanted, answers(model)) < 1e-6
        assert len(read_anatomy(model).blocks) == count - 1


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
    for kept in ([0, 1, 2], [1, 2], [1]):
        RemoveHeads({0: kept})(model)
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
    for one in (model, other):
        assert largest_difference(wanted, answers(one)) < 1e-6
        assert sum(n.op_type == "Attention" for n in one.graph) == 2
        assert "encoder.layer.1.attention.self.query.weight" not in one.graph.initializers
        assert "encoder.layer.1.attention.output.dense.bias" in one.graph.initializers


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_zero_gates_go_without_a_trace(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Random architectures: units that already contribute nothing leave outputs as they were, and bytes fall as predicted."""
    heads = data.draw(st.integers(2, 4))
    head_dim, layers = 4 * data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    width = 8 * data.draw(st.integers(2, 6))
    hidden = heads * head_dim
    directory = models.make_model(
        tmp_path_factory.mktemp("random"),
        "bert",
        hidden_size=hidden,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        intermediate_size=width,
    )
    model = canonical(directory)
    anatomy = read_anatomy(model)
    keep_heads, keep_neurons, saved, saved_flops = {}, {}, 0, 0.0
    for site in sites(anatomy):
        kept = data.draw(st.sets(st.integers(0, site.units - 1), min_size=1))
        gone = site.units - len(kept)
        closed = np.isin(np.arange(site.units), sorted(kept), invert=True).repeat(site.unit)
        weight = model.graph.initializers[site.projection.weight]
        array = np.array(constant(weight))
        array[closed] = 0
        set_array(weight, array)
        if site.is_attention:
            keep_heads[site.block] = sorted(kept)
            saved += gone * head_dim * (4 * hidden + 3) * 4
            saved_flops += 2 * gone * head_dim * (4 * hidden + 2 * REPORT_LENGTH)
        else:
            keep_neurons[site.block, 0] = sorted(kept)
            saved += gone * (2 * hidden + 1) * 4
            saved_flops += 2 * gone * 2 * hidden
    wanted = answers(model)
    first, second = RemoveHeads(keep_heads), RemoveNeurons(keep_neurons)
    first(model)
    second(model)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert first.report is not None and second.report is not None
    assert first.report.nbytes[0] - second.report.nbytes[1] == saved
    assert first.report.flops_per_token[0] - second.report.flops_per_token[1] == pytest.approx(saved_flops)


def test_head_removal_equals_masked_heads_in_transformers(tmp_path: Path) -> None:
    directory = models.make_model(tmp_path, "bert")
    reference = transformers.AutoModel.from_pretrained(directory).eval()
    keep = {0: [1, 3], 1: [0, 1, 2]}
    for layer, kept in keep.items():
        weight = reference.encoder.layer[layer].attention.output.dense.weight
        with torch.no_grad():  # heads are masked where they are mixed: columns of the output projection
            weight[:, np.setdiff1d(np.arange(32), columns_of(kept, 8))] = 0
    with torch.no_grad():
        wanted = reference(**{k: torch.from_numpy(v) for k, v in feeds().items()}).last_hidden_state.numpy()
    model = canonical(directory)
    RemoveHeads(keep)(model)
    mask = feeds()["attention_mask"].astype(bool)
    assert np.abs(wanted[mask] - answers(model)["last_hidden_state"]).max() < 1e-5


@pytest.mark.parametrize("family", ["bert", "albert", "modernbert", "deberta-v2"])
def test_a_split_at_the_true_rank_is_exact(family: str, tmp_path: Path) -> None:
    model = canonical(models.make_model(tmp_path, family, "fill-mask", intermediate_size=256))
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
    one = SplitMatrices(ranks)
    one(model)
    assert largest_difference(wanted, answers(model)) < 1e-4
    assert largest_difference(wanted, by_runtime(model)) < 1e-4
    assert one.report is not None and one.report.nbytes[1] < 0.6 * one.report.nbytes[0]
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


@given(st.integers(2, 3000), st.integers(2, 3000))
def test_break_even(rows: int, columns: int) -> None:
    rank = break_even(rows, columns)
    assert rank * (rows + columns) < rows * columns <= (rank + 1) * (rows + columns)


def test_global_ranks_spend_the_budget_where_energy_is() -> None:
    rng = np.random.default_rng(0)
    thin = rng.standard_normal((64, 8)) @ rng.standard_normal((8, 64))
    full = rng.standard_normal((64, 64))
    ranks = global_ranks({"thin": thin, "full": full}, 0.6, 4, {}, {})
    assert ranks["thin"] == 8
    assert "full" not in ranks or ranks["full"] > 16


def test_equal_weights_are_stored_once(bert_model: ir.Model) -> None:
    model = bert_model.clone()
    names = [f"encoder.layer.{i}.intermediate.dense.weight" for i in (0, 2)]
    first = np.array(constant(model.graph.initializers[names[0]]))
    set_array(model.graph.initializers[names[1]], first)
    wanted = answers(model)
    exact = ShareWeights()
    exact(model)
    assert exact.report is not None and exact.report.changes[names[1]] == f"is {names[0]}"
    assert names[1] not in model.graph.initializers
    assert largest_difference(wanted, answers(model)) == 0
    near = bert_model.clone()
    set_array(near.graph.initializers[names[1]], first * 1.01)
    untouched = near.clone()
    ShareWeights()(untouched)
    assert names[1] in untouched.graph.initializers
    ShareWeights(tolerance=0.02)(near)
    assert names[1] not in near.graph.initializers


@dataclass
class Refusal:
    one: ir.passes.InPlacePass
    says: str


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(RemoveHeads({0: [4]}), "head 4 is out of range"),
        Refusal(RemoveHeads({7: [0]}), "there is no block 7"),
        Refusal(RemoveHeads({0: [1, 1]}), "given twice"),
        Refusal(RemoveNeurons({(0, 0): [64]}), "neuron 64 is out of range"),
        Refusal(RemoveNeurons({(0, 1): [0]}), "there is no number 1"),
        Refusal(RemoveBlocks([3]), "block 3 is out of range"),
        Refusal(RemoveBlocks([0, 1, 2]), "keep at least one"),
        Refusal(RemoveParts(attentions=[5]), "block 5 is out of range"),
        Refusal(SplitMatrices({"encoder.layer.0.intermediate.dense.weight": 22}), "rank 22 does not pay for 32 × 64"),
        Refusal(SplitMatrices({"no.such.weight": 2}), "no such matrix"),
    ],
    ids=lambda r: r.says,
)
def test_what_does_not_fit_is_refused_untouched(refusal: Refusal, bert_model: ir.Model) -> None:
    model = bert_model.clone()
    before = ir.to_proto(model).SerializeToString()
    with pytest.raises(UsageError, match=refusal.says):
        refusal.one(model)
    assert ir.to_proto(model).SerializeToString() == before


def test_shared_layers_are_cut_together_or_not_at_all(family_models: dict[str, ir.Model]) -> None:
    with pytest.raises(UsageError, match="shared"):
        RemoveHeads({0: [0]})(family_models["albert"].clone())
    with pytest.raises(UsageError, match="shared"):
        RemoveNeurons({(0, 0): [0], (1, 0): [1], (2, 0): [1]})(family_models["albert"].clone())


def test_quantized_weights_are_refused(bert_model: ir.Model) -> None:
    """Structure goes before precision: a quantized matrix can be neither cut nor split."""
    model = bert_model.clone()
    name = "encoder.layer.0.output.dense.weight"
    weight = model.graph.initializers[name]
    node = next(n for n, _ in weight.uses())
    scale = ir.Value(name="scale", const_value=ir.Tensor(np.float32(0.01)), shape=ir.Shape([]))
    whole = ir.Value(name=f"{name}.int8", const_value=ir.Tensor(np.ones((64, 32), np.int8)), shape=ir.Shape([64, 32]))
    for value in (scale, whole):
        model.graph.register_initializer(value)
    real = ir.node("DequantizeLinear", [whole, scale], name="dequantize")
    real.outputs[0].shape, real.outputs[0].type = ir.Shape([64, 32]), ir.TensorType(ir.DataType.FLOAT)
    model.graph.insert_before(node, real)
    node.replace_input_with(1, real.outputs[0])
    del model.graph.initializers[name]
    with pytest.raises(UsageError, match="before quantizing"):
        RemoveNeurons({(0, 0): [0, 1]})(model)
    with pytest.raises(UsageError, match="quantized or split before"):
        SplitMatrices({name: 4})(model)
