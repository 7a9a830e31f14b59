"""bitsandbytes' NF4 and FP4, written here after the layout of its `QuantState.as_dict`.

What bitsandbytes' `quantize_4bit` makes was read once (both kinds, with and without nested scales), and was equal to what its
definition in torch dequantizes, bit by bit.
"""

import json
from pathlib import Path

import pytest
import torch

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}.weight"
SETTINGS = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
VALUES = torch.linspace(-1, 1, 16) ** 3


def note(**settings: object) -> torch.Tensor:
    return torch.tensor(list(json.dumps(settings).encode()), dtype=torch.uint8)


def packing(kind: str, nested: bool) -> integers.Pack:
    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        codes, shape = whole.codes.reshape(-1), list(whole.codes.shape)
        absmax = torch.linspace(0.01, 0.16, len(codes) // 64)
        name, settings = f"{stem}.weight", {"quant_type": kind, "blocksize": 64, "dtype": "float16", "shape": shape}
        made = {name: (codes[::2] << 4 | codes[1::2]).to(torch.uint8)[:, None], f"{name}.quant_map": VALUES}
        if nested:
            values = torch.linspace(-1, 1, 256)
            settings |= {"nested_blocksize": 8, "nested_dtype": "float32", "nested_offset": 0.05}
            numbers = (torch.arange(len(absmax)) * 7 % 256).to(torch.uint8)
            scales = torch.linspace(0.001, 0.002, -(-len(absmax) // 8))  # as in files: a few percent around the mean
            made |= {f"{name}.nested_absmax": scales, f"{name}.nested_quant_map": values}
            absmax = values[numbers.long()] * scales.repeat_interleave(8)[: len(absmax)] + 0.05
        made |= {f"{name}.absmax": numbers if nested else absmax}
        made[f"{name}.quant_state.bitsandbytes__{kind}"] = note(**settings)
        whole.codes = (VALUES[codes.long()].reshape(-1, 64) * absmax[:, None]).reshape(shape)
        whole.scale, whole.zero = torch.ones(shape[0], 1), torch.zeros(shape[0], 1)
        return made

    return pack


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Whole]]:
    directory = tmp_path_factory.mktemp("bnb4")
    return directory, integers.make_quantized(directory, packing("nf4", True), SETTINGS)


@pytest.mark.parametrize(("kind", "nested"), [("nf4", False), ("fp4", False), ("fp4", True)])
def test_both_kinds_with_and_without_nested_scales(kind: str, nested: bool, tmp_path: Path) -> None:
    integers.opened(tmp_path, integers.make_quantized(tmp_path, packing(kind, nested), SETTINGS))


def test_the_artifact_holds_the_dequantized_floats_and_says_so(
    packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.opened(*packed)
    made = integers.exported(*packed, tmp_path / "b")
    assert "6 weights in NF4, dequantized" in made.manifest.source["form"][0]


STATE = f"{NAME}.quant_state.bitsandbytes__nf4"


def test_a_block_that_is_said_to_be_larger_than_the_weight_costs_nothing(tmp_path: Path) -> None:
    integers.make_quantized(tmp_path, packing("nf4", False), SETTINGS)
    state = integers.tensors(tmp_path)
    integers.save(tmp_path, state | {f"{NAME}.absmax": torch.ones(1), STATE: note(blocksize=1 << 40, shape=[32, 32])})
    source = integers.opened(tmp_path, {})
    assert source.checkpoint is not None
    codes = state[NAME].reshape(-1)
    wanted = VALUES[torch.stack([codes >> 4, codes & 15], dim=1).reshape(32, 32).long()]
    assert torch.equal(source.checkpoint.state[NAME].read(), wanted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{NAME}.absmax": None}, f"{NAME} has no {NAME}.absmax beside it"),
        ({f"{NAME}.absmax": torch.zeros(15, dtype=torch.uint8)}, f"{NAME}.absmax is [15]"),
        ({f"{NAME}.quant_map": None}, f"{NAME} has no {NAME}.quant_map beside it"),
        ({f"{NAME}.quant_map": torch.zeros(15)}, f"{NAME}.quant_map is [15]"),
        ({f"{NAME}.nested_absmax": None}, f"{NAME} has no {NAME}.nested_absmax beside it"),
        ({f"{NAME}.nested_quant_map": torch.zeros(3)}, f"{NAME}.nested_quant_map is [3]"),
        ({NAME: None}, f"{STATE} has no {NAME} beside it"),
        ({NAME: torch.zeros(511, 1, dtype=torch.uint8)}, f"{NAME} is uint8[511, 1]"),
        ({STATE: note(blocksize=64, shape=[1 << 30, 1 << 30])}, f"says shape [{1 << 30}, {1 << 30}]"),
        ({STATE: note(blocksize=0, shape=[32, 32])}, "in blocks of 0"),
        ({STATE: note(blocksize=64, shape=[32, 32])}, "no nested_blocksize and nested_offset"),
        ({STATE: torch.zeros(5000, dtype=torch.uint8)}, "the bytes of a short JSON object are expected"),
        ({STATE: torch.zeros(50, dtype=torch.uint8)}, "is not a JSON object"),
        ({STATE: None}, "belongs to no quantized weight"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(packed[0], tmp_path, change)
    assert said in integers.refusal(tmp_path)


SOUND = twins.Sound(
    twins.integers(packing("nf4", True), SETTINGS),
    f"{twins.QUERY}.weight.absmax",
    {f"{twins.QUERY}.weight_scale": torch.ones(32)},
)
"""What `test_hostile_twins.py` makes twins of."""
