"""The parts of a block are known by the names of every family in the support table that has them."""

import pytest
import torch
import transformers

from headway.exporter.source.checkpoints.roles import block_parts, unlike

from tests.support.models import FAMILIES

SIX = {"query", "key", "value", "attention output", "up", "down"}


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2"])
def test_parts_of_a_block_are_found_by_name(family: str) -> None:
    name, settings = FAMILIES[family]
    with torch.device("meta"):
        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings))
    parts = block_parts(model.state_dict())
    known = SIX if family != "deberta-v2" else {"attention output", "up", "down"}
    assert {block: set(roles) for block, roles in parts.items()} == {0: known, 1: known}
    modules = dict(model.named_modules())
    assert all(isinstance(modules[path], torch.nn.Linear) for roles in parts.values() for path in roles.values())


def test_what_one_block_lacks_is_found() -> None:
    paths = ["encoder.layer.0.dense", "encoder.layer.1.dense", "encoder.layer.10.dense", "pooler.dense"]
    assert unlike(paths[:2], paths) == paths[2]
    assert unlike(paths[:3], paths) is None
    assert unlike(["pooler.dense"], paths) is None
