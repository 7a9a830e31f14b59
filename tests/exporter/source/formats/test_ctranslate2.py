"""Encoders of CTranslate2 answer as the floats that their weights stand for; other models of it are refused by name."""

import json
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.formats.ctranslate2 import is_ctranslate2
from headway.exporter.source.source import open_source
from headway.exporter.source.tokenizer import source_tokenizer

from tests.checkpoints.ctranslate2_files import bert_variables, distilbert_variables, write_model
from tests.checkpoints.gguf_files import pieces_of
from tests.support import checkpoints, integer_checkpoints
from tests.support.models import make_model
from tests.support.variants import feeds


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("encoder"))


def opened(encoder: Path) -> tuple[Any, Any]:
    return transformers.AutoModel.from_pretrained(encoder).eval(), transformers.AutoTokenizer.from_pretrained(encoder)


def saved(directory: Path, variables: dict[str, Any], pieces: list[str] | None) -> Path:
    write_model(directory / "model.bin", variables)
    (directory / "config.json").write_text(json.dumps({"layer_norm_epsilon": 1e-12, "unk_token": "[UNK]"}))
    if pieces is not None:
        (directory / "vocabulary.json").write_text(json.dumps(pieces))
    return directory


VARIABLES = {"bert": bert_variables, "distilbert": distilbert_variables}
KINDS = ("float32", "float16", "bfloat16", "int8")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("distilled"), "distilbert")


def stored(model: Any, kind: str) -> Any:
    """Round a module's parameters, in place, to what a file of a kind holds; matrices alone are int8, but for the positions."""
    for name, parameter in model.named_parameters():
        if kind != "int8":
            parameter.data = parameter.data.to(getattr(torch, kind)).float()
        elif parameter.dim() == 2 and "position" not in name:
            scale = 127 / parameter.data.abs().amax(1, keepdim=True)
            parameter.data = (parameter.data * scale).round() * (1 / scale)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", VARIABLES)
def test_an_encoder_answers_as_its_floats_do(
    family: str, kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    model, tokenizer = opened(request.getfixturevalue("encoder" if family == "bert" else "distilled"))
    before = checkpoints.forward(model)["last_hidden_state"]
    floats = "float32" if kind == "int8" else kind
    saved(tmp_path, VARIABLES[family](model, quantized=kind == "int8", kind=floats), pieces_of(tokenizer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference, source = load_reference(open_source(str(tmp_path)))
    assert source.config["model_type"] == family
    assert f"CTranslate2 encoder, {kind}" in source.sentences[0]
    given = {name: array for name, array in feeds().items() if family == "bert" or name != "token_type_ids"}
    wanted = checkpoints.forward(stored(model, kind))["last_hidden_state"]
    assert (np.abs(wanted - before).max() > 1e-4) == (kind != "float32")
    assert np.abs(reference.run(given)["last_hidden_state"] - wanted).max() < 4e-6
    texts = ["the price of bread", "12 trains, rain"]
    assert source_tokenizer(source)(texts)["input_ids"] == tokenizer(texts)["input_ids"]


def test_the_artifact_holds_the_integers_of_the_file(encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    variables = bert_variables(model, quantized=True)
    saved(tmp_path, variables, pieces_of(tokenizer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = export(Recipe(source=str(tmp_path)), tmp_path / "out")
    said = made.manifest.source["form"][-1]
    assert said.startswith("the artifact holds the integers of 14 of 14 quantized weights (12 as int8, 2 as int8 rows)")
    codes, _ = integer_checkpoints.held(tmp_path / "out", "encoder.layer.1.attention.self.value")
    assert np.array_equal(codes, variables["encoder/layer_1/self_attention/linear_0/weight"][64:])


def test_a_weight_that_is_stored_once_takes_its_scales_along(encoder: Path, tmp_path: Path) -> None:
    """The converter stores equal weights once, before it quantizes them, and lists no scales of theirs."""
    model, tokenizer = opened(encoder)
    model.encoder.layer[1].load_state_dict(model.encoder.layer[0].state_dict())
    variables = bert_variables(model, quantized=True)
    aliases = {name: name.replace("layer_1/", "layer_0/") for name in variables if "layer_1/" in name}
    saved(tmp_path, variables, pieces_of(tokenizer))
    stored_once = {name: array for name, array in variables.items() if name not in aliases}
    names = {alias: name for alias, name in aliases.items() if not alias.endswith("_scale")}
    write_model(tmp_path / "model.bin", stored_once, aliases=names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference, _ = load_reference(open_source(str(tmp_path)))
    wanted = checkpoints.forward(stored(model, "int8"))["last_hidden_state"]
    assert np.abs(reference.run(feeds())["last_hidden_state"] - wanted).max() < 4e-6


def test_zeros_of_int16_have_an_infinite_scale(encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    types = "encoder/embeddings_1/weight"
    scaled = {types: np.zeros((2, 32), np.int16), f"{types}_scale": np.float32(np.inf)}
    saved(tmp_path, bert_variables(model) | scaled, pieces_of(tokenizer))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference, _ = load_reference(open_source(str(tmp_path)))
    model.embeddings.token_type_embeddings.weight.data.zero_()
    difference = reference.run(feeds())["last_hidden_state"] - checkpoints.forward(model)["last_hidden_state"]
    assert np.abs(difference).max() < 4e-6


def test_tokens_that_pad_a_vocabulary_are_left_out(encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    pieces = pieces_of(tokenizer)
    saved(tmp_path, bert_variables(model), [*pieces, "<extra_id_0>", "<extra_id_1>"])
    read = source_tokenizer(open_source(str(tmp_path)))
    assert pieces_of(read) == pieces
    assert read("rain <extra_id_0>")["input_ids"] == tokenizer("rain <extra_id_0>")["input_ids"]
    saved(tmp_path, bert_variables(model), [*pieces, "<extra_id_0>", "<extra_id_2>"])
    with pytest.raises(SourceError, match="no text is cut into the token '<extra_id_0>'"):
        open_source(str(tmp_path))


def test_a_line_of_a_vocabulary_is_a_token_whatever_is_in_it(encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    pieces = pieces_of(tokenizer)
    pieces[50] = "zq\u2028yq"
    saved(tmp_path, bert_variables(model), None)
    (tmp_path / "vocabulary.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8", newline="")
    read = source_tokenizer(open_source(str(tmp_path)))
    assert read.convert_tokens_to_ids(pieces[60]) == 60


@pytest.mark.parametrize("epsilon", [0, False, "", [], float("inf")])
def test_an_epsilon_that_is_none_is_refused(epsilon: object, encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    saved(tmp_path, bert_variables(model), pieces_of(tokenizer))
    (tmp_path / "config.json").write_text(json.dumps({"layer_norm_epsilon": epsilon, "unk_token": "[UNK]"}))
    with pytest.raises(SourceError, match="layer_norm_epsilon"):
        open_source(str(tmp_path))


def test_a_vocabulary_that_does_not_say_how_text_is_cut_is_refused(encoder: Path, tmp_path: Path) -> None:
    model, _ = opened(encoder)
    for pieces, says in (
        (None, "no vocabulary.json"),
        (["a", "b"], "not a vocabulary of BERT's kind"),
        (["##a", "B"], "capitals"),
    ):
        with pytest.raises(SourceError, match=says):
            open_source(str(saved(tmp_path, bert_variables(model), pieces)))


def test_other_models_are_refused_by_name(tmp_path: Path) -> None:
    write_model(tmp_path / "model.bin", {}, "WhisperSpec")
    assert is_ctranslate2(tmp_path)
    with pytest.raises(SourceError, match="CTranslate2 saved a WhisperSpec, and only encoders"):
        open_source(str(tmp_path))
    (tmp_path / "model.bin").write_bytes(b"PK\3\4" + bytes(60))
    assert not is_ctranslate2(tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"encoder/pre_norm": np.int8(1)}, "encoder/pre_norm = 1 makes another computation"),
        ({"encoder/relative_attention": np.int8(1)}, "encoder/relative_attention = 1"),
        ({"encoder/embedding_scale": np.float32(2)}, "encoder/embedding_scale makes another computation"),
        ({"encoder/layer_0/ffn/linear_2/bias": np.zeros(3, np.float32)}, "linear_2/bias has no place"),
        ({"encoder/layer_0/ffn/linear_0/weight": np.zeros((64, 32), np.int8)}, "int8 without scales for its 64 rows"),
        (
            {
                "encoder/layer_0/ffn/linear_0/weight": np.zeros((64, 32), np.int8),
                "encoder/layer_0/ffn/linear_0/weight_scale": np.ones(64, np.int16),
            },
            "int8 without scales for its 64 rows",
        ),
        (
            {
                "encoder/layer_0/ffn/linear_0/weight": np.zeros((64, 32), np.int8),
                "encoder/layer_0/ffn/linear_0/weight_scale": np.ones(1, np.float32),
            },
            "int8 without scales for its 64 rows",
        ),
        ({"encoder/layer_0/ffn/linear_0/weight": np.zeros((64, 32), np.int32)}, "is int32, and weights of 8 and 16"),
        ({"encoder/layer_0/ffn/linear_0/bias": np.zeros(64, np.int8)}, "integers are read in matrices alone"),
        ({"encoder/layer_0/ffn/linear_0/weight_scale": np.ones(64, np.float32)}, "scales no integers"),
        ({"encoder/layer_0/self_attention/linear_0/weight": np.zeros((98, 32), np.float32)}, "has 98 rows for 3 parts"),
        ({"encoder/layer_0/ffn/linear_0/beta": np.zeros(64, np.float32)}, "ffn/linear_0/beta has no place"),
        ({"encoder/layernorm_embedding/weight": np.ones(32, np.float32)}, "layernorm_embedding/weight has no place"),
        ({f"encoder/layer_{'9' * 5000}/ffn/linear_0/bias": np.zeros(64, np.float32)}, "damaged: a variable is called"),
        ({"encoder/layer_9999999/ffn/linear_0/bias": np.zeros(64, np.float32)}, "linear_0/bias has no place"),
        ({"encoder/pre_norm": None}, "encoder/pre_norm is not there"),
        ({"encoder/scale_embeddings": None}, "encoder/scale_embeddings is not there"),
        ({"encoder/embeddings_merge": None}, "encoder/embeddings_merge is not there"),
        ({"pooler_activation": None}, "pooler_activation is not there"),
        ({"encoder/num_heads_kv": np.int16(1)}, "encoder/num_heads_kv = 1 makes another computation"),
        ({"encoder/num_heads": np.int16(0)}, "layers or heads as BERT has them"),
        ({"encoder/activation": np.int8(5)}, "encoder/activation = 5, and 0, 1, 2, 3, 4 are read"),
        ({"encoder/layer_norm/gamma": np.ones(32, np.float32)}, "encoder/layer_norm/gamma has no place"),
        ({"encoder/embeddings_0/weight": np.ones(32, np.float32)}, "no embeddings"),
        ({"encoder/position_encodings/encodings": np.float32(1)}, "no embeddings, learned positions"),
    ],
)
def test_what_computes_otherwise_is_refused(change: dict, says: str, encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    with pytest.raises(SourceError, match=says):
        variables = {k: v for k, v in (bert_variables(model) | change).items() if v is not None}
        open_source(str(saved(tmp_path, variables, pieces_of(tokenizer))))


@pytest.mark.parametrize("scale", [0.0, np.inf, np.nan])
def test_scales_that_are_no_numbers_to_divide_by_are_refused(scale: float, encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    variables = bert_variables(model, quantized=True)
    variables["encoder/layer_0/ffn/linear_0/weight_scale"][3] = scale
    source = open_source(str(saved(tmp_path, variables, pieces_of(tokenizer))))
    with pytest.raises(SourceError, match=r"linear_0/weight_scale has numbers that are 0 or not finite"):
        load_reference(source)


def test_cut_and_lying_files_are_refused(encoder: Path, tmp_path: Path) -> None:
    model, _ = opened(encoder)
    saved(tmp_path, bert_variables(model), None)
    whole = (tmp_path / "model.bin").read_bytes()
    for size in (*range(6, 40), *range(40, len(whole), len(whole) // 20)):
        (tmp_path / "model.bin").write_bytes(whole[:size])
        with pytest.raises(SourceError, match="truncated"):
            open_source(str(tmp_path))
    (tmp_path / "model.bin").write_bytes(whole + bytes(150))
    with pytest.raises(SourceError, match="damaged: 150 bytes too many"):
        open_source(str(tmp_path))
    alias = b"".join(struct.pack("<H", len(n) + 1) + n + b"\0" for n in (b"pooler_dense/bias", b"pooler_dense/weight"))
    (tmp_path / "model.bin").write_bytes(whole[:-4] + struct.pack("<I", 1) + alias)
    with pytest.raises(SourceError, match="pooler_dense/bias stands for pooler_dense/weight, and is a variable itself"):
        open_source(str(tmp_path))
    (tmp_path / "model.bin").write_bytes(
        whole[:-4] + struct.pack("<I", 1) + alias.replace(b"dense/bias", b"dense\nbias")
    )
    with pytest.raises(SourceError, match=r"an alias is called 'pooler_dense\\nbias'"):
        open_source(str(tmp_path))
    moved = {name.replace("layer_1/", "layer_7/"): array for name, array in bert_variables(model).items()}
    saved(tmp_path, moved, None)
    with pytest.raises(SourceError, match="there are 2 layers, and layer 1 is none of them"):
        open_source(str(tmp_path))
    lying = whole[:33] + struct.pack("<I", 1 << 31) + whole[37:]
    (tmp_path / "model.bin").write_bytes(lying)
    with pytest.raises(SourceError, match="damaged: 2,147,483,648 variables"):
        open_source(str(tmp_path))
