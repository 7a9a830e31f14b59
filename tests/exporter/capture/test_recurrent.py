"""LSTMs are traced as ONNX's operator: answers are torch's, and packed ones do not depend on padding."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from headway.errors import SourceError
from headway.exporter.capture.capture import canonical_of, capture
from headway.exporter.capture.recurrent import traced_lstms
from headway.exporter.source.source import open_source

from tests.support.models import make_tokenizer
from tests.support.variants import answers, feeds


class Reader(nn.Module):
    """Texts read by LSTMs: the last states of packed texts, and the states of every token."""

    def __init__(self, *, packed: bool, layers: int = 2, bidirectional: bool = True, bias: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.packed = packed
        self.embedding = nn.Embedding(300, 16, padding_idx=0)
        options = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias}
        self.lstm = nn.LSTM(16, 12, batch_first=packed, **options)
        self.classifier = nn.Linear(24 if bidirectional else 12, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.embedding(input_ids)
        if not self.packed:
            states, _ = self.lstm(x.transpose(0, 1))
            return {"logits": self.classifier(states.mean(0)), "states": states.transpose(0, 1)}
        lengths = attention_mask.sum(1).cpu()
        states, (last, _) = self.lstm(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
        tokens, _ = pad_packed_sequence(states, batch_first=True)
        last = torch.cat([last[-2], last[-1]], 1) if self.lstm.bidirectional else last[-1]
        return {"logits": self.classifier(last), "states": tokens}


def captured(reader: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ir.Model]:
    make_tokenizer(tmp_path)
    monkeypatch.setattr(f"{__name__}.made", lambda: (reader, tmp_path), raising=False)
    result = capture(open_source(f"{__name__}:made", task="text-classification"))
    return result.reference, canonical_of(result).model


@pytest.mark.parametrize(
    "options",
    [{"packed": True}, {"packed": True, "layers": 1, "bidirectional": False, "bias": False}, {"packed": False}],
)
def test_answers_are_those_of_torch(options: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference, model = captured(Reader(**options), tmp_path, monkeypatch)
    given = {k: v for k, v in feeds().items() if k != "token_type_ids"}
    wanted = reference.run(given)
    assert set(wanted) == {"logits", "states"}
    assert sum(node.op_type == "LSTM" for node in model.graph) == options.get("layers", 2)
    path = tmp_path / "model.onnx"
    onnx.save(ir.to_proto(model), path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ran = dict(zip([o.name for o in session.get_outputs()], session.run(None, given), strict=True))
    for got in (answers(model, given), ran):
        assert all(np.abs(got[name] - wanted[name]).max() < 1e-6 for name in wanted)
    if options["packed"]:
        longer = {k: np.pad(v, ((0, 0), (0, 5))) for k, v in given.items()}
        assert np.abs(answers(model, longer)["logits"] - wanted["logits"]).max() < 1e-6


def test_what_the_operator_is_not_for_is_refused() -> None:
    root = nn.Sequential(nn.LSTM(4, 6, proj_size=2))
    with pytest.raises(SourceError, match="proj_size = 2"), traced_lstms(root):
        pass
    root = nn.Sequential(nn.LSTM(4, 6))
    x, state = torch.ones(3, 2, 4), torch.ones(1, 2, 6)
    with traced_lstms(root), pytest.raises(SourceError, match="starts from a state of its own"):
        root[0](x, (state, state))
    assert isinstance(root[0], nn.LSTM)
    assert pack_padded_sequence is nn.utils.rnn.pack_padded_sequence
