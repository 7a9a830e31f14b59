"""AWQ's `qweight`, `qzeros` and `scales`, packed here after the layout of AutoAWQ's GEMM linear layer."""

from pathlib import Path

import pytest
import torch

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}.qweight"
SETTINGS = {"quant_method": "awq", "bits": 4, "group_size": 16, "zero_point": True, "version": "gemm"}
ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def words(codes: torch.Tensor) -> torch.Tensor:
    """Pack integers `[rows, outputs]` into int32, eight in each, as that layer does: nibble i is of output `ORDER[i]`."""
    packed = torch.zeros(codes.shape[0], codes.shape[1] // 8, dtype=torch.int32)
    for column in range(packed.shape[1]):
        for i in range(8):
            packed[:, column] |= codes[:, column * 8 + ORDER[i]].int() << (i * 4)
    return packed


def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
    return {
        f"{stem}.qweight": words(whole.codes.T),
        f"{stem}.qzeros": words(whole.zero.T),
        f"{stem}.scales": whole.scale.T.half(),
    }


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Whole]]:
    directory = tmp_path_factory.mktemp("awq")
    return directory, integers.make_quantized(directory, pack, SETTINGS)


def test_the_artifact_holds_integers_and_zero_points_in_the_order_of_the_outputs(
    packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.opened(*packed)
    integers.exported(*packed, tmp_path / "b")
    integers.same_codes(tmp_path / "b", packed[1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}.scales": None}, f"{NAME} has no {QUERY}.scales beside it"),
        ({f"{QUERY}.scales": torch.ones(2, 31)}, f"{QUERY}.scales is [2, 31]"),
        ({f"{QUERY}.scales": torch.ones(3, 32), f"{QUERY}.qzeros": torch.zeros(3, 4).int()}, "3 groups do not divide"),
        ({f"{QUERY}.qzeros": torch.zeros(2, 3, dtype=torch.int32)}, f"{QUERY}.qzeros is [2, 3]"),
        ({f"{QUERY}.qzeros": None}, f"{NAME} has no {QUERY}.qzeros beside it"),
        ({NAME: torch.zeros(32, 4, dtype=torch.int16)}, f"{NAME} is int16"),
        ({f"{QUERY}.weight": torch.zeros(32, 32)}, "saved both quantized and as floats"),
        ({"a.qzeros": torch.zeros(2)}, "a.qzeros belongs to no quantized weight"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(packed[0], tmp_path, change)
    assert said in integers.refusal(tmp_path)


@pytest.mark.parametrize("more", [{"version": "gemv"}, {"bits": 3}])
def test_other_layouts_are_refused(
    more: dict[str, object], packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(packed[0], tmp_path, {})
    integers.configure(tmp_path, SETTINGS | more)
    assert "are not read, 4 bits as gemm are" in integers.refusal(tmp_path)


SOUND = twins.Sound(twins.integers(pack, SETTINGS), f"{twins.QUERY}.scales", twins.PLAIN)
"""What `test_hostile_twins.py` makes twins of."""
