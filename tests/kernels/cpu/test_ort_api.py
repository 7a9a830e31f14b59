"""Our declaration of ONNX Runtime's C API against its own header, where that is installed, and against the library that is."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from headway.kernels import cpu
from headway.kernels.cpu import build

HERE = Path(build.__file__).parent
NAMES = {
    "create_status": "CreateStatus",
    "create_domain": "CreateCustomOpDomain",
    "domain_add": "CustomOpDomain_Add",
    "add_domain": "AddCustomOpDomain",
    "tensor_data": "GetTensorMutableData",
    "element_type": "GetTensorElementType",
    "rank": "GetDimensionsCount",
    "dimensions": "GetDimensions",
    "tensor_info": "GetTensorTypeAndShape",
    "attribute_float": "KernelInfoGetAttribute_float",
    "attribute_int": "KernelInfoGetAttribute_int64",
    "attribute_string": "KernelInfoGetAttribute_string",
    "input_count": "KernelContext_GetInputCount",
    "output_count": "KernelContext_GetOutputCount",
    "input": "KernelContext_GetInput",
    "output": "KernelContext_GetOutput",
    "release_status": "ReleaseStatus",
    "release_tensor_info": "ReleaseTensorTypeAndShapeInfo",
    "release_domain": "ReleaseCustomOpDomain",
    "constant_input": "KernelInfoGetConstantInput_tensor",
    "parallel_for": "KernelContext_ParallelFor",
}


def _header() -> Path | None:
    places = [os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]
    return next((Path(p) for p in places if p and (Path(p) / "onnxruntime_c_api.h").is_file()), None)


def test_every_slot_is_checked() -> None:
    declared = re.findall(r"^constexpr Slot<\d+, .*> (\w+);", (HERE / "ort_api.h").read_text(), re.MULTILINE)
    assert sorted(declared) == sorted(NAMES)


def test_slots_are_where_the_header_has_them(tmp_path: Path) -> None:
    include = _header()
    if include is None or build.compiler() is None:
        pytest.skip("onnxruntime_c_api.h is not installed (libonnxruntime-dev; or set ONNXRUNTIME_INCLUDE)")
    checks = [
        f"static_assert(ort::{ours}.kNumber * sizeof(void*) == offsetof(OrtApi, {theirs}));"
        for ours, theirs in NAMES.items()
    ]
    fields = re.findall(
        r"\(\*(\w+)\)\(", re.search(r"struct CustomOp \{(.*?)\n\};", (HERE / "ort_api.h").read_text(), re.DOTALL)[1]
    )  # type: ignore[index]
    theirs = re.findall(
        r"ORT_API_CALL\* ?(\w+)\)",
        re.search(r"struct OrtCustomOp \{(.*?)\n\};", (include / "onnxruntime_c_api.h").read_text(), re.DOTALL)[1],
    )  # type: ignore[index]
    assert len(fields) == 25
    checks += [
        f"static_assert(offsetof(ort::CustomOp, {a}) == offsetof(OrtCustomOp, {b}));"
        for a, b in zip(fields, theirs, strict=False)
    ]
    checks += [
        f"static_assert(int(ort::Type::k{k}) == ONNX_TENSOR_ELEMENT_DATA_TYPE_{k.upper()});"
        for k in ("Float", "Uint8", "Int8", "Int32", "Int64", "Bool", "Float16", "Bfloat16")
    ]
    program = tmp_path / "check.cc"
    program.write_text(
        '#include <cstddef>\n#include <onnxruntime_c_api.h>\n#include "ort_api.h"\nusing namespace headway;\n'
        + "\n".join(checks)
    )
    command = [
        *str(build.compiler()).split(),
        "-std=c++17",
        "-fsyntax-only",
        "-Wno-invalid-offsetof",
        f"-I{include}",
        f"-I{HERE}",
        program,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_line_for_plain_onnxruntime_needs_headway_alone() -> None:
    code = "import headway; print(headway.kernels.cpu.library_path())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(cpu.library_path())
