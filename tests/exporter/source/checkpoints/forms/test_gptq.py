"""GPTQ's `qweight`, `qzeros`, `scales` and `g_idx`, packed here after the layout of AutoGPTQ's linear layers."""

from pathlib import Path

import pytest
import torch

from headway.exporter.graph.own_integers import stored_matrix

from tests.support import integer_checkpoints as integers
from tests.support import twins
from tests.support.integer_checkpoints import QUERY, Whole

NAME = f"{QUERY}.qweight"


def stream(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Pack integers `[rows, count]` one after the other, lowest bit first, into int32 `[rows, count * bits / 32]`."""
    flags = (codes.long()[..., None] >> torch.arange(bits)) & 1
    flags = flags.reshape(len(codes), -1, 32)
    return (flags << torch.arange(32)).sum(-1).to(torch.int32)


def packing(bits: int, *, less_one: bool = True, order: torch.Tensor | None = None) -> integers.Pack:
    def pack(stem: str, whole: Whole) -> dict[str, torch.Tensor]:
        size = whole.codes.shape[1] // whole.scale.shape[1]
        index = torch.arange(whole.codes.shape[1]) // size
        return {
            f"{stem}.qweight": stream(whole.codes, bits).T,
            f"{stem}.qzeros": stream(whole.zero.T - int(less_one), bits),
            f"{stem}.scales": whole.scale.T.half(),
            f"{stem}.g_idx": index.int(),
        }

    return pack


def settings(bits: int = 4, **more: object) -> dict[str, object]:
    return {"quant_method": "gptq", "bits": bits, "group_size": 16, "desc_act": False, "sym": True, **more}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_integers_of_every_width_are_read(bits: int, tmp_path: Path) -> None:
    found = integers.make_quantized(tmp_path, packing(bits), settings(bits), bits=bits, group=32, symmetric=True)
    source = integers.opened(tmp_path, found)
    assert source.sentences == (
        f"GPTQ: 6 weights of {bits} bits, read as the exact values of their integers and scales",
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_artifact_holds_the_same_integers_scales_and_zero_points(symmetric: bool, tmp_path: Path) -> None:
    found = integers.make_quantized(
        tmp_path / "m", packing(4, less_one=False), settings(checkpoint_format="gptq_v2"), symmetric=symmetric
    )
    made = integers.exported(tmp_path / "m", found, tmp_path / "b")
    integers.same_codes(tmp_path / "b", found)
    assert made.manifest.source["form"][1].startswith("the artifact holds the integers of 6 of 6 quantized weights")


def test_inputs_in_the_order_of_their_activations_are_exact_as_floats(tmp_path: Path) -> None:
    order = torch.randperm(32, generator=torch.Generator().manual_seed(0))
    found = integers.make_quantized(tmp_path, packing(4), settings(desc_act=True))
    state = integers.tensors(tmp_path)
    for name in [n for n in state if n.endswith(f"{QUERY}.qweight")]:
        stem = name.removesuffix(".qweight")
        codes = found[stem].codes[:, order]
        state |= {name: stream(codes, 4).T, f"{stem}.g_idx": (order // 16).int()}
    integers.save(tmp_path, state)
    source = integers.opened(tmp_path, {n: w for n, w in found.items() if n != QUERY})
    assert source.checkpoint is not None
    assert torch.equal(source.checkpoint.state[f"{QUERY}.weight"].read(), found[QUERY].floats[:, order])
    integers_of_query = source.checkpoint.integers[f"{QUERY}.weight"].read()
    assert stored_matrix(integers_of_query) == (None, "its groups are not of consecutive inputs")


def test_settings_of_a_file_of_its_own_are_used(tmp_path: Path) -> None:
    found = integers.make_quantized(tmp_path, packing(4, less_one=False), {}, symmetric=True)
    (tmp_path / "quantize_config.json").write_text('{"bits": 4, "group_size": 16, "checkpoint_format": "gptq_v2"}')
    integers.opened(tmp_path, found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}.scales": None}, f"{NAME} has no {QUERY}.scales beside it"),
        ({f"{QUERY}.qzeros": None}, f"{NAME} has no {QUERY}.qzeros beside it"),
        ({NAME: torch.zeros(3, 32, dtype=torch.int32)}, f"{NAME} is [3, 32]"),
        ({NAME: torch.zeros(4, 32)}, f"{NAME} is float32"),
        ({f"{QUERY}.scales": torch.ones(3, 32)}, "3 groups do not divide"),
        ({f"{QUERY}.qzeros": torch.zeros(2, 5, dtype=torch.int32)}, f"{QUERY}.qzeros is [2, 5]"),
        ({f"{QUERY}.g_idx": torch.full((32,), 7, dtype=torch.int32)}, "inputs of group 7, and 2 groups"),
        ({f"{QUERY}.scales": torch.full((2, 32), torch.nan)}, "are not finite"),
        ({f"{QUERY}.weight": torch.zeros(32, 32)}, "saved both quantized and as floats"),
        ({"encoder.layer.9.qzeros": torch.zeros(2)}, "encoder.layer.9.qzeros belongs to no quantized weight"),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, damaged: Path, tmp_path: Path
) -> None:
    integers.changed(damaged, tmp_path, change)
    assert said in integers.refusal(tmp_path)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gptq")
    integers.make_quantized(directory, packing(4), settings())
    return directory


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"bits": 3}, "which is not 32 inputs of 3 bits"),
        ({"quant_method": "aqlm"}, "says aqlm, and the tensors are as gptq saves them"),
        ({"checkpoint_format": "marlin"}, "packed as marlin"),
        ({"rotation": "hadamard"}, "rotation = 'hadamard', which nothing here follows"),
    ],
)
def test_settings_that_nothing_follows_are_refused(
    more: dict[str, object], said: str, damaged: Path, tmp_path: Path
) -> None:
    integers.changed(damaged, tmp_path, {})
    integers.configure(tmp_path, settings() | more)
    assert said in integers.refusal(tmp_path)


SOUND = twins.Sound(twins.integers(packing(4), settings()), f"{twins.QUERY}.scales", twins.PLAIN)
"""What `test_hostile_twins.py` makes twins of."""
