"""8-bit floats with their scales: per tensor, per output and per block."""

from pathlib import Path

import pytest
import torch

from headway.errors import SourceError
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.forms.float8 import read
from headway.exporter.source.checkpoints.state import given

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}.weight"
BLOCKS = {"quant_method": "fp8", "weight_block_size": [24, 16], "activation_scheme": "dynamic", "fmt": "e4m3"}


def packing(kind: torch.dtype, scale: torch.Tensor | None, ending: str) -> integers.Pack:
    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        out, inputs = whole.codes.shape
        made = {f"{stem}.weight": whole.floats.to(kind)}
        if scale is not None:
            size = (-(-out // 24), -(-inputs // 16)) if scale.ndim == 2 else (out, 1) if scale.ndim == 1 else ()
            made[f"{stem}{ending}"] = torch.rand(size, generator=torch.Generator().manual_seed(1)) + 0.5
        return made

    return pack


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize(
    ("scale", "ending"), [(torch.ones(()), ".weight_scale"), (torch.ones(1), ".weight_scale"), (None, "")]
)
def test_a_scale_per_tensor_or_output_or_none(
    kind: torch.dtype, scale: torch.Tensor | None, ending: str, tmp_path: Path
) -> None:
    found = integers.make_quantized(tmp_path, packing(kind, scale, ending), {})
    source = integers.opened(tmp_path, {})
    assert source.checkpoint is not None and source.checkpoint.state[NAME].dtype == "float32"
    factor = integers.tensors(tmp_path)[f"{QUERY}{ending}"] if ending else 1.0
    assert torch.equal(source.checkpoint.state[NAME].read(), found[QUERY].floats.to(kind).float() * factor)


def of_method(method: str) -> Checkpoint:
    state = {"a.weight": torch.full((2, 2), 1.5).to(torch.float8_e4m3fn), "a.weight_scale": torch.tensor(2.0)}
    settings = {"quantization_config": {"quant_method": method}}
    return Checkpoint(Path("place"), settings, {name: given(tensor) for name, tensor in state.items()})


@pytest.mark.parametrize("method", ["fp8", "fbgemm_fp8", "finegrained_fp8", "modelopt"])
def test_each_tool_that_writes_them_is_followed(method: str) -> None:
    found = read(of_method(method))
    assert found is not None and "quantization_config" not in found.config
    assert torch.equal(found.state["a.weight"].read(), torch.full((2, 2), 3.0))


def test_settings_of_a_tool_that_does_not_write_them_are_refused() -> None:
    with pytest.raises(SourceError, match="says gptq, and the tensors are as fp8 saves them"):
        read(of_method("gptq"))


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Whole]]:
    directory = tmp_path_factory.mktemp("fp8")
    pack = packing(torch.float8_e4m3fn, torch.ones(1, 1), ".weight_scale_inv")
    return directory, integers.make_quantized(directory, pack, BLOCKS)


def test_blocks_whose_last_is_smaller_are_dequantized_and_exported(
    blocks: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    directory, found = blocks
    state = integers.tensors(directory)
    for stem, whole in found.items():
        scale = state[f"{stem}.weight_scale_inv"].repeat_interleave(24, 0).repeat_interleave(16, 1)
        floats = state[f"{stem}.weight"].float() * scale[: len(whole.codes), : whole.codes.shape[1]]
        whole.codes, whole.scale, whole.zero = floats, torch.ones(len(floats), 1), torch.zeros(len(floats), 1)
    integers.opened(directory, found)
    made = integers.exported(directory, found, tmp_path / "b")
    said = "8-bit floats (e4m3): 6 weights dequantized, which the artifact holds as floats"
    assert made.manifest.source["form"][0] == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}.weight_scale_inv": None}, f"{NAME} has no {QUERY}.weight_scale beside it"),
        ({f"{QUERY}.weight_scale_inv": torch.ones(3, 3)}, "weight_scale_inv is [3, 3]"),
        ({f"{QUERY}.weight_scale_inv": torch.ones(5)}, "32 outputs, which 5 groups do not divide"),
        ({f"{QUERY}.weight_scale": torch.ones(1)}, f"{NAME} has two scales"),
        ({"a.weight_scale_inv": torch.ones(1)}, "a.weight_scale_inv belongs to no quantized weight"),
        ({NAME: torch.zeros(32).to(torch.float8_e5m2)}, "two axes are expected"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, blocks: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    integers.changed(blocks[0], tmp_path, change)
    assert said in integers.refusal(tmp_path)


def test_sizes_of_blocks_that_are_none_are_refused(blocks: tuple[Path, dict[str, Whole]], tmp_path: Path) -> None:
    integers.changed(blocks[0], tmp_path, {})
    integers.configure(tmp_path, BLOCKS | {"weight_block_size": [0, 16]})
    assert "weight_block_size = [0, 16], two sizes are expected" in integers.refusal(tmp_path)


def test_a_block_that_is_said_to_be_larger_than_the_weight_costs_nothing(
    blocks: tuple[Path, dict[str, Whole]], tmp_path: Path
) -> None:
    directory, found = blocks
    one = {f"{stem}.weight_scale_inv": torch.full((1, 1), 2.0) for stem in found}
    integers.changed(directory, tmp_path, one)
    integers.configure(tmp_path, BLOCKS | {"weight_block_size": [1 << 40, 1 << 40]})
    source = integers.opened(tmp_path, {})
    assert source.checkpoint is not None
    stored = integers.tensors(tmp_path)[NAME].float()
    assert torch.equal(source.checkpoint.state[NAME].read(), stored * 2)


SOUND = twins.Sound(
    twins.integers(packing(torch.float8_e4m3fn, torch.ones(1, 1), ".weight_scale_inv"), BLOCKS),
    f"{twins.QUERY}.weight_scale_inv",
    {f"{twins.QUERY}.weight_scale": torch.ones(1)},
    (f"{twins.QUERY}.weight_scale",),
)
"""What `test_hostile_twins.py` makes twins of."""
