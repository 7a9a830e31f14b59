"""What the targets that read torch refuse, and the module that they export, at every length."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch

from headway.errors import TargetError
from headway.exporter.passes.quantize import QuantizeWeights, StoreHalf
from headway.exporter.targets.phones.torch_export import check_quantization, export_module, reason_of

from tests.support.lstms import lstm
from tests.support.one_node import model_of
from tests.support.variants import answers, apart, feeds, rounded


def test_what_is_quantized_is_counted(one_layer: ir.Model) -> None:
    assert check_quantization(one_layer, "litert", "LiteRT") == {"attention": 1}
    model, matrices = rounded(one_layer)
    counts = check_quantization(model, "litert", "LiteRT")
    assert counts == {"attention": 1, "int8_products": len(matrices), "int8_tables": 1}


def test_what_the_runtime_would_compute_otherwise_is_refused(one_layer: ir.Model) -> None:
    alone = one_layer.clone()
    QuantizeWeights(rounded(one_layer)[1])(alone)
    with pytest.raises(TargetError, match=r"int8 weights with float activations is not|not what XNNPACK takes"):
        check_quantization(alone, "executorch", "XNNPACK")
    half = one_layer.clone()
    StoreHalf()(half)
    with pytest.raises(TargetError, match="stored as float16, which target executorch would store as float32"):
        check_quantization(half, "executorch", "XNNPACK")


def test_the_exported_program_runs_at_every_length(one_layer: ir.Model) -> None:
    module, program = export_module(one_layer, 64)
    for length in (1, 2, 5, 64):
        given = feeds(1, length, padded=False)
        arguments = [torch.from_numpy(given[name]) for name in module.input_names]
        results = [t.detach().numpy() for t in program.module()(*arguments)]
        assert apart(answers(one_layer, given), dict(zip(module.output_names, results, strict=True)), given) < 1e-4


def test_an_operator_without_a_module_is_named_with_the_way_out(one_layer: ir.Model, tmp_path: Path) -> None:
    strange = one_layer.clone()
    gelu = next(n for n in strange.graph if n.op_type == "Gelu")
    gelu.op_type = "Nonsense"
    with pytest.raises(TargetError, match=r"Nonsense.*use --target ort or ort-mobile"):
        export_module(strange, 64)
    assert np.isfinite(next(iter(answers(one_layer, feeds(1, 3)).values()))).all()


def test_an_error_without_words_gives_its_type_and_what_is_behind_it() -> None:
    """Lowering ends in asserts that say nothing."""
    assert reason_of(AssertionError()) == "AssertionError"
    assert reason_of(ValueError("two\n  lines")) == "two lines"
    try:
        try:
            raise KeyError("aten::sort")
        except KeyError as error:
            raise AssertionError from error
    except AssertionError as error:
        assert reason_of(error).startswith("AssertionError in test_an_error_without_words")
        assert reason_of(error).endswith(", from KeyError: 'aten::sort'")


def test_an_error_without_words_names_the_operator_that_it_rose_at(one_layer: ir.Model) -> None:
    module, program = export_module(one_layer, 64)

    def lower() -> None:
        for node in program.graph.nodes:
            if "gelu" in str(node.target):
                raise AssertionError

    with pytest.raises(AssertionError) as caught:
        lower()
    assert "gelu" in module.names
    assert reason_of(caught.value, module.names) == "AssertionError at gelu.default (gelu)"
    assert reason_of(caught.value) == "AssertionError at gelu.default"

    def elsewhere() -> None:
        raise AssertionError

    with pytest.raises(AssertionError) as caught:
        elsewhere()
    assert reason_of(caught.value).endswith("elsewhere")


def test_an_lstm_with_lengths_is_named_with_the_way_out() -> None:
    with pytest.raises(TargetError, match=r"node 'node': torch.export cannot trace an LSTM .*use --target ort or"):
        export_module(model_of(lstm()), 64)
