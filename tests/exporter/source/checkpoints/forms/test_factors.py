"""Factors keep their open ranks where two matmuls pay, and are merged elsewhere; factors that do not fit are refused."""

from pathlib import Path

import pytest
import torch

from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.forms.factors import read
from headway.exporter.source.checkpoints.state import given

from tests.checkpoints.gated_factors import make_gated, make_stacked
from tests.support import checkpoints, twins

STEM = "bert.encoder.layer.0.attention.self.query"


def test_gates_are_folded_and_closed_ranks_cut(tmp_path: Path) -> None:
    """Rank 9 of 32 × 32 and 32 × 64 pays; 18 of 32 × 32 does not, and of 32 × 64 does; rank 0 leaves the bias."""
    model = make_gated(tmp_path, [9, 18, 0])
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences[0] == "12 weights factored, ranks 0 to 18, 2 merged where two factors do not pay"
    ranks = [p.rank for b in read_anatomy(graph).blocks for p in b.projections]
    assert ranks[:4] == [9, None, 1, 9]


def test_gates_on_inputs_are_folded(tmp_path: Path) -> None:
    model = make_gated(tmp_path, [], inputs=True)
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences[0] == "gates on the inputs of 12 weights folded"


def test_a_gate_on_inputs_that_one_block_lacks_is_missed(tmp_path: Path) -> None:
    """Its weight is stored transposed, and square, so that nothing else would show it."""
    make_gated(tmp_path, [], inputs=True)
    state = checkpoints.tensors(tmp_path)
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != f"{STEM}.mask.log_alpha"})
    assert f"{STEM}.weight has no {STEM}.mask.log_alpha beside it" in checkpoints.refusal(tmp_path)


@pytest.mark.parametrize(
    "names", [("0", "1"), ("linear1", "linear2"), ("BLinear", "ALinear"), ("V", "U"), ("v_proj", "u_proj")], ids=str
)
def test_two_layers_in_the_place_of_one(names: tuple[str, str], tmp_path: Path) -> None:
    model = make_stacked(tmp_path, [6, 9, 20], names)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences[0].startswith("12 weights factored, ranks 6 to 20, ")
    assert [p.rank for p in read_anatomy(graph).blocks[0].projections][:3] == [6, 9, None]


def test_a_merged_layer_without_a_bias_is_made_without_one() -> None:
    """Rank 3 of 4 × 4 does not pay: what is merged is as large as the class has it, but for the bias."""
    pair = {"0.weight": torch.ones(3, 4), "1.weight": torch.ones(4, 3)}
    state = {f"encoder.{name}.{end}": given(t) for name in ("plain", "biased") for end, t in pair.items()}
    found = read(Checkpoint(Path("place"), {}, state | {"encoder.biased.1.bias": given(torch.ones(4))}))
    assert found is not None and found.resized == {"encoder.plain"}
    assert set(found.state) == {"encoder.plain.weight", "encoder.biased.weight", "encoder.biased.bias"}
    assert torch.equal(found.state["encoder.plain.weight"].read(), torch.full((4, 4), 3.0))


@pytest.mark.slow
def test_a_bias_between_the_layers_goes_through_the_second(tmp_path: Path) -> None:
    model = make_stacked(tmp_path, [6, 20], inner_bias=True)
    _, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert [p.rank for p in read_anatomy(graph).blocks[0].projections][:2] == [6, None]


@pytest.mark.parametrize(
    ("pooler", "embedding", "tables"), [(5, 8, [8]), pytest.param(20, 31, [32], marks=pytest.mark.slow)]
)
def test_a_pooler_and_embeddings_of_two_layers(pooler: int, embedding: int, tables: list[int], tmp_path: Path) -> None:
    """The embedding of 96 tokens by 32 pays below rank 24."""
    model = make_stacked(tmp_path, [6], pooler=pooler, embedding=embedding)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.sentences[0].startswith("14 weights factored")
    words = [s[1] for n, s in read_anatomy(graph).embeddings.items() if "word_embeddings" in n]
    assert words == tables


def test_factors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make_gated(tmp_path, [4])
    state = checkpoints.tensors(tmp_path)
    checkpoints.save(tmp_path, state | {f"{STEM}.weight_proj": torch.ones(23, 32)})
    assert "their ranks differ" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != f"{STEM}.mask.log_alpha"})
    assert f"{STEM}.weight_proj has no gates" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != f"{STEM}.weight"})
    assert f"{STEM}.weight_proj has no {STEM}.weight" in checkpoints.refusal(tmp_path)


def test_stacked_layers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make_stacked(tmp_path, [6])
    state = checkpoints.tensors(tmp_path)
    checkpoints.save(tmp_path, state | {f"{STEM}.1.weight": torch.ones(32, 7)})
    assert "their ranks differ" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, state | {f"{STEM}.1.bias": torch.ones(6)})
    assert f"the bias of {STEM}.1 is [6]" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, state | {f"{STEM}.weight": torch.ones(32, 32)})
    assert "both as" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != f"{STEM}.1.weight"})
    assert STEM in checkpoints.refusal(tmp_path)
    checkpoints.save(
        tmp_path,
        state
        | {"bert.embeddings.LayerNorm.0.weight": torch.ones(4, 32)}
        | {"bert.embeddings.LayerNorm.1.weight": torch.ones(32, 4)},
    )
    assert "bert.embeddings.LayerNorm" in checkpoints.refusal(tmp_path)


SOUND = twins.Sound(
    lambda f: make_gated(f, [9, 18, 0]),
    f"{twins.BERT_QUERY}.weight_proj",
    {f"{twins.BERT_QUERY}.0.weight": torch.ones(9, 32)},
    (f"{twins.BERT_QUERY}.mask.log_alpha",),
)
"""What `test_hostile_twins.py` makes twins of."""
