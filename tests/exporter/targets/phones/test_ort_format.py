"""`.ort` files read back, and what phones would have no kernel for."""

import platform
from dataclasses import replace
from pathlib import Path

import pytest
from onnxruntime.capi import _pybind_state as state

from headway.errors import SourceError, TargetError, UsageError
from headway.exporter.export import Exported
from headway.exporter.recipe.recipe import make_recipe
from headway.exporter.targets.phones.ort_format import (
    X86_ONLY_DOMAINS,
    OrtFile,
    OrtNode,
    Runtime,
    check_operators,
    full_build,
    read_ort,
)
from headway.exporter.targets.registry import target_of


def test_kernels_of_x86_alone_do_not_count() -> None:
    runtime = full_build()
    assert not [key for key in runtime.kernels if key[0] in X86_ONLY_DOMAINS]
    if platform.machine() == "x86_64":
        assert any(k.domain in X86_ONLY_DOMAINS for k in state.get_all_opkernel_def())
    layout = OrtNode("conv", "Conv", "com.microsoft.nchwc", 1, (), (), ())
    assert runtime.lacks(layout) == "com.microsoft.nchwc.Conv"


def test_an_operator_that_phones_lack_is_named_with_its_module(mobile: Exported) -> None:
    file, runtime = read_ort(mobile.path / "model.ort"), full_build()
    check_operators(file, runtime)
    without = Runtime({k: v for k, v in runtime.kernels.items() if k[1] != "LayerNormalization"}, runtime.schemas)
    with pytest.raises(TargetError, match=r"module embeddings\.LayerNorm:.*ai\.onnx\.LayerNormalization.*leave out"):
        check_operators(file, without)


def test_a_type_without_a_kernel_is_named(mobile: Exported) -> None:
    file, runtime = read_ort(mobile.path / "model.ort"), full_build()
    node = next(n for n in file.nodes if n.op_type == "Gelu")
    assert runtime.lacks(node) is None
    assert runtime.lacks(replace(node, types=("string",))) == "com.microsoft.Gelu on string"
    assert runtime.lacks(replace(node, version=99, domain="", op_type="LayerNormalization")) is None
    old = OrtNode("relu", "Attention", "", 7, ("x",), ("y",), ("float",))
    assert runtime.lacks(old) == "ai.onnx.Attention of version 7"


def test_what_is_no_ort_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.ort").write_bytes(b"nonsense, but long enough")
    with pytest.raises(SourceError, match="not a file in ORT format"):
        read_ort(tmp_path / "model.ort")
    with pytest.raises(UsageError, match="graph_optimization is for target ort-mobile"):
        make_recipe("test", source="x", graph_optimization="device")
    with pytest.raises(UsageError, match="kernels"):
        target_of(make_recipe("test", source="x", target="ort-mobile", kernels="custom"))


def test_an_empty_file_has_no_bytes() -> None:
    assert OrtFile("1").kinds() == {"tables": 0, "matrices": 0, "vectors": 0}
