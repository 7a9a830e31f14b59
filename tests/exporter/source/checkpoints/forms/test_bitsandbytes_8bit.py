"""bitsandbytes' `weight` int8 with `SCB`.

bitsandbytes' `int8_vectorwise_dequant` gave the same floats once, up to the last bit of float32 (it multiplies in another order).
"""

from pathlib import Path

import pytest
import torch

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}.weight"
SETTINGS = {"quant_method": "bitsandbytes", "load_in_8bit": True, "_load_in_8bit": True, "llm_int8_threshold": 6.0}


def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
    floats = whole.floats
    largest = floats.abs().amax(1)
    whole.codes, whole.zero = (floats / (largest[:, None] / 127)).round().int(), torch.zeros(len(largest), 1).int()
    whole.scale = (largest / 127)[:, None]
    return {
        f"{stem}.weight": whole.codes.to(torch.int8),
        f"{stem}.SCB": largest,
        f"{stem}.weight_format": torch.tensor(0, dtype=torch.uint8),
    }


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Whole]]:
    directory = tmp_path_factory.mktemp("bnb8")
    found = integers.make_quantized(directory, pack, SETTINGS, bits=8)
    return directory, found


def test_the_artifact_holds_the_same_rows_of_integers(packed: tuple[Path, dict[str, Whole]], tmp_path: Path) -> None:
    integers.opened(*packed)
    integers.exported(*packed, tmp_path / "b")
    integers.same_codes(tmp_path / "b", packed[1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}.SCB": None}, f"{QUERY}.weight_format belongs to no quantized weight"),
        ({f"{QUERY}.SCB": torch.ones(31)}, f"{QUERY}.SCB is [31]"),
        ({NAME: None}, f"{QUERY}.SCB has no {NAME} beside it"),
        ({NAME: torch.zeros(32, 32)}, f"{NAME} is float32"),
        ({f"{QUERY}.weight_format": torch.tensor(2)}, "says a layout of GPUs, not rows"),
        ({f"{QUERY}.SCB": torch.full((32,), torch.nan)}, "are not finite"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(packed[0], tmp_path, change)
    assert said in integers.refusal(tmp_path)


SOUND = twins.Sound(
    twins.integers(pack, SETTINGS, bits=8),
    f"{twins.QUERY}.SCB",
    {f"{twins.QUERY}.weight_scale": torch.ones(32)},
    (f"{twins.QUERY}.weight_format",),
)
"""What `test_hostile_twins.py` makes twins of."""
