"""HQQ's `W_q` with its settings as tensors, packed here after the layout of hqq's `BitPack`.

hqq 0.2.8's `BitPack.pack_…` and `Quantizer.dequantize` were run on the same integers once: they gave the same tensors and floats.
"""

from pathlib import Path

import pytest
import torch

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}.W_q"
SETTINGS = {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 16, "axis": 1}}}


def stacked(codes: torch.Tensor, bits: int, parts: int, kind: torch.dtype) -> torch.Tensor:
    """Pack integers `[rows, columns]`: the first of `parts` equal parts of the rows goes into the highest bits."""
    rows = -(-len(codes) // parts) * parts
    padded = torch.zeros(rows, codes.shape[1], dtype=torch.int32)
    padded[: len(codes)] = codes
    packed = torch.zeros(rows // parts, codes.shape[1], dtype=torch.int32)
    for i, part in enumerate(padded.chunk(parts)):
        packed |= part << bits * (parts - 1 - i)
    return packed.to(kind)


WAYS = {
    8: ("8bit_u8", 1, torch.uint8),
    4: ("4bit_u8", 2, torch.uint8),
    3: ("3bit_32", 10, torch.int32),
    2: ("2bit_u8", 4, torch.uint8),
}


def packing(bits: int, *, axis: int = 1, fraction: float = 0.0) -> integers.Pack:
    name, parts, kind = WAYS[bits]

    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        group = whole.codes.shape[1] // whole.scale.shape[1]
        codes = whole.codes.reshape(-1, group)
        scale, zero = whole.scale.float().reshape(-1, 1), whole.zero.float().reshape(-1, 1) + fraction
        if axis == 0:
            codes, scale, zero = codes.T, scale.T, zero.T
        notes: dict[str, object] = {
            "shape": list(whole.codes.shape),
            "axis": axis,
            "nbits": bits,
            "group_size": group,
            "packing": [ord(c) for c in name],
            "view_as_float": 0,
            "quant_scale": 0,
            "quant_zero": 0,
            "stores_quant_config": 1,
            "encoded_state_dict": 1,
            "offload_meta": 0,
            "channel_wise": 1,
            "optimize": 1,
            "round_zero": 0,
            "unpack_view_dtype": [ord(c) for c in "torch.uint8"],
            "compute_dtype": [ord(c) for c in "torch.float32"],
        }
        small = {f"{stem}.{part}": torch.tensor(value, dtype=torch.int32) for part, value in notes.items()}
        return small | {f"{stem}.W_q": stacked(codes, bits, parts, kind), f"{stem}.scale": scale, f"{stem}.zero": zero}

    return pack


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Whole]]:
    directory = tmp_path_factory.mktemp("hqq")
    return directory, integers.make_quantized(directory, packing(4), SETTINGS)


@pytest.mark.parametrize("bits", WAYS)
def test_integers_of_every_packing_are_read(bits: int, tmp_path: Path) -> None:
    integers.opened(tmp_path, integers.make_quantized(tmp_path, packing(bits), SETTINGS, bits=bits))


def test_whole_zero_points_reach_the_artifact(packed: tuple[Path, dict[str, Whole]], tmp_path: Path) -> None:
    integers.exported(*packed, tmp_path / "b")
    integers.same_codes(tmp_path / "b", packed[1])


def test_zero_points_that_are_fractions_are_exact_as_floats(tmp_path: Path) -> None:
    found = integers.make_quantized(tmp_path / "m", packing(4, fraction=0.25), SETTINGS)
    for whole in found.values():
        whole.zero = whole.zero + 0.25
    integers.opened(tmp_path / "m", found)
    made = integers.exported(tmp_path / "m", found, tmp_path / "b")
    assert "0 of 6 quantized weights; 6 as float32" in made.manifest.source["form"][1]
    assert "its zero points are fractions" in made.manifest.source["form"][1]


def test_groups_along_outputs_are_read_as_floats(tmp_path: Path) -> None:
    integers.make_quantized(tmp_path, packing(4, axis=0), SETTINGS)
    state = integers.tensors(tmp_path)
    source = integers.opened(tmp_path, {})
    assert source.checkpoint is not None and not source.checkpoint.integers
    codes = torch.cat([state[NAME] >> 4, state[NAME] & 15])
    wanted = ((codes - state[f"{QUERY}.zero"]) * state[f"{QUERY}.scale"]).reshape(32, 32)
    assert torch.equal(source.checkpoint.state[f"{QUERY}.weight"].read(), wanted)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}.scale": None}, f"{NAME} has no {QUERY}.scale beside it"),
        ({f"{QUERY}.scale": torch.ones(63, 1), f"{QUERY}.zero": torch.ones(63, 1)}, "one for each of 64 groups"),
        ({f"{QUERY}.zero": torch.ones(3, 1)}, f"{QUERY}.zero is [3, 1]"),
        ({f"{QUERY}.shape": torch.tensor([1 << 30, 1 << 30])}, f"is not {1 << 30} x {1 << 30} of 4 bits"),
        ({f"{QUERY}.shape": torch.tensor([32, -32])}, "is not 32 x -32 of 4 bits"),
        ({f"{QUERY}.shape": None}, f"{NAME} has no {QUERY}.shape beside it"),
        ({f"{QUERY}.packing": torch.tensor([65])}, "with packing 'A'"),
        ({f"{QUERY}.packing": torch.zeros(1000).int()}, "a small setting is expected"),
        ({f"{QUERY}.packing": torch.tensor(65)}, f"{QUERY}.packing is 65"),
        ({f"{QUERY}.packing": torch.tensor([-1], dtype=torch.int8)}, f"{QUERY}.packing is [-1]"),
        ({f"{QUERY}.shape": torch.tensor(32)}, f"{QUERY}.shape is 32"),
        ({f"{QUERY}.nbits": torch.tensor([4])}, f"{QUERY}.nbits is [4]"),
        ({NAME: torch.zeros(31, 16, dtype=torch.uint8)}, f"{NAME} is [31, 16]"),
        ({f"{QUERY}.quant_zero": torch.tensor(1)}, f"{QUERY}.quant_zero is true, which is not read"),
        ({f"{QUERY}.scale": torch.full((64, 1), torch.inf)}, "are not finite"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(packed[0], tmp_path, change)
    assert said in integers.refusal(tmp_path)


SOUND = twins.Sound(twins.integers(packing(4), SETTINGS), f"{twins.QUERY}.scale", twins.PLAIN)
"""What `test_hostile_twins.py` makes twins of."""
