"""compressed-tensors' packed and plain integers, and its 8-bit floats, written here after its documented layouts.

What compressed-tensors 0.20.1 itself compresses (pack-quantized at 2, 3, 4 and 8 bits with and without zero points, int-quantized,
naive-quantized and float-quantized per tensor, channel and block) was read once, and was equal to what it decompresses, bit by bit.
"""

from pathlib import Path

import pytest
import torch

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}.weight_packed"


def settings(kind: str = "pack-quantized", bits: int = 4, **more: object) -> dict[str, object]:
    weights = {"num_bits": bits, "type": "int", "symmetric": False, "strategy": "group", "group_size": 16}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}}
    ignore = {"ignore": ["lm_head"], "quantization_status": "compressed", "kv_cache_scheme": None}
    return {"quant_method": "compressed-tensors", "format": kind, "config_groups": groups, **ignore, **more}


def words(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack integers from 0 on `[rows, count]` into int32, lowest bits first, across the borders of words."""
    flags = ((codes.long()[..., None] >> torch.arange(bits)) & 1).reshape(len(codes), -1)
    flags = torch.nn.functional.pad(flags, (0, -flags.shape[1] % 32)).reshape(len(codes), -1, 32)
    return (flags << torch.arange(32)).sum(-1).to(torch.int32)


def packing(bits: int) -> integers.Pack:
    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        return {
            f"{stem}.weight_packed": words(whole.codes, bits),
            f"{stem}.weight_scale": whole.scale,
            f"{stem}.weight_zero_point": words(whole.zero.T, bits).T,
            f"{stem}.weight_shape": torch.tensor(whole.codes.shape),
        }

    return pack


def plain(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
    return {
        f"{stem}.weight": (whole.codes - 128).to(torch.int8),
        f"{stem}.weight_scale": whole.scale,
        f"{stem}.weight_zero_point": (whole.zero - 128).to(torch.int8),
    }


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Whole]]:
    directory = tmp_path_factory.mktemp("packed")
    return directory, integers.make_quantized(directory, packing(4), settings())


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_integers_of_every_width_are_read(bits: int, tmp_path: Path) -> None:
    integers.opened(tmp_path, integers.make_quantized(tmp_path, packing(bits), settings(bits=bits), bits=bits))


def test_the_artifact_holds_packed_integers_and_zero_points(
    packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.opened(*packed)
    integers.exported(*packed, tmp_path / "b")
    integers.same_codes(tmp_path / "b", packed[1])


def test_words_of_earlier_versions_end_between_integers(tmp_path: Path) -> None:
    found = integers.make_quantized(tmp_path, packing(3), settings(bits=3), bits=3)
    state = integers.tensors(tmp_path)

    def loose(codes: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(codes.long(), (0, -codes.shape[1] % 10)).reshape(len(codes), -1, 10)
        return (padded << torch.arange(10) * 3).sum(-1).to(torch.int32)

    for stem, whole in found.items():
        state |= {f"{stem}.weight_packed": loose(whole.codes), f"{stem}.weight_zero_point": loose(whole.zero.T).T}
    integers.save(tmp_path, state)
    integers.opened(tmp_path, found)


def test_plain_integers_per_group_reach_the_artifact(tmp_path: Path) -> None:
    found = integers.make_quantized(tmp_path / "m", plain, settings("int-quantized", 8), bits=8)
    integers.opened(tmp_path / "m", found)
    integers.exported(tmp_path / "m", found, tmp_path / "b")
    integers.same_codes(tmp_path / "b", found)


def test_8_bit_floats_are_dequantized_and_rounded_activations_are_said(tmp_path: Path) -> None:
    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        return {
            f"{stem}.weight": whole.floats.to(torch.float8_e4m3fn),
            f"{stem}.weight_scale": torch.full((len(whole.codes), 1), 0.5),
            f"{stem}.input_scale": torch.tensor(0.1),
        }

    given = settings("float-quantized", 8)
    given["config_groups"]["group_0"]["input_activations"] = {"num_bits": 8, "type": "float"}  # type: ignore[index]
    found = integers.make_quantized(tmp_path, pack, given)
    source = integers.opened(tmp_path, {})
    assert source.checkpoint is not None
    read = source.checkpoint.state[f"{QUERY}.weight"].read()
    assert torch.equal(read, found[QUERY].floats.to(torch.float8_e4m3fn).float() * 0.5)
    assert "6 weights dequantized from 8-bit floats" in source.sentences[0]
    assert "activations are computed in floats, which its scheme rounds" in source.sentences[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}.weight_scale": None}, f"{NAME} has no {QUERY}.weight_scale beside it"),
        ({f"{QUERY}.weight_scale": torch.ones(32, 3)}, "has 32 inputs, which 3 groups do not divide"),
        ({f"{QUERY}.weight_shape": None}, f"{NAME} has no {QUERY}.weight_shape beside it"),
        ({f"{QUERY}.weight_shape": torch.tensor([32, 1 << 40])}, f"is not 32 x {1 << 40} of 4 bits"),
        ({f"{QUERY}.weight_shape": torch.tensor([32, 24])}, "is not 32 x 24 of 4 bits"),
        ({f"{QUERY}.weight_shape": torch.tensor([32, -1])}, "is not 32 x -1 of 4 bits"),
        ({NAME: torch.zeros(32, 4)}, f"{NAME} is float32[32, 4]"),
        ({NAME: torch.zeros(31, 4, dtype=torch.int32)}, f"{NAME} is int32[31, 4]"),
        ({f"{QUERY}.weight_zero_point": torch.zeros(9, 9, dtype=torch.int32)}, "weight_zero_point is [9, 9]"),
        ({f"{QUERY}.weight_g_idx": torch.full((32,), 5, dtype=torch.int32)}, "inputs of group 5, and 2 groups"),
        ({f"{QUERY}.weight": torch.zeros(32, 32)}, "saved both quantized and as floats"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(packed[0], tmp_path, change)
    assert said in integers.refusal(tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"format": "nvfp4-pack-quantized"}, "has the format nvfp4-pack-quantized"),
        ({"kv_cache_scheme": {"num_bits": 8}}, "has kv_cache_scheme, which nothing here follows"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "has sparsity_config, which nothing here follows"),
        ({"config_groups": None}, "weight_packed may be of"),
    ],
)
def test_settings_that_nothing_follows_are_refused(
    more: dict[str, object], said: str, packed: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(packed[0], tmp_path, {})
    integers.configure(tmp_path, settings() | more)
    assert said in integers.refusal(tmp_path)


SOUND = twins.Sound(
    twins.integers(packing(4), settings()),
    f"{twins.QUERY}.weight_scale",
    twins.PLAIN,
)
"""What `test_hostile_twins.py` makes twins of."""
