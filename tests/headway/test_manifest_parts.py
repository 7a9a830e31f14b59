"""What a bundle may ask of a runtime comes from lists; what Headway itself writes is on them."""

import pytest

from headway.checked import Mismatch, checked
from headway.exporter.targets.ort.target import session_options
from headway.manifest_parts import Anatomy, TextCounts, check_session_options


def test_what_targets_write_is_on_the_lists() -> None:
    check_session_options(session_options(regroup=True, kernels="custom"))
    check_session_options({"providers": ["CPUExecutionProvider"]})
    tensorrt = {"trt_engine_cache_enable": "1", "trt_timing_cache_enable": "1", "trt_fp16_enable": "1"}
    check_session_options(
        {"providers": [["TensorrtExecutionProvider", tensorrt], ["CUDAExecutionProvider", {"use_tf32": "0"}]]}
    )
    check_session_options({"config": {"session.enable_saved_runtime_optimizations": "1"}})


@pytest.mark.parametrize(
    "options",
    [
        {"evil": True},
        {"config": {"session.optimized_model_external_initializers_file_name": "x"}},
        {"providers": []},
        {"providers": ["OpenVINOExecutionProvider"]},
        {"providers": [["CUDAExecutionProvider", {"user_compute_stream": "1"}]]},
        {"providers": [["CUDAExecutionProvider", {"use_tf32": 0}]]},
        {"providers": [["CUDAExecutionProvider"]]},
    ],
)
def test_anything_else_is_refused(options: dict) -> None:
    with pytest.raises(Mismatch, match="session_options"):
        check_session_options(options)


def test_keys_that_older_bundles_lack_are_checked_where_they_are() -> None:
    older = {"parameters": 1, "bytes": 4, "embeddings": {}, "blocks": []}
    for more in ({}, {"vocabulary": None}, {"vocabulary": 30522}):
        assert checked(Anatomy, older | more) == older | more
    for vocabulary in ("../../etc/passwd", -1, True, 1 << 40):
        with pytest.raises(Mismatch, match="vocabulary"):
            checked(Anatomy, older | {"vocabulary": vocabulary})
    with pytest.raises(Mismatch, match="judge: missing"):
        checked(TextCounts, {"learn": 1, "choose": 1})
