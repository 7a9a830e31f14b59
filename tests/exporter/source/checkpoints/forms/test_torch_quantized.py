"""State dicts of torch's own quantized modules, made by `torch.ao.quantization`."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from headway.exporter.source.source import open_source

from tests.support import integer_checkpoints as integers
from tests.support.integer_checkpoints import QUERY, Whole
from tests.support.models import make_model


def make(directory: Path, way: Any) -> Any:
    """Write a BERT whose linear layers torch quantizes; return the module."""
    make_model(directory, num_hidden_layers=1)
    model = transformers.BertModel.from_pretrained(directory).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(model, way if isinstance(way, dict) else {torch.nn.Linear}, way)
    (directory / "model.safetensors").unlink()
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    return model


def whole(weight: torch.Tensor) -> Whole:
    """Return the integers of one of torch's quantized tensors."""
    if weight.qscheme() == torch.per_tensor_affine:
        scale, zero = (
            torch.full((len(weight), 1), weight.q_scale()),
            torch.full((len(weight), 1), weight.q_zero_point()),
        )
    else:
        scale, zero = weight.q_per_channel_scales()[:, None], weight.q_per_channel_zero_points()[:, None]
    return Whole(weight.int_repr().int(), scale.float(), zero)


def layers(model: Any) -> dict[str, Whole]:
    named = model.named_modules()
    return {n: whole(m.weight()) for n, m in named if isinstance(m, torch.ao.nn.quantized.dynamic.Linear)}


@pytest.mark.parametrize("kind", ["per tensor", "per channel"])
def test_integers_are_those_of_torchs_quantized_tensors(kind: str, tmp_path: Path) -> None:
    per_channel = {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}
    model = make(tmp_path / "m", per_channel if kind == "per channel" else torch.qint8)
    found = layers(model)
    integers.opened(tmp_path / "m", found)
    read = open_source(str(tmp_path / "m"), allow_pickle=True).checkpoint
    assert read is not None and len(found) == 7  # the pooler is one of them
    assert torch.equal(read.state[f"{QUERY}.weight"].read(), model.get_submodule(QUERY).weight().dequantize())
    assert torch.equal(read.state[f"{QUERY}.bias"].read(), model.get_submodule(QUERY).bias())
    made = integers.exported(tmp_path / "m", found, tmp_path / "b")
    del found["pooler.dense"]
    assert (
        "6 of 6 quantized weights (6 as int8); 1 not found in it under their names" in made.manifest.source["form"][1]
    )
    integers.same_codes(tmp_path / "b", found)


def test_weights_in_float16_are_exact(tmp_path: Path) -> None:
    model = make(tmp_path, torch.float16)
    source = open_source(str(tmp_path), allow_pickle=True)
    assert source.checkpoint is not None and not source.checkpoint.integers
    assert torch.equal(source.checkpoint.state[f"{QUERY}.weight"].read(), model.get_submodule(QUERY).weight().float())


def test_integers_of_embeddings_are_read(tmp_path: Path) -> None:
    embedding = torch.nn.Embedding(300, 32)
    embedding.qconfig = torch.ao.quantization.float_qparams_weight_only_qconfig
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantized = torch.ao.nn.quantized.Embedding.from_float(
            embedding
        )  # kept: its state shares the memory of its scales
        stored = quantized.state_dict()
    make_model(tmp_path, num_hidden_layers=1)
    state: dict[str, Any] = integers.tensors(tmp_path)
    name = "embeddings.word_embeddings"
    state = {n: t for n, t in state.items() if not n.startswith(name)} | {f"{name}.{n}": t for n, t in stored.items()}
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    source = open_source(str(tmp_path), allow_pickle=True)
    assert source.checkpoint is not None
    wanted = stored["_packed_params._packed_weight"].dequantize()
    torch.testing.assert_close(source.checkpoint.state[f"{name}.weight"].read(), wanted, rtol=1e-6, atol=1e-6)


def test_parts_without_their_weight_are_refused(tmp_path: Path) -> None:
    make(tmp_path, torch.qint8)
    state = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    params = f"{QUERY}._packed_params._packed_params"
    four = torch.quantize_per_channel(torch.ones(32, 32), torch.ones(32), torch.zeros(32), 0, torch.quint4x2)
    for changed, said in (
        ((None, state[params][1]), f"{params}.1 belongs to no quantized weight"),
        ((four, state[params][1]), f"{params}.0 is quint4x2[32, 32]"),
    ):
        torch.save(state | {params: changed}, tmp_path / "pytorch_model.bin")
        assert said in integers.refusal(tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    make(tmp_path, torch.qint8)
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "not a state dict that can be read without running code" in integers.refusal(tmp_path)
