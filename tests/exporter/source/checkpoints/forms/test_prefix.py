"""A wrapper's name is taken off all tensors, or off none."""

from pathlib import Path

import pytest
import torch

from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.read import read_checkpoint, undo
from headway.exporter.source.checkpoints.state import given
from headway.exporter.source.place import Place

from tests.checkpoints.pruned_masks import make_masked
from tests.support import checkpoints, twins

ONE = given(torch.ones(1))
BERT = {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 9}
MODERN = BERT | {"model_type": "modernbert", "intermediate_size": 64, "pad_token_id": 0}
BERT_NAMES = ("embeddings.word_embeddings.weight", "encoder.layer.0.output.dense.weight", "pooler.dense.weight")
HEAD_NAMES = (*(f"bert.{name}" for name in BERT_NAMES), "classifier.weight")
MODERN_NAMES = ("embeddings.tok_embeddings.weight", "layers.1.attn.Wqkv.weight", "final_norm.weight")
MODERN_HEAD = (*(f"model.{name}" for name in MODERN_NAMES), "classifier.weight")


def _undone(directory: Path, names: list[str], config: dict) -> Checkpoint | None:
    return undo(Checkpoint(directory, config, dict.fromkeys(names, ONE)))


@pytest.mark.parametrize(
    ("prefix", "names", "config"),
    [
        ("module.", HEAD_NAMES, BERT),
        ("model.", HEAD_NAMES, BERT),
        ("net.encoder.", BERT_NAMES, BERT),
        ("_forward_module.model.", HEAD_NAMES, BERT),
        ("_fsdp_wrapped_module.module._orig_mod.", BERT_NAMES, BERT),
        ("model.", MODERN_HEAD, MODERN),
        ("module.net.", MODERN_NAMES, MODERN),
    ],
)
def test_wrappers_are_taken_off(prefix: str, names: tuple[str, ...], config: dict, tmp_path: Path) -> None:
    found = _undone(tmp_path, [prefix + name for name in names], config)
    assert found is not None
    assert list(found.state) == list(names)


@pytest.mark.parametrize(("names", "config"), [(BERT_NAMES, BERT), (HEAD_NAMES, BERT), (MODERN_HEAD, MODERN)])
def test_names_of_the_class_itself_stay(names: tuple[str, ...], config: dict, tmp_path: Path) -> None:
    assert _undone(tmp_path, list(names), config) is None


def test_parts_inside_a_name_are_taken_off(tmp_path: Path) -> None:
    names = [n.replace("layer.0.", "layer.0._fsdp_wrapped_module._checkpoint_wrapped_module.") for n in HEAD_NAMES]
    found = _undone(tmp_path, names, BERT)
    assert found is not None
    assert list(found.state) == list(HEAD_NAMES)
    assert found.sentences == ("names without '_checkpoint_wrapped_module' and '_fsdp_wrapped_module' of a wrapper",)


def test_what_only_training_needs_is_left_out_by_name(tmp_path: Path) -> None:
    found = _undone(tmp_path, [*(f"model.{name}" for name in HEAD_NAMES), "criterion.weight"], BERT)
    assert found is not None
    assert "criterion.weight is left out" in found.sentences[0]
    averaged = _undone(tmp_path, [*(f"module.{name}" for name in HEAD_NAMES), "n_averaged"], BERT)
    assert averaged is not None
    assert list(averaged.state) == list(HEAD_NAMES)


def test_a_lightning_checkpoint_of_a_pruned_and_compiled_model(tmp_path: Path) -> None:
    model = make_masked(tmp_path)
    state = {f"model._orig_mod.{k}": v for k, v in model.state_dict().items()}
    extra = {"optimizer_states": [{"state": {0: torch.ones(2)}}], "epoch": 3, "hyper_parameters": {"lr": 1e-4}}
    torch.save({"state_dict": state, **extra}, tmp_path / "last.ckpt")
    found = read_checkpoint(Place(tmp_path, (tmp_path / "last.ckpt",)), BERT)
    assert found is not None
    assert found.sentences[0].startswith("last.ckpt also holds optimizer_states, epoch, hyper_parameters")
    assert "pruning masks folded into 14 tensors" in found.sentences
    weight = found.state["bert.encoder.layer.0.intermediate.dense.weight"].read()
    assert torch.equal(weight, model.bert.encoder.layer[0].intermediate.dense.weight)


def test_a_wrappers_name_is_taken_off_in_an_export(tmp_path: Path) -> None:
    model = checkpoints.base(tmp_path)
    checkpoints.save(tmp_path, {f"_orig_mod.{k}": v for k, v in model.state_dict().items()})
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert "'_orig_mod'" in source.sentences[0]


def test_a_name_before_some_tensors_alone_is_refused(tmp_path: Path) -> None:
    state = checkpoints.base(tmp_path).state_dict()
    first = next(iter(state))
    checkpoints.save(tmp_path, {(f"module.{k}" if k == first else k): v for k, v in state.items()})
    assert first in checkpoints.refusal(tmp_path)


SOUND = twins.Sound(
    twins.renamed("module."), f"module.{twins.NORM}", {twins.NORM: torch.ones(32)}, (twins.NORM, "36 tensors")
)
"""What `test_hostile_twins.py` makes twins of."""
