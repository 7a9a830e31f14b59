"""Trimmed vocabularies: the same tokens for the text they were made for, the same numbers, and text beyond it still works."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from headway.errors import SourceError, UsageError
from headway.exporter.graph.edit import constant, initializer
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.token_use import TokenUse, scripts_of
from headway.exporter.passes.vocabulary import (
    TrimVocabulary,
    choose_tokens,
    tokens_to_keep,
    trim_directory,
    trim_tokenizer,
    trimmed_config,
)

from tests.support import models
from tests.support.trimmed import CORPUS
from tests.support.variants import canonical


def kept_for(directory: Path) -> tuple[dict, list[int]]:
    content = json.loads((directory / "tokenizer.json").read_text())
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    used = {i for e in tokenizer.encode_batch(CORPUS) for i in e.ids}
    return content, tokens_to_keep(content, used)


@pytest.fixture(scope="module", params=["bert", "roberta", "xlm-roberta"])
def tokenized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WordPiece, byte-level BPE and Unigram."""
    directory = tmp_path_factory.mktemp(request.param)
    models.make_tokenizer(directory, request.param)
    return directory


def test_the_text_becomes_the_same_tokens(tokenized: Path, tmp_path: Path) -> None:
    _, kept_ids = kept_for(tokenized)
    before = Tokenizer.from_file(str(tokenized / "tokenizer.json"))
    assert len(kept_ids) < before.get_vocab_size()
    directory = tmp_path / "trimmed"
    shutil.copytree(tokenized, directory)
    trim_directory(directory, kept_ids)
    after = Tokenizer.from_file(str(directory / "tokenizer.json"))
    hugging_face = transformers.AutoTokenizer.from_pretrained(directory)
    assert after.get_vocab_size() == len(kept_ids)
    for text in CORPUS:
        old, new = before.encode(text, text), after.encode(text, text)
        assert old.tokens == new.tokens
        assert old.ids == [kept_ids[i] for i in new.ids]
        assert hugging_face(text)["input_ids"] == after.encode(text).ids


TINY = {
    "model": {
        "type": "WordPiece",
        "vocab": {"[UNK]": 0, "a": 1, "##b": 2, "often": 3, "seldom": 4, "never": 5, "редко": 6},
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "##",
    }
}


def use(**shares: float) -> TokenUse:
    vocabulary = TINY["model"]["vocab"]
    expected = np.array([shares.get(t, 0.0) for t in vocabulary])
    used = np.repeat(np.arange(len(expected)), np.rint(100 * expected).astype(int))
    order = np.argsort(-expected, kind="stable")
    return TokenUse(expected, scripts_of(TINY, vocabulary), used, np.argsort(order)[used])


def test_tokens_of_most_expected_use_stay() -> None:
    expected = use(often=0.9, seldom=0.06, a=0.04)
    assert choose_tokens(TINY, expected, tokens=4) == [0, 1, 2, 3]
    assert choose_tokens(TINY, expected, tokens=6) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="alone are 3"):
        choose_tokens(TINY, expected, tokens=2)


def test_a_padding_that_is_a_word_stays() -> None:
    words = {"model": {"type": "BPE", "vocab": {" pad": 0, " one": 1, " two": 2}, "merges": []}}
    content = words | {"added_tokens": [], "padding": {"pad_id": 0, "pad_token": " pad"}}
    assert tokens_to_keep(content, {2}) == [0, 2] and tokens_to_keep(words, {2}) == [2]
    trimmed = trim_tokenizer(content, [0, 2])
    assert trimmed["model"]["vocab"] == {" pad": 0, " two": 1} and trimmed["padding"]["pad_id"] == 0


def test_as_few_tokens_stay_as_cover_the_expected_use() -> None:
    expected = use(often=0.9, seldom=0.06, a=0.04)
    assert choose_tokens(TINY, expected, coverage=0.94) == [0, 1, 2, 3]  # single characters count, since they stay
    assert choose_tokens(TINY, expected, coverage=0.95) == [0, 1, 2, 3, 4]
    assert choose_tokens(TINY, expected, coverage=1.0) == [0, 1, 2, 3, 4]


def test_a_script_stays_whole() -> None:
    expected = use(often=1.0)
    assert choose_tokens(TINY, expected, keep_scripts=["cyrillic"]) == [0, 1, 2, 3, 6]
    assert choose_tokens(TINY, expected, keep_scripts=["latin"]) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(UsageError, match="'thai'; the tokenizer has cyrillic, latin"):
        choose_tokens(TINY, expected, keep_scripts=["thai"])
    with pytest.raises(UsageError, match="the scripts to keep alone are 4"):
        choose_tokens(TINY, expected, tokens=3, keep_scripts=["cyrillic"])


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_other_text_still_becomes_tokens(tokenized: Path, text: str) -> None:
    content, kept_ids = kept_for(tokenized)
    before = Tokenizer.from_file(str(tokenized / "tokenizer.json"))
    after = Tokenizer.from_str(json.dumps(trim_tokenizer(content, kept_ids)))
    ids = after.encode(text).ids
    assert all(0 <= i < len(kept_ids) for i in ids)
    unknown = before.token_to_id("[UNK]")
    if unknown is not None and unknown not in before.encode(text).ids and text.isascii():
        assert kept_ids.index(unknown) not in ids  # what was known stays known, character by character if need be


@pytest.mark.parametrize(
    ("family", "task"),
    [
        *((family, "feature-extraction") for family in ("bert", "roberta", "albert", "modernbert", "deberta-v2")),
        *((family, "fill-mask") for family in ("bert", "albert")),
        *(
            pytest.param(family, "feature-extraction", marks=pytest.mark.slow)
            for family in ("distilbert", "electra", "mpnet")
        ),
        *(
            pytest.param(family, "fill-mask", marks=pytest.mark.slow)
            for family in ("roberta", "distilbert", "electra", "modernbert", "mpnet", "deberta-v2")
        ),
    ],
)
def test_numbers_stay_the_same(family: str, task: str, tmp_path: Path) -> None:
    depth = models.soonest(family) if task == "fill-mask" else {}
    directory = models.make_model(tmp_path, family, task, **depth)
    model = canonical(directory)
    kept_ids = tuple(sorted({0, 1, 2, 3, 4, *np.random.default_rng(0).choice(299, 60, replace=False).tolist()}))
    ids = np.random.default_rng(1).choice(kept_ids, (2, 9))
    ids[1, 6:] = 0
    mask = (np.arange(9)[None] < [[9], [6]]).astype(np.int64)
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    new = {old: i for i, old in enumerate(kept_ids)}
    renumbered = feeds | {"input_ids": np.vectorize(new.__getitem__)(ids)}
    with torch.no_grad():
        wanted = TorchGraph(model)(feeds)
        matrices = sum((v.shape or [0])[0] == 300 for v in model.graph.initializers.values())
        trimmed = model.clone()
        rows = TrimVocabulary(kept_ids).apply(trimmed)
        given_ = TorchGraph(trimmed)(renumbered)
    assert rows == (300, len(kept_ids))
    assert sum((v.shape or [0])[0] == len(kept_ids) for v in trimmed.graph.initializers.values()) == matrices
    for name, value in wanted.items():
        value = value[..., list(kept_ids)] if value.shape[-1] == 300 else value
        assert torch.allclose(value[mask.astype(bool)], given_[name][mask.astype(bool)], atol=1e-6), name


def behind(model: ir.Model, *steps: tuple[str, tuple, dict]) -> ir.Model:
    """Return a copy with operators behind its logits: (operator, further inputs, attributes)."""
    changed = model.clone()
    graph = changed.graph
    value = graph.outputs[0]
    for number, (kind, others, attributes) in enumerate(steps):
        inputs = [value if o is LOGITS else initializer(graph, f"c{number}.{i}", o) for i, o in enumerate(others)]
        node = ir.node(kind, [value, *inputs], attributes=attributes, name=f"step{number}")
        sizes = list(value.shape or [])
        sizes = [sizes[p] for p in attributes["perm"]] if "perm" in attributes else sizes
        node.outputs[0].shape, node.outputs[0].type = ir.Shape(sizes), value.type
        graph.append(node)
        value = node.outputs[0]
    graph.outputs[0].name = "logits.before"
    value.name, graph.outputs[0] = "logits", value
    return changed


LOGITS = object()
EACH = np.linspace(1, 2, 300, dtype=np.float32)
FORMS: list[list[tuple[str, tuple, dict]]] = [
    [("Identity", (), {})],
    [("Cast", (), {"to": 1})],
    [("Mul", (np.float32(0.5),), {}), ("Sub", (EACH,), {}), ("Div", (EACH[None, None],), {})],
    [("Transpose", (), {"perm": [2, 0, 1]}), ("Transpose", (), {"perm": [1, 2, 0]})],
    [("Concat", (LOGITS,), {"axis": 1})],
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[0][0])
def test_whatever_stands_between_the_head_and_the_logits_is_cut_with_them(form: list, tmp_path: Path) -> None:
    model = behind(canonical(models.make_model(tmp_path, "bert", "fill-mask", **models.soonest("bert"))), *form)
    kept_ids = (0, 1, 2, 7, 40, 41, 299)
    ids = np.array([[1, 7, 40, 2], [1, 299, 41, 2]])
    feeds = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    with torch.no_grad():
        wanted = TorchGraph(model)(feeds)["logits"][..., list(kept_ids)]
        TrimVocabulary(kept_ids).apply(model)
        feeds["input_ids"] = np.vectorize({o: i for i, o in enumerate(kept_ids)}.__getitem__)(ids)
        got = TorchGraph(model)(feeds)["logits"]
    assert torch.allclose(got, wanted, atol=1e-6)
    assert not [n for n, v in model.graph.initializers.items() if 300 in list(v.shape or [])]
    for node in model.graph:
        assert not [o.name for o in node.outputs if 300 in list(o.shape or [])]


@pytest.mark.parametrize(
    "form", [("Softmax", (), {"axis": -1}), ("Concat", (LOGITS,), {"axis": 2})], ids=lambda f: f[0]
)
def test_logits_that_cannot_be_cut_are_named(form: tuple, tmp_path: Path) -> None:
    """Probabilities over fewer tokens are other probabilities."""
    model = behind(canonical(models.make_model(tmp_path, "bert", "fill-mask", **models.soonest("bert"))), form)
    with pytest.raises(SourceError, match=rf"'step0' \({form[0]}\) computes logits over tokens"):
        TrimVocabulary((0, 1, 2)).apply(model)


def test_padding_id_in_positions_is_renumbered(tmp_path: Path) -> None:
    """RoBERTa counts positions over what is not padding: the id it compares with has to move too."""
    model = canonical(models.make_model(tmp_path, "roberta", pad_token_id=7))
    kept_ids = (3, 5, 7, 9, 11, 40)
    ids = np.array([[3, 5, 40, 7, 7], [9, 11, 3, 5, 40]])
    feeds = {"input_ids": ids, "attention_mask": (ids != 7).astype(np.int64)}
    with torch.no_grad():
        wanted = TorchGraph(model)(feeds)["last_hidden_state"]
        TrimVocabulary(kept_ids).apply(model)
        feeds["input_ids"] = np.vectorize({o: i for i, o in enumerate(kept_ids)}.__getitem__)(ids)
        given_ = TorchGraph(model)(feeds)["last_hidden_state"]
    mask = torch.from_numpy(ids != 7)
    assert torch.allclose(wanted[mask], given_[mask], atol=1e-6)


def test_config_follows(tmp_path: Path) -> None:
    config = {"vocab_size": 300, "pad_token_id": 0, "eos_token_id": [5, 7], "bos_token_id": None, "hidden_size": 7}
    assert trimmed_config(config, [0, 5, 7]) == {**config, "vocab_size": 3, "eos_token_id": [1, 2]}
    with pytest.raises(SourceError, match=r"id 0 .* would be dropped"):
        trimmed_config(config, [5, 7])


@pytest.mark.parametrize(
    ("keep", "says"), [((1, 300), "out of range"), ((2, 1), "ascending"), ((1, 1), "ascending"), ((), "ascending")]
)
def test_ids_that_do_not_fit_are_refused(keep: tuple[int, ...], says: str, bert: Path) -> None:
    with pytest.raises(UsageError, match=says):
        TrimVocabulary(keep).apply(canonical(bert))


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(SourceError, match="Strange tokenizer cannot be trimmed"):
        tokens_to_keep({"model": {"type": "Strange"}}, [])
    content = {"model": {"type": "WordLevel", "vocab": {"a": 0}}, "post_processor": {"type": "Strange"}}
    with pytest.raises(SourceError, match="Strange post-processor"):
        trim_tokenizer(content, [0])


def test_tables_shared_with_the_head_stay_one(tmp_path: Path) -> None:
    model = canonical(models.make_model(tmp_path, "bert", "fill-mask", **models.soonest("bert")))
    TrimVocabulary(tuple(range(50))).apply(model)
    tables = [v for v in model.graph.initializers.values() if 50 in list(v.shape or [])]
    assert sorted(len(constant(v).shape) for v in tables) == [1, 2]  # type: ignore[union-attr]  the head's bias and one table
