"""Removed blocks are bypassed."""

import onnx_ir as ir
import pytest
import torch

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
