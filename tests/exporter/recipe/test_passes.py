"""The table of passes, and the orders that are refused."""

import math
from typing import get_args

import pytest

from headway.errors import UsageError
from headway.exporter.recipe.pass_specs import RemovePartsSpec, RepairSpec, Role
from headway.exporter.recipe.passes import ORDER, PASSES
from headway.exporter.recipe.recipe import Recipe, make_recipe


@pytest.mark.parametrize(
    ("passes", "says"),
    [
        ([{"kind": "repair"}], "nothing to repair"),
        ([{"kind": "fit", "flops": 0.5}, {"kind": "repair"}, {"kind": "split", "keep": 0.5}], "behind a repair"),
        ([{"kind": "recover", "minutes": 1}, {"kind": "fit", "flops": 0.5}], "recover comes last"),
        ([{"kind": "fit", "flops": 0.5, "speedup": 2}], "exactly one"),
        ([{"kind": "fit"}], "exactly one"),
        ([{"kind": "fit", "speedup": 0.5}], "give more than 1"),
        ([{"kind": "fit", "speedup": math.inf}], "finite number"),
        ([{"kind": "share", "tolerance": 0.1}], "put a repair behind it"),
        ([{"kind": "remove_blocks"}], "one of blocks, every and least_important"),
        ([{"kind": "polish"}], "there is no kind"),
        ([{"kind": "fit", "flops": 0.5}, {"kind": "fit", "flops": 0.4}], "given twice"),
        (
            [{"kind": "remove_heads", "keep": {0: 2, 1: []}}, {"kind": "remove_neurons", "keep": {2: 16}}],
            "leaves block 1 no attention",
        ),
        (
            [{"kind": "remove_parts", "attentions": [1]}, {"kind": "remove_blocks", "every": 2}],
            "put remove_blocks in front",
        ),
    ],
)
def test_orders_that_cannot_work_are_refused(passes: list, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make_recipe("recipe.yaml", source="x", passes=passes)


@pytest.mark.parametrize(
    "passes, message",
    [
        ([{"kind": "quantize"}, {"kind": "split", "keep": 0.5}], "split behind quantize"),
        ([{"kind": "float16"}, {"kind": "remove_heads", "keep": {0: 1}}], "remove_heads behind float16"),
        ([{"kind": "quantize"}, {"kind": "quantize"}], "given twice"),
        ([{"kind": "float16"}, {"kind": "float16"}], "given twice"),
        ([{"kind": "float16"}, {"kind": "quantize"}], "put quantize in front"),
        ([{"kind": "quantize", "weights": "int4", "activations": "static"}], "weight-only"),
    ],
)
def test_orders_with_quantization_that_cannot_work_are_refused(passes: list, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_recipe("test", source="x", passes=passes)


def test_the_table_reads_every_pass_by_its_kind() -> None:
    for kind, entry in PASSES.items():
        assert entry.spec.model_fields["kind"].default == kind
        assert entry.spec.role in get_args(Role)
    schema = Recipe.model_json_schema()["properties"]["passes"]["items"]
    assert list(schema["discriminator"]["mapping"]) == sorted(PASSES)
    assert [item["$ref"].rpartition("/")[2] for item in schema["oneOf"]] == [e.spec.__name__ for e in PASSES.values()]


@pytest.mark.parametrize(
    ("passes", "says"),
    [
        (
            [{"kind": "polish"}],
            "passes.0: there is no kind 'polish'; give one of 'fit'",
        ),
        ([{"kind": "repair", "rounds": 2}], "passes.0.repair.rounds: there is no such key"),
        ([{"method": "scale"}], "passes.0: names no kind"),
        (["repair"], "passes.0: a mapping of keys is expected"),
    ],
)
def test_what_is_no_pass_is_named(passes: list, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make_recipe("recipe.yaml", source="x", passes=passes)


@pytest.mark.parametrize(
    "kinds",
    [
        ["share", "trim_vocabulary", "fit", "repair", "recover", "quantize"],
        ["remove_blocks", "remove_parts", "split", "repair", "share", "float16"],
        ["recover", "float16"],
        ["quantize", "float16"],
    ],
)
def test_orders_that_work_are_taken(kinds: list[str]) -> None:
    needed = {
        "fit": {"flops": 0.5},
        "remove_blocks": {"blocks": [1]},
        "remove_parts": {"attentions": [0]},
        "split": {"keep": 0.5},
        "recover": {"minutes": 1},
    }
    recipe = make_recipe("test", source="x", passes=[{"kind": k, **needed.get(k, {})} for k in kinds])
    assert [p.kind for p in recipe.passes] == kinds


def test_each_rule_says_why() -> None:
    """A rule whose message named something that its passes do not have would raise another error than the one meant."""
    for rule in ORDER:
        text = rule.reason.format(spec=RepairSpec(), other=RemovePartsSpec(attentions=[3]))
        assert "{" not in text
