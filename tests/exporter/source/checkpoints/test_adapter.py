"""An adapter's settings are followed, or refused by name."""

import json
import math
from pathlib import Path

import pytest
import torch

from headway.errors import SourceError
from headway.exporter.source.checkpoints.adapter import Adapter, adapter_settings, read_adapter

from tests.checkpoints.adapters import save_adapter


def test_its_kind_is_said_in_words(tmp_path: Path) -> None:
    settings = {"peft_type": "LORA"}
    kinds = [settings, settings | {"use_dora": True}, settings | {"use_dora": False}, {"peft_type": "IA3"}]
    assert [Adapter(tmp_path, given, {}).kind for given in kinds] == ["LoRA", "DoRA", "LoRA", "IA3"]


def test_scales_follow_rank_alpha_and_patterns(tmp_path: Path) -> None:
    settings = {
        "peft_type": "LORA",
        "r": 8,
        "lora_alpha": 16,
        "rank_pattern": {"query": 2},
        "alpha_pattern": {"a.query": 3},
    }
    adapter = Adapter(tmp_path, settings, {})
    assert [adapter.scaling(path, rank) for path, rank in (("x.value", 8), ("x.query", 2), ("a.query", 2))] == [
        2,
        8,
        1.5,
    ]
    root = Adapter(tmp_path, settings | {"use_rslora": True}, {})
    assert root.scaling("x.value", 8) == pytest.approx(16 / math.sqrt(8))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"peft_type": "PREFIX_TUNING"}, "learned vectors"),
        ({"peft_type": "VERA"}, "its formula is not one of those"),
        ({"init_lora_weights": "pissa"}, "changed the weights of the base before training"),
        ({"layer_replication": [[0, 2]]}, "layer_replication = [[0, 2]] changes how"),
        ({"a_later_setting": 3}, "a_later_setting = 3"),
        ({"rank_pattern": [3]}, "rank_pattern: an object is expected"),
    ],
)
def test_what_cannot_be_merged_is_refused(settings: dict, says: str, tmp_path: Path) -> None:
    save_adapter(tmp_path, {}, tmp_path, **settings)
    with pytest.raises(SourceError) as caught:
        adapter_settings(tmp_path)
    assert says in str(caught.value)


def test_files_that_lack_or_may_run_code_are_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(SourceError, match="copy both"):
        read_adapter(tmp_path)
    torch.save({"base_model.model.a.lora_A.weight": torch.ones(1, 2)}, tmp_path / "adapter_model.bin")
    assert list(read_adapter(tmp_path).state) == ["a.lora_A.weight"]
