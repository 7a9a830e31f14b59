"""Adapters are merged so that the layers answer as with the adapter beside them; what fits nowhere is refused by name."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.source.source import Source, open_source

from tests.checkpoints.adapters import LoraEmbedding, LoraLinear, Scaled, Tensors, adapt, save_adapter
from tests.checkpoints.pruned_heads import make_pruned
from tests.exporter.source.checkpoints.forms import test_bitsandbytes_4bit as four_bits
from tests.exporter.source.checkpoints.forms import test_bitsandbytes_8bit as eight_bits
from tests.exporter.source.checkpoints.forms import test_gptq as gptq
from tests.support import checkpoints, integer_checkpoints, twins
from tests.support.models import make_model, make_sentence_model
from tests.support.refused_at_once import at_once
from tests.support.variants import feeds

QUERY = "bert.encoder.layer.0.attention.self.query"
DENSE = "bert.encoder.layer.1.output.dense"
WORDS = "bert.embeddings.word_embeddings"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("base"), task="text-classification")


def opened(base: Path) -> Any:
    torch.manual_seed(1)
    return transformers.AutoModelForSequenceClassification.from_pretrained(base).eval()


def answers(spec: Path, adapters: tuple[Path, ...] = ()) -> tuple[Source, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference, source = load_reference(open_source(str(spec), adapters=[str(a) for a in adapters]))
    return source, reference.run(feeds())["logits"]


def agrees(got: np.ndarray, model: Any) -> bool:
    """Return whether answers agree to float32 rounding of another order of additions."""
    return bool(np.abs(got - checkpoints.forward(model)["logits"]).max() < 2e-6)


def refusal(base: Path, adapter: Path) -> str:
    with at_once() as refused:
        with pytest.raises(SourceError) as caught:
            answers(base, (adapter,))
        refused.append(caught.value)
    return str(caught.value)


def changed(adapter: Path, change: Callable[[Tensors], Tensors] = lambda t: t, **settings: Any) -> Path:
    """Write a copy of an adapter with other tensors and settings."""
    copy = adapter.parent / "changed"
    shutil.copytree(adapter, copy, dirs_exist_ok=True)
    tensors = change(load_file(adapter / "adapter_model.safetensors"))
    save_file({k: v.clone() for k, v in tensors.items()}, copy / "adapter_model.safetensors")
    config = json.loads((adapter / "adapter_config.json").read_text()) | settings
    (copy / "adapter_config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_linear_layers_answer_as_with_the_adapter_beside_them(kind: str, base: Path, tmp_path: Path) -> None:
    model = opened(base)
    options = {"rslora": kind == "rslora", "dora": kind == "dora"}
    adapted = {path: LoraLinear(model.get_submodule(path), 4, 8, **options) for path in (QUERY, DENSE)}
    settings = {"use_rslora": options["rslora"], "use_dora": options["dora"]}
    save_adapter(tmp_path / "one", adapt(model, adapted), base, **settings)
    source, alone = answers(tmp_path / "one")
    assert agrees(alone, model)
    assert source.sentences == (f"{'DoRA' if kind == 'dora' else 'LoRA'} adapter one of rank 4 merged into 2 layers",)
    assert np.array_equal(answers(base, (tmp_path / "one",))[1], alone)


def test_ranks_and_alphas_by_pattern_embeddings_and_a_head_of_its_own(base: Path, tmp_path: Path) -> None:
    model = opened(base)
    adapted = {
        QUERY: LoraLinear(model.get_submodule(QUERY), 2, 6),
        DENSE: LoraLinear(model.get_submodule(DENSE), 4, 20),
        WORDS: LoraEmbedding(model.get_submodule(WORDS), 4, 8),
    }
    model.classifier = torch.nn.Linear(32, 5)
    tensors = adapt(model, adapted) | {f"classifier.{k}": v for k, v in model.classifier.state_dict().items()}
    patterns = {"rank_pattern": {"query": 2}, "alpha_pattern": {"query": 6, r"layer\.1\.output\.dense": 20}}
    settings = {"modules_to_save": ["classifier"], "task_type": "SEQ_CLS", **patterns}
    source, got = answers(save_adapter(tmp_path / "one", tensors, base, **settings))
    assert agrees(got, model)
    assert len(source.config["id2label"]) == 5
    assert "of rank 2, 4 merged into 3 layers; classifier taken from it" in source.sentences[0]


def test_scales_of_ia3(base: Path, tmp_path: Path) -> None:
    model = opened(base)
    layers = {path: Scaled(model.get_submodule(path), inputs=path == DENSE) for path in (QUERY, DENSE)}
    adapter = save_adapter(tmp_path / "one", adapt(model, layers), base, peft_type="IA3")
    assert agrees(answers(base, (adapter,))[1], model)


def test_several_adapters_are_merged_in_order(base: Path, tmp_path: Path) -> None:
    model = opened(base)
    first = adapt(model, {QUERY: LoraLinear(model.get_submodule(QUERY), 4, 8)})
    merged = model.get_submodule(QUERY)
    whole = torch.nn.Linear(32, 32)
    whole.weight, whole.bias = torch.nn.Parameter(merged.base.weight + merged.b @ merged.a * 2), merged.base.bias
    second = adapt(model, {QUERY: LoraLinear(whole, 4, 8, dora=True)})
    adapters = (
        save_adapter(tmp_path / "one", first, base),
        save_adapter(tmp_path / "two", second, base, use_dora=True),
    )
    source, got = answers(base, adapters)
    assert agrees(got, model)
    assert len(source.sentences) == 2


def test_biases_and_rows_of_tokens(base: Path, tmp_path: Path) -> None:
    model = opened(base)
    tensors = adapt(model, {QUERY: LoraLinear(model.get_submodule(QUERY), 4, 8)})
    with torch.no_grad():
        model.get_submodule(QUERY).base.bias.add_(0.3)
        rows = torch.randn(2, 32)
        model.get_submodule(WORDS).weight[[7, 3]] = rows
    tensors[f"{QUERY}.base_layer.bias"] = model.get_submodule(QUERY).base.bias
    tensors[f"{WORDS}.token_adapter.trainable_tokens_delta"] = rows
    settings = {"bias": "lora_only", "trainable_token_indices": {"word_embeddings": [7, 3]}}
    assert agrees(answers(save_adapter(tmp_path / "one", tensors, base, **settings))[1], model)


def test_a_base_without_a_head_takes_that_of_the_adapter(tmp_path: Path) -> None:
    encoder = make_model(tmp_path / "encoder")
    model = transformers.AutoModelForTokenClassification.from_pretrained(encoder, num_labels=3).eval()
    tensors = adapt(model, {QUERY: LoraLinear(model.get_submodule(QUERY), 4, 8)})
    tensors |= {f"classifier.{k}": v for k, v in model.classifier.state_dict().items()}
    settings = {"modules_to_save": ["classifier"], "task_type": "TOKEN_CLS"}
    source, got = answers(save_adapter(tmp_path / "one", tensors, encoder, **settings))
    assert source.task == "token-classification"
    assert agrees(got, model)


def test_factors_inside_a_models_own_tensors(base: Path, tmp_path: Path) -> None:
    model = opened(base)
    plain = dict(model.state_dict())
    factors = adapt(model, {QUERY: LoraLinear(model.get_submodule(QUERY), 4, 8)})
    inside = {k.replace(QUERY, f"{QUERY}.base_layer"): v for k, v in plain.items()}
    inside |= {k.replace(".weight", ".default.weight"): v for k, v in factors.items()}
    shutil.copytree(base, tmp_path / "inside")
    named = {f"base_model.model.{k}": v.detach().clone() for k, v in inside.items()}
    save_file(named, tmp_path / "inside" / "model.safetensors")
    with pytest.raises(SourceError, match=r"holds LoRA factors, and no adapter_config\.json says"):
        answers(tmp_path / "inside")
    (tmp_path / "inside" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    assert agrees(answers(tmp_path / "inside")[1], model)


def test_a_sentence_model_with_its_adapter_beside_the_weights(tmp_path: Path) -> None:
    directory = make_sentence_model(tmp_path / "plain")
    path = "encoder.layer.0.attention.self.query"
    encoder = transformers.AutoModel.from_pretrained(directory)
    tensors = adapt(encoder, {path: LoraLinear(encoder.get_submodule(path), 4, 8)})
    before, _ = load_reference(open_source(str(directory)))
    save_adapter(directory, tensors, directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference, source = load_reference(open_source(str(directory)))
    assert source.task == "sentence-embedding"
    hidden = reference.run(feeds())["last_hidden_state"]
    assert np.abs(hidden - checkpoints.forward(encoder.eval())["last_hidden_state"]).max() < 2e-6
    vectors = [r.from_text(["the price of bread"]).outputs["sentence_embedding"] for r in (before, reference)]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    model = opened(base)
    return save_adapter(tmp_path / "one", adapt(model, {QUERY: LoraLinear(model.get_submodule(QUERY), 4, 8)}), base)


A, B = f"base_model.model.{QUERY}.lora_A.weight", f"base_model.model.{QUERY}.lora_B.weight"


@pytest.mark.parametrize(
    ("change", "settings", "says"),
    [
        (lambda t: {A: t[A]}, {}, "one of lora_A and lora_B alone"),
        (
            lambda t: {A.replace("lora_A.weight", "lora_magnitude_vector"): torch.ones(32)},
            {},
            "lora_A and lora_B alone",
        ),
        (lambda t: {B.replace("lora_B.weight", "lora_B.bias"): torch.ones(32)}, {}, "lora_A and lora_B alone"),
        (lambda t: t | {A: t[A][:2].clone()}, {}, "factors of [32, 4] and [2, 32] for a weight of [32, 32]"),
        (lambda t: t | {B: torch.ones(31, 4)}, {}, "factors of [31, 4] and [4, 32]"),
        (lambda t: t, {"r": 8}, "has rank 4, and adapter_config.json says 8"),
        (lambda t: t, {"lora_alpha": "16"}, "'16': a number is expected"),
        (lambda t: t, {"use_dora": True}, "which has no lora_magnitude_vector"),
        (lambda t: {k.replace("query", "quarry"): v for k, v in t.items()}, {}, "the model has no"),
        (lambda t: t | {f"base_model.model.{QUERY}.weight": t[A]}, {}, f"{QUERY}.weight: no part of the adapter"),
        (
            lambda t: t | {f"base_model.model.{QUERY}.lora_magnitude_vector": torch.ones(3)},
            {"use_dora": True},
            "magnitudes",
        ),
        (lambda t: t | {f"base_model.model.{QUERY}.lora_B.bias": torch.ones(3)}, {}, "lora_B.bias"),
        (lambda t: t | {f"base_model.model.{WORDS}.token_adapter.trainable_tokens_delta": t[A]}, {}, "tokens None"),
        (lambda t: {A.replace("lora_A.weight", "ia3_l"): t[A]}, {"peft_type": "IA3"}, "ia3_l is [4, 32]"),
    ],
)
def test_what_does_not_fit_is_refused(change: Any, settings: dict, says: str, base: Path, adapter: Path) -> None:
    assert says in refusal(base, changed(adapter, change, **settings))


HEADS = {0: [1], 2: [0, 2, 3]}
NEURONS = {1: range(20)}
ATTENTION = "encoder.layer.2.attention"
UP = "encoder.layer.1.intermediate.dense"


def _masked(directory: Path) -> Any:
    """Return the dense model whose heads and neurons are masked, of the weights that `make_pruned` cuts."""
    model = checkpoints.base(directory, num_hidden_layers=3)
    with torch.no_grad():
        for i, gone in HEADS.items():
            out = model.encoder.layer[i].attention.output.dense
            out.weight[:, [head * 8 + j for head in gone for j in range(8)]] = 0
        for i, dead in NEURONS.items():
            model.encoder.layer[i].output.dense.weight[:, list(dead)] = 0
    return model


def test_an_adapter_of_a_base_that_was_wrapped_and_pruned(tmp_path: Path) -> None:
    """Its factors have the sizes of the pruned layers: here they are those of dense layers, with rows of what is left."""
    make_pruned(tmp_path / "base", HEADS, NEURONS, num_hidden_layers=3)
    state = checkpoints.tensors(tmp_path / "base")
    checkpoints.save(tmp_path / "base", {f"module.{name}": tensor for name, tensor in state.items()})
    model = _masked(tmp_path / "dense")
    torch.manual_seed(2)
    paths = (f"{ATTENTION}.self.query", f"{ATTENTION}.self.value", f"{ATTENTION}.output.dense", UP)
    tensors = adapt(model, {path: LoraLinear(model.get_submodule(path), 4, 8) for path in paths})
    head, neurons = torch.arange(8, 16), torch.arange(20, 64)
    with torch.no_grad():
        model.get_submodule(paths[2]).a[:, [i for i in range(32) if i not in head]] = 0
    for path in paths[:2]:
        tensors[f"{path}.lora_B.weight"] = tensors[f"{path}.lora_B.weight"][head]
    tensors[f"{paths[2]}.lora_A.weight"] = tensors[f"{paths[2]}.lora_A.weight"][:, head]
    tensors[f"{UP}.lora_B.weight"] = tensors[f"{UP}.lora_B.weight"][neurons]
    save_adapter(tmp_path / "one", tensors, tmp_path / "base")
    wanted = checkpoints.forward(model)
    source, _ = checkpoints.same_answers(tmp_path / "one", wanted)
    assert [sentence.split(" ")[0] for sentence in source.sentences] == ["names", "LoRA", "heads"]
    assert source.sentences[2] == "heads 3, 4, 1 of 4; feed-forward 64, 44, 64 of 64"


QUANTIZED: dict[str, tuple[Any, dict[str, Any], int]] = {
    "GPTQ": (gptq.packing(4), gptq.settings(), 4),
    "bitsandbytes 8-bit": (eight_bits.pack, eight_bits.SETTINGS, 8),
    "bitsandbytes 4-bit": (four_bits.packing("nf4", True), four_bits.SETTINGS, 4),
}


@pytest.mark.parametrize("kind", QUANTIZED)
def test_an_adapter_of_a_quantized_base_is_merged_into_what_its_integers_stand_for(kind: str, tmp_path: Path) -> None:
    """Peft adds the factors' term beside the quantized layer (QLoRA), which here are floats of the artifact then."""
    pack, settings, bits = QUANTIZED[kind]
    found = integer_checkpoints.make_quantized(tmp_path / "base", pack, settings, bits=bits)
    plain = json.loads((tmp_path / "base" / "config.json").read_text())
    plain.pop("quantization_config")
    model = transformers.BertModel(transformers.BertConfig(**plain, attn_implementation="eager")).eval()
    state = {n: t for n, t in checkpoints.tensors(tmp_path / "base").items() if n in model.state_dict()}
    model.load_state_dict(state | {f"{stem}.weight": whole.floats for stem, whole in found.items()})
    paths = (integer_checkpoints.QUERY, "encoder.layer.0.output.dense")
    tensors = adapt(model, {path: LoraLinear(model.get_submodule(path), 4, 8) for path in paths})
    save_adapter(tmp_path / "one", tensors, tmp_path / "base")
    source, _ = checkpoints.same_answers(tmp_path / "one", checkpoints.forward(model))
    assert source.checkpoint is not None and "merged into 2 layers" in source.sentences[1]
    if kind != "bitsandbytes 4-bit":
        assert source.sentences[1].endswith("; 2 quantized weights are floats with it")
        assert source.checkpoint.integers.keys() == {f"{stem}.weight" for stem in found if stem not in paths}


def _inside(directory: Path) -> None:
    """Write LoRA factors inside the model's own tensors, and the settings of their tool beside them."""
    state = dict(checkpoints.base(directory).state_dict())
    for end in ("weight", "bias"):
        state[f"{twins.QUERY}.base_layer.{end}"] = state.pop(f"{twins.QUERY}.{end}")
    for side, shape in (("A", (4, 32)), ("B", (32, 4))):
        state[f"{twins.QUERY}.lora_{side}.default.weight"] = torch.ones(shape)
    checkpoints.save(directory, state)
    save_adapter(directory, {}, directory)
    (directory / "adapter_model.safetensors").unlink()


SOUND = twins.Sound(_inside, f"{twins.QUERY}.lora_B.default.weight", twins.PLAIN, (twins.QUERY,))
"""What `test_hostile_twins.py` makes twins of."""
