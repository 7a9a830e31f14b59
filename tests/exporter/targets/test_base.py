"""What targets share: widths, text, and the reason why one cannot be built."""

import numpy as np
import pytest

from headway.errors import TargetError
from headway.exporter.export import Exported
from headway.exporter.targets.base import TargetSpec, Text, check_available, installed
from headway.exporter.targets.ort.target import OrtTarget
from headway.text import TextEncoder

LINES = ["the model", "a large language model with small heads and layers of bread", "rain"]


@pytest.mark.parametrize(("width", "most", "grown"), [(1, 64, 16), (16, 64, 16), (17, 64, 32), (60, 62, 62)])
def test_widths_grow_to_the_next_multiple(width: int, most: int, grown: int) -> None:
    assert TargetSpec("x", neuron_multiple=16, rank_multiple=16).grown(width, most) == grown


def test_text_is_batched_up_to_a_number_of_tokens(bert_bundle: Exported) -> None:
    info = bert_bundle.manifest.tokenizer
    encoder = TextEncoder(bert_bundle.path / info.file, info)
    text = Text(encoder, LINES, most_tokens=1000)
    assert text.longest == 64
    assert text.lengths.tolist() == [len(e.ids) for e in encoder.encode(LINES)]
    assert sum(len(b.rows) for b in text.batches) == 3
    few = Text(encoder, LINES, most_tokens=int(text.lengths.min()))
    assert 0 < sum(b.feeds["attention_mask"].sum() for b in few.batches) < text.lengths.sum()


def test_choices_are_an_axis_of_their_own(bert_bundle: Exported) -> None:
    info = bert_bundle.manifest.tokenizer
    encoder = TextEncoder(bert_bundle.path / info.file, info)
    plain, choices = Text(encoder, LINES), Text(encoder, LINES, choices=2)
    for a, b in zip(plain.batches, choices.batches, strict=True):
        for name, array in a.feeds.items():
            assert b.feeds[name].shape == (len(array), 2, array.shape[1])
            assert np.array_equal(b.feeds[name][:, 0], array) and np.array_equal(b.feeds[name][:, 1], array)


def test_the_reason_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    check_available(OrtTarget())
    monkeypatch.setattr("headway.exporter.targets.ort.target.library_path", lambda: None)
    with pytest.raises(TargetError, match="C\\+\\+ compiler"):
        check_available(OrtTarget(kernels="custom"))


def test_grown_to_the_multiple_that_pays() -> None:
    spec = TargetSpec("any", neuron_multiple=16, rank_multiple=16)
    assert [spec.grown(n, 100) for n in (0, 1, 16, 17, 97, 100)] == [0, 16, 16, 32, 100, 100]


def test_all_packages_have_to_be_installed() -> None:
    assert installed("numpy", "onnx_ir")
    assert not installed("numpy", "no_such_package") and not installed("no_such_package", "numpy")
