"""The ONNX Runtime runner: grouping changes no output, and what cannot be loaded is named."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway import processor
from headway.errors import TargetError
from headway.exporter.export import Exported
from headway.runners.ort import OrtRunner, check_loaded


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_grouping_changes_no_answer(bert_bundle: Exported, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 60), min_size=1, max_size=6))
    total = max(lengths) + data.draw(st.integers(0, 3))
    rng = np.random.default_rng(0)
    mask = (np.arange(total)[None, :] < np.array(lengths)[:, None]).astype(np.int64)
    feeds = {
        "input_ids": rng.integers(5, 99, mask.shape) * mask,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(mask),
    }
    model = bert_bundle.path / "model.onnx"
    plain = OrtRunner(model).run(feeds)["last_hidden_state"]
    grouped = OrtRunner(model, {"regroup": True}).run(feeds)["last_hidden_state"]
    assert grouped.shape == plain.shape
    np.testing.assert_allclose(grouped[mask.astype(bool)], plain[mask.astype(bool)], atol=1e-5)


def test_a_batch_without_padding_takes_the_branch_without_a_mask(bert_bundle: Exported) -> None:
    """Both branches of each attention answer alike: a full batch, and the same batch with one padded row more."""
    rng = np.random.default_rng(1)
    ids = rng.integers(5, 99, (3, 17))
    runner = OrtRunner(bert_bundle.path / "model.onnx")
    full = {
        "input_ids": ids[:2],
        "attention_mask": np.ones((2, 17), np.int64),
        "token_type_ids": np.zeros((2, 17), np.int64),
    }
    padded = {k: np.concatenate([v, v[:1]]) for k, v in full.items()}
    padded["attention_mask"][2, 5:] = 0
    a, b = (runner.run(feeds)["last_hidden_state"][:2] for feeds in (full, padded))
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert [n.op_type for n in onnx.load(bert_bundle.path / "model.onnx", load_external_data=False).graph.node].count(
        "If"
    ) == 4


def test_a_file_that_is_no_model_is_named(tmp_path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(TargetError, match=r"model\.onnx"):
        OrtRunner(tmp_path / "model.onnx")


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_the_session_went_on_without_is_refused(
    bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where onnxruntime-gpu is installed and its libraries are not: the runtime takes the CPU and says so in its log alone."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(
        TargetError, match=r"CUDAExecutionProvider, which .* could not load here \(CPUExecutionProvider was taken"
    ):
        OrtRunner(bert_bundle.path / "model.onnx", providers=["CUDAExecutionProvider"])


@pytest.mark.parametrize(
    "machine, flags, exact",
    [
        ("x86_64", "avx2 fma", False),
        ("x86_64", "avx2 avx512f avx512_vnni", True),
        ("AMD64", "avx2 avx_vnni", True),
        ("aarch64", "", True),
        ("AMD64", "", False),
    ],
)
def test_exact_products_are_asked_for_unless_the_processor_has_them(
    machine: str, flags: str, exact: bool, bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "about", lambda: ("some", frozenset(flags.split())))
    options = {"config": {processor.X64_PRECISION: "1"}}
    runner = OrtRunner(bert_bundle.path / "model.onnx", options)
    asked = runner.session.get_session_options()
    if exact:
        with pytest.raises(RuntimeError):
            asked.get_session_config_entry(processor.X64_PRECISION)
    else:
        assert asked.get_session_config_entry(processor.X64_PRECISION) == "1"


def test_a_session_without_the_provider_that_was_asked_for_is_refused() -> None:
    """ONNX Runtime takes another without an error where a provider's libraries cannot be loaded."""
    asked = [("CUDAExecutionProvider", {"device_id": "0"}), "CPUExecutionProvider"]
    check_loaded(Path("m.onnx"), asked, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(
        TargetError, match=r"m\.onnx runs on CUDAExecutionProvider, which .* \(CPUExecutionProvider was taken"
    ):
        check_loaded(Path("m.onnx"), asked, ["CPUExecutionProvider"])
