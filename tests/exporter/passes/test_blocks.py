"""Removed blocks are bypassed."""

import onnx_ir as ir
import pytest
import torch

from headway.errors import UsageError
from headway.exporter.graph.anatomy import read_anatomy
from headway.exporter.graph.torch_graph import TorchGraph
from headway.exporter.passes.blocks import RemoveBlocks

from tests.support.pass_checks import answers, feeds, largest_difference


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "distilbert", "electra", "mpnet", "modernbert", "deberta-v2", "mobilebert"]
)
def test_a_removed_block_is_bypassed(family: str, family_models: dict[str, ir.Model]) -> None:
    for index in (0, 1):
        model = family_models[family].clone()
        block = read_anatomy(model).blocks[index]
        assert block.input is not None and block.output is not None
        graph = TorchGraph(model)
        with torch.no_grad():
            entry = graph.run(graph.feeds(feeds()), [block.input])[block.input]
        wanted = answers(model, {block.output: lambda _, entry=entry: entry})
        count = len(read_anatomy(model).blocks)
        RemoveBlocks([index])(model)
        assert largest_difference(wanted, answers(model)) < 1e-6
        assert len(read_anatomy(model).blocks) == count - 1


@pytest.mark.parametrize("copied", [False, True])
def test_an_output_from_before_the_blocks_does_not_hide_where_they_begin(
    copied: bool, family_models: dict[str, ir.Model]
) -> None:
    """Such blocks were once "removed", and the graph was the same as before."""
    model = family_models["bert"].clone()
    beside = read_anatomy(model).blocks[0].input
    assert beside is not None
    if copied:
        copy = ir.node("Identity", [beside])
        copy.outputs[0].name, copy.outputs[0].type, copy.outputs[0].shape = "beside", beside.type, beside.shape
        model.graph.append(copy)
        model.graph.outputs.append(copy.outputs[0])
        with pytest.raises(UsageError, match="block 0 reads or gives more than one value"):
            RemoveBlocks([0])(model)
        return
    model.graph.outputs.append(beside)
    count = len(read_anatomy(model).blocks)
    RemoveBlocks([0])(model)
    assert len(read_anatomy(model).blocks) == count - 1
    assert beside in model.graph.outputs
