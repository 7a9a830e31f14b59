"""The graph without padding: the same outputs as the bundle's, for texts of any lengths."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

import headway
from headway.errors import UsageError
from headway.exporter.export import Exported
from headway.exporter.package.triton.ragged import ENDS, make_ragged

TEXTS = ["the price of bread", "rain", "a small model of language runs with time", ""]


def test_outputs_are_the_bundle_s(sentence_bundle: Exported, tmp_path: Path) -> None:
    bundle = headway.open(sentence_bundle.path, threads=1)
    model = ir.load(sentence_bundle.path / "model.onnx")
    info = bundle.manifest.tokenizer
    assert make_ragged(model, info.pad_id, info.pad_type_id) == ["sentence_embedding"]
    ir.save(model, tmp_path / "model.onnx", external_data="model.onnx.data")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    flat = [i.name for i in bundle.manifest.inputs if i.name != "attention_mask"]
    expected = dict.fromkeys(flat, ("tensor(int64)", 1)) | {ENDS: ("tensor(int32)", 1)}
    assert {i.name: (i.type, len(i.shape)) for i in session.get_inputs()} == expected
    for texts in (TEXTS, TEXTS[:1], TEXTS[::-1]):
        encodings = bundle.encoder.encode(texts)
        feeds = {
            "input_ids": np.concatenate([e.ids for e in encodings]).astype(np.int64),
            "token_type_ids": np.concatenate([e.type_ids for e in encodings]).astype(np.int64),
            ENDS: np.cumsum([0, *(len(e.ids) for e in encodings)]).astype(np.int32),
        }
        feeds = {name: feeds[name] for name in expected}
        np.testing.assert_allclose(session.run(None, feeds)[0], bundle(texts)["sentence_embedding"], atol=1e-6)


def test_outputs_per_token_alone_are_refused(bert_bundle: Exported) -> None:
    model = ir.load(bert_bundle.path / "model.onnx")
    model.graph.outputs[:] = [o for o in model.graph.outputs if "sequence" in [str(d) for d in o.shape]]
    with pytest.raises(UsageError, match="outputs per token alone"):
        make_ragged(model, 0, 0)


def test_inputs_that_are_not_known_are_refused(sentence_bundle: Exported) -> None:
    model = ir.load(sentence_bundle.path / "model.onnx")
    model.graph.inputs[0].name = "pixels"
    with pytest.raises(UsageError, match="the input pixels"):
        make_ragged(model, 0, 0)
