"""A BERT in a GGUF file answers as the model of transformers that its tensors stand for; what is not followed is refused."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from headway.errors import SourceError
from headway.exporter.capture.capture import load_reference
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.exporter.source.formats.gguf import read_gguf
from headway.exporter.source.formats.gguf_blocks import BLOCKS
from headway.exporter.source.formats.gguf_models import read_model
from headway.exporter.source.source import Source, open_source
from headway.exporter.source.tokenizer import source_tokenizer

from tests.checkpoints.gguf_files import (
    F16,
    F32,
    Q8_0,
    bert_metadata,
    bert_tensors,
    nomic_metadata,
    nomic_tensors,
    pieces_of,
    q8_0,
    write_gguf,
)
from tests.support import checkpoints, integer_checkpoints
from tests.support.models import make_model
from tests.support.variants import feeds


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("encoder"))


def opened(encoder: Path) -> tuple[Any, Any]:
    return transformers.AutoModel.from_pretrained(encoder).eval(), transformers.AutoTokenizer.from_pretrained(encoder)


def loaded(path: Path) -> tuple[Any, Source]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_reference(open_source(str(path)))


@pytest.mark.parametrize(("kind", "name"), [(F32, "F32"), (F16, "F16"), (Q8_0, "Q8_0")])
def test_a_bert_answers_as_its_floats_do(kind: int, name: str, encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    tensors = bert_tensors(model, kind)
    path = write_gguf(tmp_path / "model.gguf", bert_metadata(model, pieces_of(tokenizer)), tensors)
    gguf = read_gguf(path)
    stored = read_model(gguf).state
    model.load_state_dict(
        {k: t.read() for k, t in stored.items()}, strict=False
    )  # the numbers that the integers stand for
    reference, source = loaded(path)
    assert (
        np.abs(reference.run(feeds())["last_hidden_state"] - checkpoints.forward(model)["last_hidden_state"]).max()
        < 2e-6
    )
    assert name in source.sentences[0]
    texts = ["the price of bread", "words, numbers: 12 and trains", "Unknown ünïcode Ж"]
    assert source_tokenizer(source)(texts)["input_ids"] == tokenizer(texts)["input_ids"]


@pytest.mark.parametrize("types", ["none", "one row of one axis"])
def test_token_types_that_a_file_does_not_have_add_nothing(types: str, encoder: Path, tmp_path: Path) -> None:
    """As in DistilBERT, which is converted to the same architecture, and in RoBERTa after another tool dropped an axis of length 1."""
    model, tokenizer = opened(encoder)
    tensors = bert_tensors(model)
    row = np.zeros(32, np.float32) if types == "none" else np.arange(32, dtype=np.float32) / 99
    del tensors["token_types.weight"]
    if types != "none":
        tensors["token_types.weight"] = (F32, (32,), row.tobytes())
    labels = {"bert.classifier.output_labels": ["LABEL_0"], "bert.attention.key_length": 8}
    path = write_gguf(tmp_path / "model.gguf", bert_metadata(model, pieces_of(tokenizer), **labels), tensors)
    model.embeddings.token_type_embeddings.weight.data[:] = torch.from_numpy(row)
    reference, _ = loaded(path)
    got, wanted = reference.run(feeds())["last_hidden_state"], checkpoints.forward(model)["last_hidden_state"]
    assert np.abs(got - wanted).max() < 2e-6


def test_the_artifact_holds_the_integers_of_the_file(encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    path = write_gguf(tmp_path / "model.gguf", bert_metadata(model, pieces_of(tokenizer)), bert_tensors(model, Q8_0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = export(Recipe(source=str(path)), tmp_path / "out")
    said = made.manifest.source["form"][-1]
    assert (
        said == "the artifact holds the integers of 12 of 12 quantized weights (10 as int8, 2 as int8 in blocks of 32)"
    )
    for i, layer in enumerate(model.encoder.layer):
        for name, module in layer.named_modules():
            if isinstance(module, torch.nn.Linear):
                codes, scales = integer_checkpoints.held(tmp_path / "out", f"encoder.layer.{i}.{name}")
                wanted, steps = blocks_of(q8_0(module.weight.detach().numpy()), module.in_features)
                assert np.array_equal(codes, wanted), name
                assert np.array_equal(scales, steps), name


def blocks_of(raw: bytes, inputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the integers `[out, in]` and the scales `[out, groups]` of blocks of Q8_0: a 16-bit scale and 32 bytes each."""
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, 34)
    scales = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    return blocks[:, 2:].copy().view(np.int8).reshape(-1, inputs).astype(int), scales.reshape(-1, inputs // 32)


@pytest.mark.parametrize("kind", [F32, Q8_0])
def test_a_nomic_bert_answers_as_its_floats_do(kind: int, encoder: Path, tmp_path: Path) -> None:
    _, tokenizer = opened(encoder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
    rope = {"rope_type": "default", "rope_theta": 1000.0}
    config = transformers.NomicBertConfig(
        **sizes, vocab_size=300, max_position_embeddings=66, rope_parameters=rope, layer_norm_eps=1e-5
    )
    model = noisy(transformers.NomicBertModel(config, add_pooling_layer=False))
    tensors = nomic_tensors(model, kind)
    path = write_gguf(tmp_path / "model.gguf", nomic_metadata(model, pieces_of(tokenizer)), tensors)
    if kind == Q8_0:
        for module in model.layers.modules():
            if isinstance(module, torch.nn.Linear):
                codes, scales = blocks_of(q8_0(module.weight.detach().numpy()), module.in_features)
                module.weight.data = torch.from_numpy(codes * np.repeat(scales, 32, axis=1)).float()
    reference, source = loaded(path)
    assert source.config["model_type"] == "nomic_bert" and source.checkpoint is not None
    assert len(source.checkpoint.integers) == (21 if kind == Q8_0 else 0)
    difference = reference.run(feeds())["last_hidden_state"] - checkpoints.forward(model)["last_hidden_state"]
    assert np.abs(difference).max() < 2e-6


def noisy(model: Any) -> Any:
    """Return a model whose norms are not ones and zeros."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q6_K", "Q8_0"])
def test_integers_times_scales_are_the_floats(name: str, tmp_path: Path) -> None:
    kind, block = next((k, b) for k, b in BLOCKS.items() if b.name == name)
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (64, block.bytes), dtype=np.uint8)
    scale = np.full((64, 1), 0.25, np.float16).view(np.uint8)
    at = 208 if name == "Q6_K" else 0
    raw[:, at : at + 2] = scale
    gguf = read_gguf(write_gguf(tmp_path / "a.gguf", {}, {"w": (kind, (32, 2 * block.elements), raw.tobytes())}))
    integers = gguf.integers["w"].read()
    assert integers.bits == int(name[1])
    assert int(integers.codes.max()) <= 2 ** (integers.bits - 1) - 1
    assert torch.equal(gguf.integers["w"].as_floats().read(), gguf.tensors["w"].read())


def test_a_pooling_type_makes_a_sentence_model(encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    metadata = bert_metadata(model, pieces_of(tokenizer), **{"bert.pooling_type": 1})
    reference, source = loaded(write_gguf(tmp_path / "model.gguf", metadata, bert_tensors(model)))
    assert source.task == "sentence-embedding"
    outputs = reference.run(feeds())
    mask = feeds()["attention_mask"][..., None]
    means = (outputs["last_hidden_state"] * mask).sum(1) / mask.sum(1)
    assert np.abs(outputs["sentence_embedding"] - means).max() < 1e-6


@pytest.mark.parametrize(("size", "biased"), [(8, False), (8, True), (16, False)])
def test_a_llama_answers_as_its_module_does(size: int, biased: bool, encoder: Path, tmp_path: Path) -> None:
    """Also with heads that are wider than their share of the features, and with biases."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "vocab_size": 300, "max_position_embeddings": 66, "head_dim": size}
    config = transformers.LlamaConfig(**sizes, attention_bias=biased)
    model = noisy(transformers.LlamaModel(config))
    named = {"token_embd": model.embed_tokens.weight, "output_norm": model.norm.weight}
    for i, layer in enumerate(model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        named |= {
            f"blk.{i}.attn_norm": layer.input_layernorm.weight,
            f"blk.{i}.ffn_norm": layer.post_attention_layernorm.weight,
            f"blk.{i}.attn_q": attention.q_proj.weight[pairs(4, size)],
            f"blk.{i}.attn_k": attention.k_proj.weight[pairs(2, size)],
            f"blk.{i}.attn_v": attention.v_proj.weight,
            f"blk.{i}.attn_output": attention.o_proj.weight,
            f"blk.{i}.ffn_gate": mlp.gate_proj.weight,
            f"blk.{i}.ffn_up": mlp.up_proj.weight,
            f"blk.{i}.ffn_down": mlp.down_proj.weight,
        }
    named = {f"{name}.weight": tensor for name, tensor in named.items()}
    for i, layer in enumerate(model.layers if biased else []):
        attention = layer.self_attn
        named |= {
            f"blk.{i}.attn_q.bias": attention.q_proj.bias[pairs(4, size)],
            f"blk.{i}.attn_k.bias": attention.k_proj.bias[pairs(2, size)],
            f"blk.{i}.attn_v.bias": attention.v_proj.bias,
            f"blk.{i}.attn_output.bias": attention.o_proj.bias,
        }
    tensors = {name: (F32, tuple(w.shape), w.detach().numpy().tobytes()) for name, w in named.items()}
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.context_length": 66,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.rope.dimension_count": size,
        "llama.attention.key_length": size,
        "llama.attention.value_length": size,
    }
    path = write_gguf(tmp_path / "model.gguf", metadata, tensors)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(encoder / name, tmp_path)
    reference, _ = loaded(path)
    given = {name: array for name, array in feeds().items() if name != "token_type_ids"}
    with torch.no_grad():
        wanted = model(**{name: torch.from_numpy(array) for name, array in given.items()}).last_hidden_state.numpy()
    got = reference.run(given)["last_hidden_state"]
    assert np.abs(got - wanted)[given["attention_mask"] != 0].max() < 5e-6


def pairs(heads: int, size: int) -> list[int]:
    """Return for each row of a file the row of transformers: llama.cpp rotates neighbors, transformers the two halves of a head."""
    return [head * size + half * size // 2 + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]


def test_queries_of_llama_are_put_back_in_order(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "vocab_size": 20,
        "max_position_embeddings": 16,
    }
    config = transformers.LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False)
    model = transformers.LlamaModel(config).eval()
    layer = model.layers[0]

    def turned(weight: torch.Tensor, heads: int) -> torch.Tensor:
        return weight.reshape(heads, 2, -1, 32).swapaxes(1, 2).reshape(weight.shape)

    named = {
        "token_embd": model.embed_tokens.weight,
        "output_norm": model.norm.weight,
        "output": model.embed_tokens.weight,
        "blk.0.attn_norm": layer.input_layernorm.weight,
        "blk.0.ffn_norm": layer.post_attention_layernorm.weight,
        "blk.0.attn_q": turned(layer.self_attn.q_proj.weight, 4),
        "blk.0.attn_k": turned(layer.self_attn.k_proj.weight, 2),
        "blk.0.attn_v": layer.self_attn.v_proj.weight,
        "blk.0.attn_output": layer.self_attn.o_proj.weight,
        "blk.0.ffn_gate": layer.mlp.gate_proj.weight,
        "blk.0.ffn_up": layer.mlp.up_proj.weight,
        "blk.0.ffn_down": layer.mlp.down_proj.weight,
    }
    tensors = {f"{n}.weight": (F32, tuple(w.shape), w.detach().numpy().tobytes()) for n, w in named.items()}
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 1,
        "llama.context_length": 16,
        "llama.embedding_length": 32,
        "llama.feed_forward_length": 64,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.rope.freq_base": 10000.0,
    }
    stored = read_model(read_gguf(write_gguf(tmp_path / "model.gguf", metadata, tensors)))
    assert stored.config["rms_norm_eps"] == 1e-6
    assert "output.weight is left out" in stored.sentence
    state = model.state_dict()
    assert stored.state.keys() == state.keys()
    assert all(torch.equal(tensor.read(), state[name]) for name, tensor in stored.state.items())
    rows = [tensors.pop(f"blk.0.attn_{part}.weight") for part in "qkv"]
    fused = {"blk.0.attn_qkv.weight": (F32, (64, 32), b"".join(raw for _, _, raw in rows))}
    stored = read_model(read_gguf(write_gguf(tmp_path / "fused.gguf", metadata, tensors | fused)))
    assert all(torch.equal(tensor.read(), state[name]) for name, tensor in stored.state.items())
    tensors |= {f"blk.0.attn_{part}.weight": row for part, row in zip("qkv", rows, strict=True)}
    queries = "blk.0.attn_q.weight"
    tensors[queries] = (Q8_0, (32, 32), q8_0(turned(layer.self_attn.q_proj.weight, 4).detach().numpy()))
    stored = read_model(read_gguf(write_gguf(tmp_path / "model.gguf", metadata, tensors)))
    ((name, integers),) = stored.integers.items()
    assert torch.equal(integers.as_floats().read(), stored.state[name].read())
    assert torch.allclose(stored.state[name].read(), state[name], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "extra", "says"),
    [
        ({"general.architecture": "mamba"}, {}, "architecture mamba"),
        ({"general.architecture": "jina-bert-v2"}, {}, "ALiBi"),
        ({"bert.block_count": None}, {}, "no block_count"),
        ({"bert.block_count": 3}, {}, "block_count = 3, and its tensors are of 2 blocks"),
        ({"bert.context_length": 1 << 24}, {}, "context_length = 16777216, and position_embd.weight is [66, 32]"),
        (
            {"bert.feed_forward_length": 1 << 20},
            {},
            "feed_forward_length = 1048576, and blk.0.ffn_up.weight is [64, 32]",
        ),
        ({"bert.attention.key_length": 16}, {}, "attention.key_length = 16, which is not followed beside 8 features"),
        (
            {"bert.attention.head_count_kv": 1 << 20},
            {},
            "keys and values of 1048576, each of 8 features, and blk.0.attn_k",
        ),
        (
            {"bert.attention.head_count_kv": 2},
            {},
            "keys and values of 2, each of 8 features, and blk.0.attn_k.weight is",
        ),
        ({}, {"blk.0.attn_k.weight": None}, "the tensor blk.0.attn_k.weight is not there"),
        ({}, {"token_embd.weight": None}, "the tensor token_embd.weight is not there"),
        ({}, {"token_embd.weight": (F32, (9600,), bytes(4 * 9600))}, "and token_embd.weight is [9600]"),
        (
            {"tokenizer.ggml.token_type_count": 2},
            {"token_types.weight": None},
            "token_type_count = 2, and the tensor token_types.weight is not there",
        ),
        ({"split.count": 2}, {}, "one of 2 parts of a model: join them by llama-gguf-split"),
        ({"bert.a\nb": 1}, {}, "a key is called 'bert.a\\nb'"),
        ({"bert.rope.scaling.type": "yarn"}, {}, "rope.scaling.type = yarn, which nothing here follows"),
        ({"bert.attention.head_count": "4"}, {}, "attention.head_count = 4: one integer"),
        ({"bert.attention.head_count": 0}, {}, "attention.head_count = 0: one integer"),
        ({"bert.attention.layer_norm_epsilon": "small"}, {}, "layer_norm_epsilon = small: a number"),
        ({"bert.attention.causal": True}, {}, "attention.causal = True, which BertModel"),
        ({"bert.pooling_type": 4}, {}, "pooling_type = 4, and 1 (mean), 2 (cls), 3 (lasttoken) are read"),
        ({"bert.pooling_type": True}, {}, "pooling_type = True, and 1 (mean)"),
        ({"bert.rope.dimension_count": 8.0}, {}, "rope.dimension_count = 8.0 of 8 features"),
        ({"bert.attention.layer_norm_epsilon": float("inf")}, {}, "layer_norm_epsilon = inf: a number above 0"),
        ({"bert.attention.layer_norm_epsilon": None}, {}, "no attention.layer_norm_epsilon"),
        ({"bert.attention.causal": None}, {}, "attention.causal = True, which BertModel"),
        ({"tokenizer.ggml.token_type": [129]}, {}, "1 kinds for"),
        ({}, {f"blk.{'9' * 30}.attn_q.bias": (F32, (1,), bytes(4))}, "has no place"),
        ({}, {"blk.0.\nattn_q.bias": (F32, (1,), bytes(4))}, "a tensor is called 'blk.0.\\nattn_q.bias'"),
        ({"bert.attention.layer_norm_epsilon": True}, {}, "layer_norm_epsilon = True: a number above 0"),
        ({"tokenizer.ggml.token_type": 5}, {}, "token_type = 5: a list is expected"),
        ({}, {"blk.0.ffn_gate.weight": (F32, (1,), bytes(4))}, "blk.0.ffn_gate.weight has no place"),
        (
            {},
            {"blk.1.attn_qkv.weight": (F32, (98, 32), bytes(4 * 98 * 32))},
            "has 98 rows, which are no queries of 4 heads",
        ),
        ({}, {"blk.0.attn_qkv.weight": (F32, (96, 32), bytes(4 * 96 * 32))}, "which another tensor is as well"),
        ({}, {"blk.0.attn_q.bias": (F32, (), bytes(4))}, "blk.0.attn_q.bias is []"),
    ],
)
def test_what_is_not_followed_is_refused(changes: dict, extra: dict, says: str, encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    metadata = bert_metadata(model, pieces_of(tokenizer), **changes)
    tensors = {name: tensor for name, tensor in (bert_tensors(model) | extra).items() if tensor is not None}
    path = write_gguf(tmp_path / "model.gguf", metadata, tensors)
    with pytest.raises(SourceError) as caught:
        open_source(str(path))
    assert says in str(caught.value)


def test_a_missing_tensor_is_named(encoder: Path, tmp_path: Path) -> None:
    model, tokenizer = opened(encoder)
    tensors = bert_tensors(model)
    del tensors["blk.1.ffn_up.weight"]
    path = write_gguf(tmp_path / "model.gguf", bert_metadata(model, pieces_of(tokenizer)), tensors)
    with pytest.raises(SourceError, match=r"encoder\.layer\.1\.intermediate\.dense\.weight"):
        loaded(path)
