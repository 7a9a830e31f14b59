"""Settings that nothing would follow are refused by name; those of ordinary models pass."""

import json
from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.exporter.source.settings import check_settings
from headway.exporter.source.source import open_source

from tests.checkpoints.word_models import make_word_model
from tests.support import models
from tests.support.refusals import edit_config

PUBLISHED = {
    "_name_or_path": "nreimers/MiniLM-L6-H384-uncased",
    "_num_labels": 2,
    "attn_implementation": "sdpa",
    "directionality": "bidi",
    "finetuning_task": "sst-2",
    "gradient_checkpointing": False,
    "classifier_dropout": None,
    "id2label": {"0": "no", "1": "yes"},
    "label2id": {"no": 0, "yes": 1},
    "layer_norm_eps": 1e-12,
    "num_beams": 1,
    "output_past": True,
    "pooler_fc_size": 768,
    "pooler_type": "first_token_transform",
    "position_embedding_type": "absolute",
    "problem_type": "single_label_classification",
    "pruned_heads": {},
    "sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity",
    "tie_weights_": True,
    "tokenizer_class": "BertTokenizer",
    "torch_dtype": "float16",
    "transformers_version": "4.8.2",
    "use_cache": True,
}
"""Keys of published configs, from all versions of transformers."""

MODERNBERT = {
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0,
    "layer_norm_eps": 1e-5,
    "position_embedding_type": "absolute",
    "repad_logits_with_grad": False,
}


@pytest.fixture
def classifier(bert_classifier: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(bert_classifier, tmp_path / "classifier"))


@pytest.fixture
def sentence(tmp_path: Path) -> Path:
    return models.make_sentence_model(tmp_path / "sentence", dense=True)


def write(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | changes))


def refusal(directory: Path, task: str | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        check_settings(open_source(str(directory), task=task))
    return str(caught.value)


@pytest.mark.parametrize("family", models.FAMILIES)
def test_what_transformers_saves_passes(family: str, tmp_path: Path) -> None:
    for task in models.TASK_CLASSES:
        found = models.model_class(family, task)
        if found is not None:
            models.make_tokenizer(tmp_path, family)
            settings = models.FAMILIES[family][1]
            config = found.config_class(**settings, architectures=[found.__name__])  # type: ignore[attr-defined]
            config.save_pretrained(tmp_path)
            (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
            check_settings(open_source(str(tmp_path)))


@pytest.mark.parametrize("key", PUBLISHED)
def test_keys_of_published_configs_pass(classifier: Path, key: str) -> None:
    edit_config(classifier, **{key: PUBLISHED[key]})
    check_settings(open_source(str(classifier)))


def test_keys_that_the_familys_code_reads_itself_pass(tmp_path: Path) -> None:
    source = models.make_model(tmp_path, "modernbert")
    edit_config(source, **MODERNBERT)
    check_settings(open_source(str(source)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"norm_type": "rms"}, 'norm_type = "rms" is a setting that transformers\' BertConfig do not know'),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key' is no longer read"),
        ({"auto_map": {"AutoModel": "modeling_my.MyBert"}}, "auto_map names the model's own code (modeling_my.MyBert)"),
        ({"architectures": ["MyColBERT"]}, "MyColBERT, which is no class of transformers"),
        ({"architectures": "MyColBERT"}, "MyColBERT, which is no class of transformers"),
        ({"architectures": ["MyBertForSequenceClassification"]}, "MyBertForSequenceClassification"),
        ({"architectures": ["BertForNextSentencePrediction"]}, "BertForNextSentencePrediction, which has no task here"),
        ({"model_type": "my_bert"}, "transformers knows no model_type 'my_bert'"),
    ],
)
def test_settings_that_nothing_would_follow_are_refused(classifier: Path, changes: dict, says: str) -> None:
    edit_config(classifier, **changes)
    message = refusal(classifier)
    assert says in message and "config.json" in message and "module:callable" in message


def test_a_chosen_task_decides_over_the_name_of_a_class(classifier: Path) -> None:
    edit_config(classifier, architectures=["BertForNextSentencePrediction"])
    check_settings(open_source(str(classifier), task="feature-extraction"))


def test_unknown_settings_of_a_tokenizer_are_refused(classifier: Path) -> None:
    path = classifier / "tokenizer_config.json"
    for settings in ({"do_lower_case": True, "never_split": None, "max_len": 512}, {"my_rule": False}):
        write(path, **settings)
        check_settings(open_source(str(classifier)))
    write(path, my_rule="strict")
    assert 'my_rule = "strict"' in refusal(classifier)
    write(path, my_rule=None, auto_map={"AutoTokenizer": [None, "my_tokenizer.Fast"]})
    assert "auto_map" in refusal(classifier)


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        (
            "config_sentence_transformers.json",
            {"prompts": {"query": "find: "}, "default_prompt_name": "query"},
            "puts the prompt 'find: ' in front of every text",
        ),
        ("config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": "query"}, "none of the prompts"),
        ("config_sentence_transformers.json", {"matryoshka": [8, 16]}, "matryoshka = [8, 16]"),
        ("sentence_bert_config.json", {"query_length": 16}, "query_length = 16"),
        ("sentence_bert_config.json", {"lower": True}, "lower = true"),
        ("1_Pooling/config.json", {"include_prompt": False}, "include_prompt = false"),
        ("1_Pooling/config.json", {"skip_special": True}, "skip_special = true"),
        ("2_Dense/config.json", {"scale": 2.0}, "scale = 2.0"),
        ("2_Dense/config.json", {"activation_function": "my_code.Swish"}, "my_code.Swish"),
    ],
)
def test_settings_of_sentence_transformers_are_refused_by_name(
    sentence: Path, file: str, changes: dict, says: str
) -> None:
    check_settings(open_source(str(sentence)))
    write(sentence / file, **changes)
    message = refusal(sentence)
    assert says in message and file in message
    check_settings(open_source(str(sentence), task="feature-extraction"))  # the encoder alone needs none of them


def test_prompts_that_nobody_chose_pass(sentence: Path) -> None:
    settings = {"prompts": {"query": "find: ", "document": ""}, "similarity_fn_name": "cosine", "truncate_dim": 16}
    write(sentence / "config_sentence_transformers.json", default_prompt_name=None, **settings)
    write(sentence / "sentence_bert_config.json", max_seq_length=32, do_lower_case=True)
    check_settings(open_source(str(sentence)))
    write(sentence / "config_sentence_transformers.json", default_prompt_name="document")
    check_settings(open_source(str(sentence)))


@pytest.mark.parametrize(
    ("type_", "says"),
    [
        ("my_pooling.Pooling", "my_pooling.Pooling is the model's own code"),
        ("sentence_transformers.models.LSTM", "sentence_transformers.models.LSTM is not supported"),
    ],
)
def test_modules_that_are_not_run_are_refused(sentence: Path, type_: str, says: str) -> None:
    listed = json.loads((sentence / "modules.json").read_text())
    listed[1]["type"] = type_
    (sentence / "modules.json").write_text(json.dumps(listed))
    assert says in refusal(sentence)


def test_a_task_does_not_read_the_head_of_another(bert_classifier: Path) -> None:
    """Both heads are called `classifier` and have the same shape: labels of tokens would be made of those of texts."""
    with pytest.raises(
        SourceError, match=r"BertForSequenceClassification, whose head is for text-classification; as token-"
    ):
        check_settings(open_source(str(bert_classifier), task="token-classification"))
    check_settings(open_source(str(bert_classifier), task="feature-extraction"))


@pytest.mark.parametrize("change", [{"kernel_sizes": [1, 4]}, {"stride_sizes": [2, 1, 1]}])
def test_convolutions_that_lose_tokens_are_refused(change: dict, tmp_path: Path) -> None:
    make_word_model(tmp_path, ["CNN", "LSTM"])
    check_settings(open_source(str(tmp_path)))
    write(tmp_path / "1_CNN" / "cnn_config.json", **change)
    message = refusal(tmp_path)
    (name,) = change
    assert f"{name} = {change[name]}" in message and "cnn_config.json" in message
