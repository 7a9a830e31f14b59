"""Numbers and sizes that no model has are refused before anything is built by them."""

import json
import shutil
import struct
from pathlib import Path

import pytest

from headway.errors import SourceError
from headway.exporter.source.bounds import MOST_HEADER, check_bounds, check_header, check_index, limit
from headway.exporter.source.source import open_source


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"num_hidden_layers": 10**6}, r"num_hidden_layers = 1000000: an integer from 0 to 4096"),
        ({"num_hidden_layers": -1}, "num_hidden_layers = -1"),
        ({"num_hidden_layers": "12"}, "num_hidden_layers = '12'"),
        ({"hidden_size": 1e3}, r"hidden_size = 1000\.0"),
        ({"hidden_size": True}, "hidden_size = True"),
        ({"vocab_size": 1 << 40}, "vocab_size"),
        ({"intermediate_size": [64, -1]}, "intermediate_size"),
        ({"max_position_embeddings": {}}, "max_position_embeddings"),
        ({"pad_token_id": "0"}, "pad_token_id"),
        ({"id2label": ["a", "b"]}, "id2label: an object"),
        ({"model_type": 3}, "model_type: text"),
        ({"architectures": {"a": 1}}, "architectures: a list"),
        ({"architectures": [None]}, "architectures: a list"),
    ],
)
def test_settings_that_no_model_has_are_named(config: dict, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        check_bounds(config, Path("config.json"))


def test_settings_of_real_models_pass() -> None:
    check_bounds(
        {
            "model_type": "x", "num_hidden_layers": 4096, "hidden_size": 1 << 20, "intermediate_size": [8, 16],
            "pad_token_id": None, "max_position_embeddings": -1, "architectures": ["A"], "id2label": {"0": "a"}, "other": {},
        },
        Path("config.json"),
    )  # fmt: skip


@pytest.mark.parametrize("length", [39 * 10**9, (1 << 64) - 1, MOST_HEADER + 1, 25])
def test_a_header_that_is_longer_than_its_file_is_not_read(length: int, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(struct.pack("<Q", length) + bytes(24))
    with pytest.raises(SourceError, match="announces a header of"):
        check_header(file)
    file.write_bytes(struct.pack("<Q", 24) + bytes(24))
    check_header(file)
    file.write_bytes(b"1234567")
    with pytest.raises(SourceError, match="7 bytes are no safetensors file"):
        check_header(file)


def test_an_index_names_files_beside_it(tmp_path: Path) -> None:
    assert check_index(
        tmp_path, {"weight_map": {"b": "2.safetensors", "a": "1.safetensors", "c": "2.safetensors"}}
    ) == [
        "1.safetensors",
        "2.safetensors",
    ]
    for index in ({}, {"weight_map": []}, {"weight_map": {}}, {"weight_map": {"a": "../x"}}, {"weight_map": {"a": 3}}):
        with pytest.raises(SourceError, match="weight_map"):
            check_index(tmp_path, index)


def test_limits_are_numbers_of_tokens() -> None:
    assert [limit(v, Path("t"), "n") for v in (None, 512, 512.0, 1e30, 1 << 60)] == [None, 512, 512, None, None]
    for value in (0, -1, "512", True, float("nan"), []):
        with pytest.raises(SourceError, match="a number of tokens"):
            limit(value, Path("t"), "n")


def test_a_source_is_checked_when_it_is_opened(bert: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(bert, tmp_path / "source"))
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    (source / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**6}), encoding="utf-8")
    with pytest.raises(SourceError, match=r"config\.json: num_hidden_layers"):
        open_source(str(source))
    (source / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (source / "model.safetensors").write_bytes(struct.pack("<Q", 39 * 10**9) + bytes(24))
    with pytest.raises(SourceError, match=r"announces a header of 39,000\.0 MB"):
        open_source(str(source))
