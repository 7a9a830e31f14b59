"""Reports of passes, and refusals that leave the model untouched."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.errors import UsageError
from headway.exporter.compress.evidence import sites
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.edit import constant
from headway.exporter.passes.base import REPORT_LENGTH
from headway.exporter.passes.blocks import RemoveBlocks, RemoveParts
from headway.exporter.passes.cuts import set_array
from headway.exporter.passes.heads import RemoveHeads
from headway.exporter.passes.lowrank import SplitWeights
from headway.exporter.passes.neurons import RemoveNeurons

from tests.support import models
from tests.support.pass_checks import answers, largest_difference
from tests.support.variants import canonical

ARCHITECTURES = [(2, 12, 3, 16), (3, 4, 1, 40), (4, 8, 2, 48)]
"""Numbers of heads, their sizes, numbers of layers and sizes of feed-forward layers; each is traced once."""


@pytest.fixture(scope="module")
def models_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ir.Model]:
    @cache
    def made(heads: int, head_dim: int, layers: int, width: int) -> ir.Model:
        directory = models.make_model(
            tmp_path_factory.mktemp("random"),
            "bert",
            hidden_size=heads * head_dim,
            num_attention_heads=heads,
            num_hidden_layers=layers,
            intermediate_size=width,
        )
        return canonical(directory)

    return made


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_zero_gates_go_without_a_trace(models_of: Callable[..., ir.Model], data: st.DataObject) -> None:
    """Random units of several architectures: those that contribute nothing leave outputs as they were, bytes fall as predicted."""
    heads, head_dim, layers, width = data.draw(st.sampled_from(ARCHITECTURES))
    hidden = heads * head_dim
    model = models_of(heads, head_dim, layers, width).clone()
    anatomy = read_anatomy(model)
    keep_heads, keep_neurons, saved, saved_flops = {}, {}, 0, 0.0
    for site in sites(anatomy):
        kept_units = data.draw(st.sets(st.integers(0, site.units - 1), min_size=1))
        removed = site.units - len(kept_units)
        closed = np.isin(np.arange(site.units), sorted(kept_units), invert=True).repeat(site.unit)
        weight = model.graph.initializers[site.projection.weight]
        array = np.array(constant(weight))
        array[closed] = 0
        set_array(weight, array)
        if site.is_attention:
            keep_heads[site.block] = sorted(kept_units)
            saved += removed * head_dim * (4 * hidden + 3) * 4
            saved_flops += 2 * removed * head_dim * (4 * hidden + 2 * REPORT_LENGTH)
        else:
            keep_neurons[site.block, 0] = sorted(kept_units)
            saved += removed * (2 * hidden + 1) * 4
            saved_flops += 2 * removed * 2 * hidden
    wanted = answers(model)
    first, second = RemoveHeads(keep_heads), RemoveNeurons(keep_neurons)
    first(model)
    second(model)
    assert largest_difference(wanted, answers(model)) < 1e-5
    assert first.report is not None and second.report is not None
    assert first.report.nbytes[0] - second.report.nbytes[1] == saved
    assert first.report.flops_per_token[0] - second.report.flops_per_token[1] == pytest.approx(saved_flops)


@dataclass
class Refusal:
    structural_pass: ir.passes.InPlacePass
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
        Refusal(SplitWeights({"encoder.layer.0.intermediate.dense.weight": 22}), "rank 22 does not pay for 32 × 64"),
        Refusal(SplitWeights({"no.such.weight": 2}), "no such weight matrix"),
    ],
    ids=lambda r: r.says,
)
def test_what_does_not_fit_is_refused_untouched(refusal: Refusal, bert_model: ir.Model) -> None:
    model = bert_model.clone()
    before = ir.to_proto(model).SerializeToString()
    with pytest.raises(UsageError, match=refusal.says):
        refusal.structural_pass(model)
    assert ir.to_proto(model).SerializeToString() == before
