"""Every tensor of a checkpoint is used, explained in a note, or refused by name."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from headway.errors import HeadwayWarning, SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.capture.loading_report import reported
from headway.exporter.source.source import Source, open_source

from tests.support import models
from tests.support.refusals import edit_config


@pytest.fixture
def classifier(bert_classifier: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bert_classifier, tmp_path / "classifier"))


def change(directory: Path, *removed: str, **added: torch.Tensor) -> None:
    """Remove tensors of a checkpoint, and add some; dots in names are written as `__`."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    for name in removed:
        del tensors[name]
    tensors |= {name.replace("__", "."): tensor for name, tensor in added.items()}
    save_file(tensors, path, {"format": "pt"})


def load(directory: Path, task: str | None = None) -> list[str]:
    """Load a source; return the notes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_reference(open_source(str(directory), task=task))
    return [str(w.message) for w in caught if issubclass(w.category, HeadwayWarning)]


def refusal(directory: Path, task: str | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        load_reference(open_source(str(directory), task=task))
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "bert.pooler.dense.mask",
        "bert.encoder.layer.0.output.dense.weight_mask",
        "bert.encoder.layer.0.attention.self.query.scores",
    ],
)
def test_masks_and_scores_of_a_pruning_library_are_refused(classifier: Path, name: str) -> None:
    change(classifier, **{name.replace(".", "__"): torch.ones(32, 32)})
    message = refusal(classifier)
    assert name in message and "apply them to the weights" in message


def test_a_weight_in_two_parts_is_put_together(classifier: Path) -> None:
    """As `torch.nn.utils.prune` leaves it: transformers would fill the pooler with random numbers."""
    weight, mask = torch.randn(32, 32), (torch.rand(32, 32) > 0.5).float()
    change(
        classifier,
        "bert.pooler.dense.weight",
        bert__pooler__dense__weight_orig=weight,
        bert__pooler__dense__weight_mask=mask,
    )
    with pytest.warns(HeadwayWarning, match="pruning masks folded into 1 tensors"):
        reference, _ = load_reference(open_source(str(classifier)))
    assert torch.equal(reference.module.model.bert.pooler.dense.weight, weight * mask)


def test_a_pooler_that_the_task_needs_may_not_be_missing(classifier: Path, bert: Path, tmp_path: Path) -> None:
    change(classifier, "bert.pooler.dense.weight")
    assert "1 tensors that the checkpoint lacks (bert.pooler.dense.weight [32, 32])" in refusal(classifier)
    encoder = Path(shutil.copytree(bert, tmp_path / "encoder"))
    change(encoder, "pooler.dense.weight", "pooler.dense.bias")
    assert load(encoder) == []


def test_relative_positions_that_transformers_no_longer_reads_are_refused(classifier: Path) -> None:
    name = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    change(classifier, **{name.replace(".", "__"): torch.randn(131, 8)})
    message = refusal(classifier)
    assert name in message and "BertForSequenceClassification" in message and "module:callable" in message


def test_a_head_of_the_users_own_is_refused_whatever_the_task(classifier: Path) -> None:
    change(classifier, linear__weight=torch.randn(16, 32))
    edit_config(classifier, architectures=["HF_ColBERT"])
    assert "linear.weight" in refusal(classifier, "feature-extraction")


def test_what_is_expected_is_named_beside_what_is_there(classifier: Path) -> None:
    """As a tool leaves it that gives its tensors names of its own."""
    gone = [f"bert.encoder.layer.1.{n}" for n in ("attention.self.query.weight", "output.dense.weight")]
    change(classifier, *gone, **{f"{name}_packed_codes".replace(".", "__"): torch.ones(4, 9) for name in gone})
    message = refusal(classifier)
    for words in (
        "needs 2 tensors that the checkpoint lacks (bert.encoder.layer.1.attention.self.query.weight [32, 32], ",
        "has others that it does not use (bert.encoder.layer.1.attention.self.query.weight_packed_codes [4, 9], ",
        "merge or convert it by that tool, or give the model as module:callable",
    ):
        assert words in message


def test_the_first_ten_are_named(classifier: Path) -> None:
    change(classifier, **{f"extra_{i:02}": torch.ones(1) for i in range(12)})
    message = refusal(classifier)
    assert "extra_09" in message and "extra_10" not in message and "and 2 more" in message


def test_a_head_that_the_task_does_not_need_is_a_note(classifier: Path) -> None:
    (note,) = load(classifier, "feature-extraction")
    assert "task 'feature-extraction' does not need the head classifier (2 tensors)" in note


def test_a_head_for_pre_training_is_a_note(tmp_path: Path) -> None:
    import transformers

    source = models.make_model(tmp_path, "bert", "fill-mask")
    (note,) = load(source, "feature-extraction")
    assert "does not need the head cls" in note
    change(source, cls__seq_relationship__weight=torch.randn(2, 32), cls__seq_relationship__bias=torch.randn(2))
    (note,) = load(source)  # fill-mask: as published BERTs have it
    assert "does not need the head cls (2 tensors)" in note
    config = transformers.BertConfig(**models.FAMILIES["bert"][1])  # type: ignore[arg-type]
    transformers.BertForPreTraining(config).save_pretrained(tmp_path)
    assert "does not need the head cls" in load(tmp_path)[0]


def test_old_buffers_pass_with_the_values_they_always_had(classifier: Path) -> None:
    change(
        classifier,
        bert__embeddings__position_ids=torch.arange(66)[None],
        bert__embeddings__token_type_ids=torch.zeros(1, 66, dtype=torch.int64),
    )
    assert load(classifier) == []
    change(classifier, bert__embeddings__position_ids=torch.arange(66).flip(0)[None])
    assert "bert.embeddings.position_ids" in refusal(classifier)


def test_shapes_that_disagree_are_printed(classifier: Path) -> None:
    edit_config(classifier, hidden_size=64)
    message = refusal(classifier)
    assert "config.json disagrees with the weights" in message
    assert "bert.embeddings.LayerNorm.bias is [32], not [64]" in message and "above report" not in message


def test_a_layer_too_many_is_named(classifier: Path) -> None:
    edit_config(classifier, num_hidden_layers=1)
    assert "the configured model has no encoder.layer.1" in refusal(classifier)


def test_transformers_is_as_before_afterwards() -> None:
    import transformers

    before = transformers.PreTrainedModel.__dict__["from_pretrained"]
    with pytest.raises(RuntimeError), reported(Source("huggingface", "x", "fill-mask", None, {})) as reports:
        raise RuntimeError
    assert reports == [] and transformers.PreTrainedModel.__dict__["from_pretrained"] is before


def without(directory: Path, *names: str) -> Path:
    """Remove tensors from a checkpoint."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(directory / "model.safetensors")
    for name in names:
        del tensors[name]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("bert", "bert.pooler.dense.weight"),
        ("bert", "bert.encoder.layer.1.output.dense.bias"),
        ("bert", "classifier.weight"),
        ("deberta-v2", "pooler.dense.bias"),
    ],
)
def test_a_tensor_that_the_task_needs_and_the_checkpoint_lacks_is_named(family: str, name: str, tmp_path: Path) -> None:
    """Whatever its name: transformers would fill it with random numbers."""
    source = without(models.make_model(tmp_path / "model", family, "text-classification"), name)
    with pytest.raises(SourceError, match=name.replace(".", r"\.")):
        load_reference(open_source(str(source), task="text-classification"))


def test_the_pooler_of_a_model_without_a_head_may_be_missing(copy: Path, bert: Path) -> None:
    """It gives none of the outputs."""
    ids = np.array([[1, 7, 9, 2]])
    feeds = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    without(copy, "pooler.dense.weight", "pooler.dense.bias")
    outputs = [load_reference(open_source(str(d)))[0].run(feeds) for d in (bert, copy)]
    np.testing.assert_array_equal(outputs[0]["last_hidden_state"], outputs[1]["last_hidden_state"])


def test_a_source_that_asks_for_tuples_gives_the_same_outputs(copy: Path, bert: Path) -> None:
    edit_config(copy, return_dict=False)
    ids = np.array([[1, 7, 9, 2]])
    feeds = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    wanted, got = (load_reference(open_source(str(d)))[0].run(feeds) for d in (bert, copy))
    assert list(got) == ["last_hidden_state"]
    np.testing.assert_array_equal(got["last_hidden_state"], wanted["last_hidden_state"])
