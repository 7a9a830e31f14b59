"""Score modules become masks by the settings beside them; compiled forms are cut; what does not fit is refused."""

import json
from pathlib import Path

import pytest
import torch

from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.source.source import open_source

from tests.checkpoints.block_pruned import make_blocks, make_compiled
from tests.checkpoints.hub_pruned import make_hub
from tests.support import checkpoints, models, twins

STEM = "bert.encoder.layer.0.attention.self.query"


@pytest.mark.parametrize(("ampere", "norms"), [(False, False), (True, True)])
def test_masks_are_folded(ampere: bool, norms: bool, tmp_path: Path) -> None:
    model = make_blocks(tmp_path, ampere=ampere, norms=norms)
    source, _ = checkpoints.same_answers(
        tmp_path, checkpoints.forward(model), within=1e-4 if norms else checkpoints.ROUNDING
    )
    assert "nn_pruning's masks folded into 12 weights" in source.sentences[0]
    assert ("5 norms are a scale and a shift alone" in source.sentences[0]) == norms
    assert source.config["hidden_act"] == ("relu" if norms else "gelu")


JOINT = {"attention_pruning_method": "sigmoied_threshold:joint"}
ALTERNATE = {"dense_pruning_method": "sigmoied_threshold:1d_alt"}
ACROSS = {"attention_output_with_dense": False}
SQUARE = {"attention_block_rows": 8, "attention_block_cols": 8}


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(JOINT, id="joint"),
        pytest.param(ALTERNATE, id="alternate"),
        pytest.param(ACROSS, id="across"),
        pytest.param(JOINT | ACROSS | SQUARE, id="joint, across"),
        pytest.param(ALTERNATE | ACROSS, id="hybrid"),
        pytest.param(JOINT | ALTERNATE | ACROSS | SQUARE | {"bias_mask": False}, id="all, no masks of biases"),
    ],
)
def test_scores_that_layers_share_or_that_lie_across_are_folded(options: dict, tmp_path: Path) -> None:
    """Joint scores are those of a block's attention; alternate ones are of neurons alone; across are the blocks of its output."""
    model = make_blocks(tmp_path, **options)
    modules = dict(model.named_modules())
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.checkpoint is not None and "nn_pruning's masks folded into 12 weights" in source.sentences[0]
    for name in checkpoints.tensors(tmp_path):
        stem = name.partition(".mask_module.")[0]
        if stem != name:
            masked = modules[stem]
            assert 0 < masked.mask().mean() < 1
            assert torch.equal(source.checkpoint.state[f"{stem}.weight"].read(), masked.weight * masked.mask())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (ALTERNATE, "bert.encoder.layer.0.output.dense.mask_module.context_modules.1.mask_scores"),
        (ACROSS, "bert.encoder.layer.0.attention.output.dense.mask_module.context_modules.0.mask_scores"),
        (JOINT, f"{STEM}.mask_module.context_modules.0.mask_scores"),
    ],
)
def test_scores_of_each_way_are_checked(options: dict, name: str, tmp_path: Path) -> None:
    make_blocks(tmp_path, **options)
    state = checkpoints.tensors(tmp_path)
    assert name in state
    checkpoints.save(tmp_path, state | {name: state[name][:3]})
    assert f"{name} is [3" in checkpoints.refusal(tmp_path)


def test_the_compiled_form_is_cut(tmp_path: Path) -> None:
    """Its neurons of zeros have no bias, and ReLU keeps 0."""
    model = make_compiled(tmp_path)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model), within=1e-4)
    assert source.sentences[0] == "5 norms are a scale and a shift alone"
    assert any("neurons 64 → " in sentence for sentence in source.sentences)
    assert all(b.feed_forwards[0].width <= 44 for b in read_anatomy(graph).blocks)


@pytest.mark.parametrize(
    ("without_norms", "cropped"),
    [
        (True, True),
        *(pytest.param(*pair, marks=pytest.mark.slow) for pair in ((True, False), (False, True), (False, False))),
    ],
)
def test_a_published_model_is_the_dense_one_with_masks(without_norms: bool, cropped: bool, tmp_path: Path) -> None:
    model = make_hub(tmp_path, without_norms=without_norms, cropped=cropped)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert ("7 norms are a scale and a shift alone" in source.sentences) == without_norms
    assert f"heads 3, 4, 1 of 4; feed-forward {'44, 30, 32' if cropped else '64'} of 64" in source.sentences
    blocks = read_anatomy(graph).blocks
    assert [(b.attention.heads, b.feed_forwards[0].width) for b in blocks if b.attention] == [(3, 44), (4, 30), (1, 32)]


def test_a_published_model_with_a_block_without_heads(tmp_path: Path) -> None:
    heads, neurons = {1: range(4)}, dict.fromkeys(range(3), range(48))
    model = make_hub(tmp_path, without_norms=True, cropped=True, heads=heads, neurons=neurons)
    source, graph = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert "heads 4, 0, 4 of 4; feed-forward 16 of 64" in source.sentences
    assert len([b for b in read_anatomy(graph).blocks if b.attention]) == 2


def test_without_the_settings_nothing_says_which_scores_count(tmp_path: Path) -> None:
    make_blocks(tmp_path)
    (tmp_path / "sparse_args.json").unlink()
    assert "which are kept is in sparse_args.json, which is not here" in checkpoints.refusal(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"final_threshold": None}, "final_threshold = None"),
        ({"attention_pruning_method": "fisher"}, "the method fisher for"),
        ({"rewind_model_name_or_path": "other"}, "rewind_model_name_or_path = 'other' keeps the heads of that model"),
        ({"attention_block_rows": 16}, "in blocks of 16 × 4"),
        ({"attention_block_rows": 0}, "in blocks of 0 × 4"),
        ({"ampere_pruning_method": "annealing"}, "ampere_module.context_module.mask_scores is missing"),
    ],
)
def test_settings_that_do_not_fit_are_refused(change: dict, said: str, tmp_path: Path) -> None:
    make_blocks(tmp_path)
    path = tmp_path / "sparse_args.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert said in checkpoints.refusal(tmp_path)


def test_scores_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    make_blocks(tmp_path, norms=True)
    state = checkpoints.tensors(tmp_path)
    name = f"{STEM}.mask_module.context_modules.0.mask_scores"
    checkpoints.save(tmp_path, state | {name: torch.ones(3, 8)})
    assert f"{name} is [3, 8]" in checkpoints.refusal(tmp_path)
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != f"{STEM}.weight"})
    assert f"{STEM} has scores and no weight" in checkpoints.refusal(tmp_path)
    norm = "bert.embeddings.LayerNorm"
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != f"{norm}.weight"})
    assert f"{norm}.accumulator" in checkpoints.refusal(tmp_path)


def test_a_norm_that_lacks_what_others_have_is_missed(tmp_path: Path) -> None:
    make_blocks(tmp_path, norms=True)
    state = checkpoints.tensors(tmp_path)
    norm = "bert.encoder.layer.1.output.LayerNorm"
    checkpoints.save(tmp_path, {k: v for k, v in state.items() if k != f"{norm}.accumulator"})
    assert f"{norm} has no accumulator" in checkpoints.refusal(tmp_path)


def test_weights_that_are_pruned_by_magnitude_at_run_time_are_refused(tmp_path: Path) -> None:
    """Nothing but the settings shows it: the weights are dense, and the model's forward sets the smallest to zero."""
    models.make_model(tmp_path, "bert")
    (tmp_path / "sparse_args.json").write_text(json.dumps({"dense_pruning_method": "magnitude"}))
    assert "dense_pruning_method = 'magnitude' prunes weights whenever the model runs" in checkpoints.refusal(tmp_path)
    (tmp_path / "sparse_args.json").write_text(json.dumps({"dense_pruning_method": "topK"}))
    assert open_source(str(tmp_path)).sentences == ()


SOUND = twins.Sound(
    make_blocks,
    f"{twins.BERT_QUERY}.mask_module.context_modules.0.mask_scores",
    {f"{twins.BERT_QUERY}.mask_scores": torch.ones(32, 32)},
    (twins.BERT_QUERY, "pruning_method"),
)
"""What `test_hostile_twins.py` makes twins of."""
