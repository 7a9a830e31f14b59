"""torchao's tensors, written here as its `flatten_tensor_state_dict` does.

torchao 0.18's Int8Tensor, IntxUnpackedToInt8Tensor and Float8Tensor were saved both ways once, and read to what they dequantize to.
"""

from pathlib import Path

import pytest
import torch

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}._weight_qdata"
SETTINGS = {"quant_method": "torchao", "quant_type": {"default": {"_type": "IntxWeightOnlyConfig", "_version": 2}}}


def packing(bits: int) -> integers.Pack:
    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        whole.codes, whole.zero = whole.codes - 2 ** (bits - 1), whole.zero - 2 ** (bits - 1)
        return {
            f"{stem}._weight_qdata": whole.codes.to(torch.int8),
            f"{stem}._weight_scale": whole.scale.float(),
            f"{stem}._weight_zero_point": whole.zero.to(torch.int8),
        }

    return pack


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Whole]]:
    directory = tmp_path_factory.mktemp("torchao")
    return directory, integers.make_quantized(directory, packing(4), SETTINGS)


@pytest.mark.parametrize(("bits", "group", "symmetric"), [(8, 32, True), (4, 16, False)])
def test_the_artifact_holds_the_same_integers(bits: int, group: int, symmetric: bool, tmp_path: Path) -> None:
    found = integers.make_quantized(
        tmp_path / "m", packing(bits), SETTINGS, bits=bits, group=group, symmetric=symmetric
    )
    integers.opened(tmp_path / "m", found)
    integers.exported(tmp_path / "m", found, tmp_path / "b")
    integers.same_codes(tmp_path / "b", found)


def test_8_bit_floats_are_dequantized(tmp_path: Path) -> None:
    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        scale = torch.full((len(whole.codes), 1), 0.5)
        return {f"{stem}._weight_qdata": whole.floats.to(torch.float8_e4m3fn), f"{stem}._weight_scale": scale}

    found = integers.make_quantized(tmp_path, pack, SETTINGS)
    source = integers.opened(tmp_path, {})
    assert source.checkpoint is not None
    read = source.checkpoint.state[f"{QUERY}.weight"].read()
    assert torch.equal(read, found[QUERY].floats.to(torch.float8_e4m3fn).float() * 0.5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}._weight_scale": None}, f"{NAME} has no {QUERY}._weight_scale beside it"),
        ({f"{QUERY}._weight_scale": torch.ones(32, 3)}, "32 inputs, which 3 groups do not divide"),
        ({f"{QUERY}._weight_zero_point": torch.zeros(31, 2)}, "32 outputs, which 31 groups do not divide"),
        ({NAME: torch.zeros(4, 1, 32, 4, dtype=torch.int32)}, f"{NAME} is int32[4, 1, 32, 4], packed for one kind"),
        ({f"{QUERY}._weight_act_pre_scale": torch.ones(32)}, "_weight_act_pre_scale scales activations"),
        ({NAME: None}, f"{QUERY}._weight_scale belongs to no quantized weight"),
        ({f"{QUERY}.weight": torch.zeros(32, 32)}, "saved both quantized and as floats"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(packed[0], tmp_path, change)
    assert said in integers.refusal(tmp_path)


SOUND = twins.Sound(twins.integers(packing(4), SETTINGS), f"{twins.QUERY}._weight_scale", twins.PLAIN)
"""What `test_hostile_twins.py` makes twins of."""
