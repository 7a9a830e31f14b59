"""Quantized checkpoints in small: a random BERT's weights as integers, packed by a test, and what an artifact holds of them."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from headway.errors import SourceError
from headway.exporter.export import Exported, export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.source import Source, open_source
from headway.runners.ort import OrtRunner

from tests.support.models import make_model

QUERY = "encoder.layer.0.attention.self.query"


@dataclass
class Whole:
    """Integers of a weight before they are packed: `weight = (codes - zero) * scale`; `scale` and `zero` are `[out, groups]`."""

    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor

    @property
    def floats(self) -> torch.Tensor:
        size = self.codes.shape[1] // self.scale.shape[1]
        scale, zero = (t.float().repeat_interleave(size, dim=1) for t in (self.scale, self.zero))
        return (self.codes.float() - zero) * scale


def whole(weight: torch.Tensor, bits: int, group: int, *, symmetric: bool = False) -> Whole:
    """Round a weight `[out, in]` to codes from 0 on, in groups of inputs, with scales that float16 holds."""
    out, inputs = weight.shape
    blocks = weight.reshape(out, inputs // group, group)
    low, high = blocks.amin(-1), blocks.amax(-1)
    if symmetric:
        high = torch.maximum(-low, high)
        low = -high
    most = 2**bits - 1
    scale = ((high - low) / most).clamp_min(1e-4).half()
    zero = (-low / scale.float()).round().clamp(0, most)
    if symmetric:
        zero = torch.full_like(zero, 2 ** (bits - 1))
    codes = (blocks / scale.float()[..., None]).round() + zero[..., None]
    return Whole(codes.clamp(0, most).reshape(out, inputs).int(), scale, zero.int())


Pack = Callable[[str, Whole], dict[str, torch.Tensor]]


def make_quantized(
    directory: Path, pack: Pack, settings: dict[str, Any], *, bits: int = 4, group: int = 16, symmetric: bool = False
) -> dict[str, Whole]:
    """Write a BERT whose linear layers in blocks are integers as `pack` names and lays them; return the integers by layer."""
    make_model(directory, num_hidden_layers=1)
    state = load_file(directory / "model.safetensors")
    stems = [n.removesuffix(".weight") for n in state if n.startswith("encoder") and state[n].ndim == 2]
    found = {stem: whole(state.pop(f"{stem}.weight"), bits, group, symmetric=symmetric) for stem in stems}
    for stem, integers in found.items():
        state |= pack(stem, integers)
    save(directory, state)
    configure(directory, settings)
    return found


def save(directory: Path, state: dict[str, torch.Tensor]) -> None:
    save_file({n: t.clone().contiguous() for n, t in state.items()}, directory / "model.safetensors", {"format": "pt"})


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def configure(directory: Path, settings: dict[str, Any] | None) -> None:
    """Write `quantization_config` into config.json, or take it out."""
    path = directory / "config.json"
    config = json.loads(path.read_text())
    config.pop("quantization_config", None)
    path.write_text(json.dumps(config | ({"quantization_config": settings} if settings else {})))


def opened(directory: Path, found: dict[str, Whole]) -> Source:
    """Open a source and check that each weight is what the integers stand for, to the last bit."""
    source = open_source(str(directory), allow_pickle=True)
    assert source.checkpoint is not None
    for stem, integers in found.items():
        read = source.checkpoint.state[f"{stem}.weight"]
        assert read.shape == tuple(integers.codes.shape)
        assert torch.equal(read.read(), integers.floats), stem
    assert not any("quantization_config" in key for key in source.config)
    return source


def exported(directory: Path, found: dict[str, Whole], out: Path, target: str = "ort", **recipe: Any) -> Exported:
    """Export, and check that transformers' forward with the dequantized weights gives the same answers; return what was made."""
    with pytest.warns(match=r"artifact holds|float"):
        made = export(Recipe(source=str(directory), target=target, **recipe), out, allow_pickle=True)
    assert made.parity.dtype == "float32" and made.parity.ok
    if (directory / "model.safetensors").is_file():
        same_forward(directory, found, out)
    return made


def same_forward(directory: Path, found: dict[str, Whole], bundle: Path) -> None:
    """Check an .onnx file against transformers' own module, loaded here with the floats that the integers stand for."""
    config = json.loads((directory / "config.json").read_text())
    config.pop("quantization_config", None)
    model = transformers.BertModel(transformers.BertConfig(**config)).eval()
    state = {n: t for n, t in tensors(directory).items() if n in model.state_dict() and t.is_floating_point()}
    model.load_state_dict(state | {f"{stem}.weight": integers.floats for stem, integers in found.items()})
    ids = torch.tensor([[1, 5, 9, 12, 2], [1, 7, 2, 0, 0]])
    feeds = {"input_ids": ids, "attention_mask": (ids != 0).long(), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        wanted = model(**feeds).last_hidden_state
    options = json.loads((bundle / "headway.json").read_text())["session_options"]
    got = OrtRunner(bundle / "model.onnx", options).run({n: t.numpy() for n, t in feeds.items()})["last_hidden_state"]
    assert np.abs(got - wanted.numpy())[ids.numpy() != 0].max() < 1e-4


def held(bundle: Path, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes less their zero points `[out, in]`, and the scales `[out, groups]`, that an .onnx file holds of a layer."""
    model = onnx.load(bundle / "model.onnx")
    arrays = {t.name: t for t in model.graph.initializer}
    weight = f"{layer}.weight"
    for node in model.graph.node:
        if node.op_type == "MatMulNBits" and node.input[1] == f"{weight}.packed":
            size = {a.name: a.i for a in node.attribute}
            codes = _nibbles(numpy_helper.to_array(arrays[node.input[1]])).reshape(size["N"], size["K"])
            groups = size["K"] // size["block_size"]
            zero = np.full((size["N"], groups), 8, np.uint8)
            if len(node.input) > 3 and node.input[3]:
                packed = numpy_helper.to_array(arrays[node.input[3]]).reshape(size["N"], -1)
                zero = _nibbles(packed)[:, :groups]
            scale = numpy_helper.to_array(arrays[node.input[2]]).reshape(size["N"], groups)
            return codes.astype(int) - np.repeat(zero.astype(int), size["block_size"], axis=1), scale
        if node.op_type == "DequantizeLinear" and node.input[0] == weight:
            codes = numpy_helper.to_array(arrays[weight]).astype(int)
            scale = numpy_helper.to_array(arrays[node.input[1]])
            scale = scale[None] if scale.ndim == 1 else scale
            if len(node.input) > 2:
                zero = numpy_helper.to_array(arrays[node.input[2]]).astype(int)
                codes = codes - np.repeat(zero.reshape(scale.shape), len(codes) // len(scale), axis=0)
            return codes.T, scale.T
    raise AssertionError(f"{weight} is no integers in {bundle}")


def _nibbles(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:-1], -1)


def same_codes(bundle: Path, found: dict[str, Whole]) -> None:
    """Check that an artifact holds exactly the integers and scales of every layer."""
    for stem, integers in found.items():
        codes, scale = held(bundle, stem)
        size = integers.codes.shape[1] // integers.scale.shape[1]
        wanted = integers.codes - integers.zero.repeat_interleave(size, dim=1)
        assert np.array_equal(codes, wanted.numpy()), stem
        spread = np.repeat(scale, codes.shape[1] // scale.shape[1], axis=1)
        assert np.array_equal(spread, integers.scale.float().repeat_interleave(size, dim=1).numpy()), stem


def refusal(directory: Path) -> str:
    """Return the sentence that refuses a checkpoint, whenever it is read."""
    with pytest.raises(SourceError) as caught:
        source = open_source(str(directory), allow_pickle=True)
        assert source.checkpoint is not None
        for tensor in source.checkpoint.state.values():
            tensor.read()
    return str(caught.value)


def changed(source: Path, directory: Path, change: Mapping[str, torch.Tensor | None]) -> None:
    """Copy a checkpoint, with some tensors replaced, or left out where they are None."""
    shutil.copytree(source, directory, dirs_exist_ok=True)
    state = {**tensors(source), **change}
    save(directory, {n: t for n, t in state.items() if t is not None})
