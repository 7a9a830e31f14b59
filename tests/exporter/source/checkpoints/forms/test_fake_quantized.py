"""Weights are rounded as torch's own fake quantization rounds them, and activations are not; what does not fit is refused."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.ao.quantization as quantization
from torch.ao.quantization.qconfig_mapping import get_default_qat_qconfig_mapping
from torch.ao.quantization.quantize_fx import prepare_qat_fx
from torch.nn.utils import prune

from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.checkpoints.checkpoint import Checkpoint
from headway.exporter.source.checkpoints.forms import fake_quantized
from headway.exporter.source.checkpoints.state import given
from headway.exporter.source.source import open_source

from tests.checkpoints import quantization_aware as aware
from tests.checkpoints.adapters import LoraLinear, adapt, save_adapter
from tests.support import checkpoints, integer_checkpoints, twins

QUERY = twins.QUERY
FAKE = f"{QUERY}.weight_fake_quant"
RANGE = f"{FAKE}.activation_post_process"


def codes(module: Any) -> torch.Tensor:
    """Return the integers, less their zero points, of what torch's own operator makes of a weight."""
    fake = module.weight_fake_quant
    with torch.no_grad():
        return (fake(module.weight).double() / fake.scale.double().reshape(-1, 1)).round().int()


def exported(directory: Path, out: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return export(Recipe(source=str(directory)), out)


@pytest.mark.parametrize(
    "qconfig",
    [
        pytest.param(aware.PER_CHANNEL, id="per channel"),
        pytest.param(aware.PER_TENSOR, id="per tensor"),
        pytest.param(aware.NARROW, id="narrow"),
        pytest.param(aware.UNSIGNED, id="unsigned"),
        pytest.param(aware.OBSERVED, id="observed"),
    ],
)
def test_weights_are_those_that_torch_rounds(qconfig: Any, tmp_path: Path) -> None:
    model = aware.make_aware(tmp_path, qconfig)
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.checkpoint is not None and source.sentences == (
        "torch's fake quantization: 19 weights rounded to the integers of their stored scales; activations are computed in floats, "
        "which training rounded in 27 places by stored ranges",
    )
    for path, module in aware.rounders(model).items():
        read = source.checkpoint.state[f"{path}.weight"].read()
        assert torch.equal(read, module.weight_fake_quant(module.weight)), path
        assert not torch.equal(read, module.weight)


@pytest.mark.parametrize(
    "qconfig", [pytest.param(aware.PER_CHANNEL, id="per channel"), pytest.param(aware.UNSIGNED, id="unsigned")]
)
def test_the_artifact_holds_the_integers_of_torch(qconfig: Any, tmp_path: Path) -> None:
    model = aware.make_aware(tmp_path / "m", qconfig)
    made = exported(tmp_path / "m", tmp_path / "b")
    assert "integers of 18 of 18 quantized weights (18 as int8)" in made.manifest.source["form"][1]
    for path, module in aware.rounders(model).items():
        if path.startswith("encoder"):
            held, scale = integer_checkpoints.held(tmp_path / "b", path)
            assert (held == codes(module).numpy()).all(), path
            assert (scale == module.weight_fake_quant.scale.reshape(-1, 1).numpy()).all()


@pytest.mark.parametrize("embeddings", [True, False])
def test_embeddings_and_a_head_of_one_weight_are_rounded_each_its_way(embeddings: bool, tmp_path: Path) -> None:
    """The head rounds what it shares with the embedding, which rounds by rows to unsigned integers, or stays in floats."""
    model = aware.make_aware(tmp_path, aware.PER_CHANNEL, task="fill-mask", embeddings=embeddings)
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.checkpoint is not None and f"{23 if embeddings else 20} weights" in source.sentences[0]
    state = source.checkpoint.state
    for path, module in aware.rounders(model).items():
        wanted = module.weight_fake_quant(module.weight)
        torch.testing.assert_close(state[f"{path}.weight"].read(), wanted.detach(), rtol=0, atol=3e-8)
    words, head = (
        state[f"{path}.weight"].read() for path in ("bert.embeddings.word_embeddings", "cls.predictions.decoder")
    )
    assert not torch.equal(words, head)


def test_weights_whose_rounding_is_switched_off_stay(tmp_path: Path) -> None:
    model = aware.prepare(tmp_path)
    query = model.get_submodule(QUERY)
    query.weight_fake_quant.disable_fake_quant()
    checkpoints.save(tmp_path, model.state_dict())
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(aware.in_floats(model)))
    assert source.checkpoint is not None and "18 weights rounded" in source.sentences[0]
    assert "1 whose rounding is switched off as they are" in source.sentences[0]
    assert torch.equal(source.checkpoint.state[f"{QUERY}.weight"].read(), query.weight)


def test_weights_beyond_what_was_observed_are_clamped(tmp_path: Path) -> None:
    """The last step of an optimizer may move a weight out of the range that the step before saw."""
    model = aware.make_aware(tmp_path)
    query = model.get_submodule(QUERY)
    with torch.no_grad():
        query.weight[3, 5] *= 100
    checkpoints.save(tmp_path, checkpoints.tensors(tmp_path) | {f"{QUERY}.weight": query.weight})
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(model))
    assert source.checkpoint is not None
    assert int(source.checkpoint.integers[f"{QUERY}.weight"].read().codes[3, 5]) in (-128, 127)


def test_a_wrapped_and_masked_model_is_unwrapped_masked_and_then_rounded(tmp_path: Path) -> None:
    model = aware.prepare(tmp_path)
    for path in aware.rounders(model):
        prune.l1_unstructured(model.get_submodule(path), "weight", 0.3)
    wrapped = quantization.QuantWrapper(model)
    wrapped.quant = quantization.QuantStub(aware.PER_CHANNEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.prepare_qat(wrapped.quant.train(), inplace=True)
    wrapped.quant(torch.ones(3))
    assert any(name.startswith("quant.activation_post_process.") for name in wrapped.state_dict())
    checkpoints.save(tmp_path, wrapped.state_dict())
    source, _ = checkpoints.same_answers(tmp_path, checkpoints.forward(aware.in_floats(model)))
    assert [sentence.split(" ")[0] for sentence in source.sentences] == ["names", "pruning", "torch's"]
    assert "rounded in 28 places" in source.sentences[2]


def test_an_adapter_is_added_to_weights_that_are_rounded(tmp_path: Path) -> None:
    model = aware.make_aware(tmp_path / "base")
    module = model.get_submodule(QUERY)
    rounded = torch.nn.Linear(32, 32)
    rounded.weight.data = module.weight_fake_quant(module.weight).detach()
    rounded.bias = module.bias
    tensors = adapt(model, {QUERY: LoraLinear(rounded, 4, 8)})
    save_adapter(tmp_path / "one", tensors, tmp_path / "base")
    source, _ = checkpoints.same_answers(tmp_path / "one", checkpoints.forward(model))
    assert source.sentences[1].endswith("; 1 quantized weights are floats with it")


def test_observers_that_round_nothing_are_left_out(tmp_path: Path) -> None:
    model = checkpoints.base(tmp_path, num_hidden_layers=3)
    wanted = checkpoints.forward(model)
    model.qconfig = quantization.default_qconfig
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.qconfig = None
    quantization.prepare(model, inplace=True)
    checkpoints.forward(model)
    checkpoints.save(tmp_path, model.state_dict())
    source, _ = checkpoints.same_answers(tmp_path, wanted)
    assert source.sentences == ("torch's observers, which compute nothing, are left out",)


def test_names_of_a_traced_model_are_read(tmp_path: Path) -> None:
    """`prepare_qat_fx` numbers what it puts between modules."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4)).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (torch.ones(2, 4),))
    traced(torch.ones(2, 4))
    state = {name: given(tensor) for name, tensor in traced.state_dict().items()}
    assert "activation_post_process_2.scale" in state
    found = fake_quantized.read(Checkpoint(tmp_path, {}, state))
    assert found is not None and found.state.keys() == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert "2 weights rounded" in found.sentences[0] and "in 3 places" in found.sentences[0]
    assert fake_quantized.read(found) is None


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("aware")
    aware.make_aware(directory)
    return directory


ONES = torch.ones(32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({f"{QUERY}.weight": None}, f"{FAKE} has no {QUERY}.weight beside it"),
        ({f"{FAKE}.scale": None}, f"{QUERY}.weight has no {FAKE}.scale beside it"),
        ({f"{FAKE}.zero_point": None}, f"{QUERY}.weight has no {FAKE}.zero_point beside it"),
        ({f"{FAKE}.fake_quant_enabled": None}, f"{FAKE} has no {FAKE}.fake_quant_enabled beside it"),
        ({f"{RANGE}.max_val": None}, f"{QUERY}.weight has no {RANGE}.max_val beside it"),
        ({f"{QUERY}.weight": torch.zeros(32)}, f"{QUERY}.weight is [32], two axes are expected"),
        ({f"{QUERY}.weight": torch.zeros(32, 32).int()}, f"{QUERY}.weight is int32, floats are expected"),
        ({f"{QUERY}.weight": torch.full((32, 32), torch.nan)}, f"{QUERY}.weight has numbers that are not finite"),
        ({f"{FAKE}.scale": torch.ones(31)}, f"{FAKE}.scale is [31], and {QUERY}.weight [32, 32]"),
        ({f"{FAKE}.scale": ONES.int()}, f"{FAKE}.scale is int32"),
        ({f"{FAKE}.zero_point": torch.zeros(3).int()}, f"{FAKE}.zero_point is [3]"),
        ({f"{FAKE}.fake_quant_enabled": torch.ones(2).int()}, f"{FAKE}.fake_quant_enabled is [2]"),
        ({f"{FAKE}.scale": ONES * 0}, f"{FAKE}.scale has numbers that are not positive and finite"),
        ({f"{FAKE}.scale": -ONES}, f"{FAKE}.scale has numbers that are not positive and finite"),
        ({f"{FAKE}.scale": ONES * torch.inf}, f"{FAKE}.scale has numbers that are not positive and finite"),
        ({f"{FAKE}.zero_point": ONES * torch.nan}, f"{FAKE}.zero_point has numbers that are not finite"),
        ({f"{FAKE}.scale": ONES}, f"{FAKE}.scale and zero_point follow from {RANGE}.min_val and max_val for no"),
        ({f"{FAKE}.zero_point": ONES.int() * 9}, f"{FAKE}.scale and zero_point follow from"),
        ({f"{RANGE}.min_val": torch.zeros(())}, f"{FAKE}.scale and zero_point follow from"),
        ({f"{RANGE}.min_val": ONES * torch.inf}, f"{FAKE} has never observed a weight"),
        ({f"{RANGE}.min_val": torch.zeros(0), f"{RANGE}.max_val": torch.zeros(0)}, "has never observed a weight"),
        (
            {f"{QUERY}.weight": torch.ones(32, 32).char(), f"{QUERY}.weight_scale": ONES},
            f"{QUERY}.weight is int8, floats are expected beside {FAKE}",
        ),
        (
            {
                f"{QUERY}.weight": None,
                f"{QUERY}.quantized_weight": torch.ones(32, 32).char(),
                f"{QUERY}._weight_scale": torch.ones(()),
            },
            f"{QUERY}.weight is saved as integers, and {FAKE} rounds floats",
        ),
    ],
)
def test_damaged_tensors_are_refused_by_name(
    change: dict[str, torch.Tensor | None], said: str, stored: Path, tmp_path: Path
) -> None:
    integer_checkpoints.changed(stored, tmp_path, change)
    assert said in integer_checkpoints.refusal(tmp_path)


def test_settings_of_another_method_are_refused(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    integer_checkpoints.configure(tmp_path, {"quant_method": "gptq", "bits": 4})
    assert "says gptq, and the tensors are as torch saves them" in integer_checkpoints.refusal(tmp_path)


def test_a_state_dict_of_torch_is_read_as_the_safetensors_are(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    torch.save(checkpoints.tensors(stored), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    read, wanted = (open_source(str(d), allow_pickle=True).checkpoint for d in (tmp_path, stored))
    assert read is not None and wanted is not None and read.integers.keys() == wanted.integers.keys()
    assert all(torch.equal(read.state[name].read(), wanted.state[name].read()) for name in wanted.state)


SOUND = twins.Sound(
    aware.make_aware,
    f"{FAKE}.scale",
    {f"{QUERY}.weight_scale": torch.ones(32)},
)
"""What `test_hostile_twins.py` makes twins of."""
