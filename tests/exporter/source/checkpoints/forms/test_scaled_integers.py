"""Integers with scales beside them: Q8BERT's and Q-BERT's weights, under the names that tools give them."""

from pathlib import Path

import pytest
import torch

from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.read import undo
from headway.exporter.source.checkpoints.state import given
from headway.exporter.source.source import open_source

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}.weight"


def settings(bits: int, **more: object) -> dict[str, object]:
    return {"quant_method": "qbert", "bits": bits, **more}


def bits_of(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack integers `[out, in]` into bytes, lowest bits first."""
    flags = ((codes.long()[..., None] >> torch.arange(bits)) & 1).reshape(len(codes), -1, 8)
    return (flags << torch.arange(8)).sum(-1).to(torch.uint8)


def by_rows(bits: int, rows: int, *, packed: bool = False) -> integers.Pack:
    """Pack with one scale for each of some groups of outputs, as Q-BERT does."""

    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        out = len(whole.codes)
        scale = torch.arange(1, rows + 1) / (100 * 2**bits)
        whole.scale = scale.repeat_interleave(out // rows)[:, None]
        whole.zero = torch.full((out, 1), 2 ** (bits - 1) if packed else 0)
        if packed:
            return {f"{stem}.weight": bits_of(whole.codes, bits), f"{stem}.weight_scale": scale}
        whole.codes = whole.codes - 2 ** (bits - 1)
        return {f"{stem}.weight": whole.codes.to(torch.int8), f"{stem}.weight_scale": scale}

    return pack


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_groups_of_outputs_are_read_at_every_width(bits: int, packed: bool, tmp_path: Path) -> None:
    pack = by_rows(bits, 4, packed=packed)
    found = integers.make_quantized(tmp_path, pack, settings(bits, groups=4, packed=packed), bits=bits)
    source = integers.opened(tmp_path, found)
    assert source.sentences == (
        f"integers: 6 weights of {bits} bits, read as the exact values of them and their scales",
    )


@pytest.mark.parametrize(("bits", "kind"), [(3, "int4 in blocks of"), (8, "int8)")])
def test_the_artifact_holds_them_code_by_code(bits: int, kind: str, tmp_path: Path) -> None:
    pack = by_rows(bits, 8, packed=True)
    found = integers.make_quantized(tmp_path / "m", pack, settings(bits, packed=True), bits=bits)
    made = integers.exported(tmp_path / "m", found, tmp_path / "b")
    assert kind in made.manifest.source["form"][1] and "6 of 6 quantized" in made.manifest.source["form"][1]
    integers.same_codes(tmp_path / "b", found)


@pytest.mark.parametrize("weight", [".weight", ".quantized_weight", ".weight_q", ".weight_int8"])
@pytest.mark.parametrize("scale", [".weight_scale", ".scale", ".weight.scale"])
def test_each_of_the_usual_names_is_known(weight: str, scale: str, tmp_path: Path) -> None:
    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        whole.codes, whole.zero = whole.codes - 128, torch.zeros(len(whole.codes), 1).int()
        whole.scale = torch.tensor(0.01).expand(len(whole.codes), 1)
        return {f"{stem}{weight}": whole.codes.to(torch.int8), f"{stem}{scale}": torch.tensor(0.01)}

    integers.opened(tmp_path, integers.make_quantized(tmp_path, pack, {}, bits=8))


def test_integers_of_factors_are_multiplied_by_their_scales_before_factors_are_merged() -> None:
    """Rank 3 of 4 × 4 is merged: three times 2 · 0.5 by 1."""
    state = {
        "encoder.a.0.weight": torch.full((3, 4), 2, dtype=torch.int8),
        "encoder.a.0.weight_scale": torch.tensor(0.5),
        "encoder.a.1.weight": torch.ones(4, 3),
    }
    found = undo(Checkpoint(Path("place"), {}, {name: given(tensor) for name, tensor in state.items()}))
    assert found is not None and [sentence.split()[0] for sentence in found.sentences] == ["integers:", "1"]
    assert list(found.state) == ["encoder.a.weight"]
    assert torch.equal(found.state["encoder.a.weight"].read(), torch.full((4, 4), 3.0))


def test_embeddings_keep_their_rows_of_integers(tmp_path: Path) -> None:
    found = integers.make_quantized(tmp_path / "m", by_rows(8, 1), {}, bits=8)
    state = integers.tensors(tmp_path / "m")
    name = "embeddings.word_embeddings"
    codes = torch.randint(-127, 128, (300, 32), generator=torch.Generator().manual_seed(0))
    state |= {f"{name}.weight": codes.to(torch.int8), f"{name}.weight_scale": torch.tensor(0.001)}
    integers.save(tmp_path / "m", state)
    found[name] = Whole(codes, torch.tensor(0.001).expand(300, 1), torch.zeros(300, 1))
    made = integers.exported(tmp_path / "m", found, tmp_path / "b")
    assert "7 of 7 quantized weights (6 as int8, 1 as int8 rows)" in made.manifest.source["form"][1]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("qbert")
    integers.make_quantized(directory, by_rows(4, 4, packed=True), settings(4, packed=True, group_size=8))
    state = integers.tensors(directory)
    integers.save(directory, {n: t for n, t in state.items() if "self" in n or t.is_floating_point()})
    return directory


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}.weight_scale": None}, f"{NAME} has no scale beside it ({QUERY}.weight_scale"),
        ({f"{QUERY}.weight_scale": torch.ones(5)}, "32 outputs, which 5 groups do not divide"),
        ({f"{QUERY}.weight_scale": torch.ones(2)}, f"{QUERY}.weight_scale is [2] for {NAME} [32, 32]"),
        ({f"{QUERY}.weight_scale": torch.ones(1, 1, 4)}, f"{QUERY}.weight_scale is [1, 1, 4]"),
        ({f"{QUERY}.weight_scale": torch.ones(4).int()}, f"{QUERY}.weight_scale is int32"),
        ({f"{QUERY}.scale": torch.ones(4)}, f"{QUERY}.weight_scale and {QUERY}.scale are both there"),
        ({NAME: torch.zeros(32, 16, dtype=torch.int8)}, f"{NAME} is int8[32, 16], whose rows are not whole integers"),
        ({NAME: None}, "weight_scale belongs to no quantized weight"),
        ({"a.quantized_weight": torch.zeros(4)}, "a.quantized_weight belongs to no quantized weight"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, packed: Path, tmp_path: Path
) -> None:
    integers.changed(packed, tmp_path, change)
    assert said in integers.refusal(tmp_path)


def test_integers_beyond_the_bits_of_the_config_are_refused(tmp_path: Path) -> None:
    integers.make_quantized(tmp_path, by_rows(8, 1), settings(4), bits=8)
    assert "which are not of 4 bits" in integers.refusal(tmp_path)


def test_a_mask_in_bytes_without_a_scale_is_no_weight(tmp_path: Path) -> None:
    integers.make_quantized(tmp_path / "m", by_rows(8, 1), {}, bits=8)
    integers.changed(tmp_path / "m", tmp_path, {"extra.mask": torch.ones(4, 4, dtype=torch.uint8)})
    assert open_source(str(tmp_path)).checkpoint is not None


SOUND = twins.Sound(
    twins.integers(by_rows(8, 4), settings(8, groups=4), bits=8),
    f"{twins.QUERY}.weight_scale",
    {f"{twins.QUERY}.scale": torch.ones(4)},
)
"""What `test_hostile_twins.py` makes twins of."""
