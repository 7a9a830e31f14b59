"""Miniatures of compressed checkpoints by the tests' own makers, wide enough that bytes and latency mean something.

Each has hidden size 256, 4 layers and random weights, except where its form is another size. Beside each stands its uncompressed sibling.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import joblib
import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.linear_model import LogisticRegression

from tests.checkpoints import adapters, shared_projections, tiny_bert
from tests.checkpoints.block_pruned import make_blocks, make_compiled
from tests.checkpoints.ctranslate2_files import bert_variables, write_model
from tests.checkpoints.gated_factors import make_gated, make_stacked
from tests.checkpoints.gated_heads import make_gates
from tests.checkpoints.gguf_files import Q8_0, bert_metadata, bert_tensors, pieces_of, write_gguf
from tests.checkpoints.layer_drop import make_dropped
from tests.checkpoints.movement_pruned import make_moved
from tests.checkpoints.pruned_heads import make_pruned
from tests.checkpoints.pruned_masks import make_masked
from tests.checkpoints.q8bert import make_q8bert
from tests.checkpoints.reweighted import make_reweighted
from tests.checkpoints.word_models import WORDS, make_word_model
from tests.exporter.source.checkpoints.forms import (
    test_awq,
    test_bitsandbytes_4bit,
    test_bitsandbytes_8bit,
    test_compressed_tensors,
    test_float8,
    test_gptq,
    test_hqq,
    test_scaled_integers,
    test_torch_quantized,
    test_torchao,
)
from tests.support import checkpoints, integer_checkpoints, models, onnx_files, tool_forms

WIDE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
RANK = 16
"""Rank of the adapter beside the large checkpoint."""
CLASSIFIER = "text-classification"
FACTORIES = "benchmarks.form_factories"
_STUDENT = {"dim": 256, "hidden_dim": 1024, "n_layers": 2, "n_heads": 4}
_NARROW = {"embedding_size": 128, "intra_bottleneck_size": 64, "true_hidden_size": 64, "num_hidden_layers": 8}


@dataclass(frozen=True)
class Row:
    """One form: what makes its checkpoint in a directory, and the sibling's task and sizes.

    `more`: options of `headway export`. `file`: what the source is in the directory, where it is not the directory itself. `factory`:
    the source that is no checkpoint, as `module:callable`.
    """

    name: str
    make: Callable[[Path], Any]
    task: str = "feature-extraction"
    sizes: tuple[tuple[str, int], ...] = ()
    more: tuple[str, ...] = ()
    file: str = ""
    factory: str = ""

    def source(self, folder: Path) -> str:
        """Return what is exported of the directory that `make` wrote."""
        return self.factory or str(folder / self.file)


@contextmanager
def wide() -> Iterator[None]:
    """Let the tests' makers write wide models inside the block."""
    families = {
        name: (kind, {**settings, **_wide_of(name, settings)}) for name, (kind, settings) in models.FAMILIES.items()
    }

    def make_all_layers(directory: Path, *args: Any, **changes: Any) -> Path:
        return models.make_model(directory, *args, **{n: v for n, v in changes.items() if n != "num_hidden_layers"})

    with (
        mock.patch.dict(models.FAMILIES, families),
        mock.patch.dict(shared_projections.SIZES, WIDE),
        mock.patch.dict(tiny_bert.SIZES, WIDE),
        mock.patch.object(integer_checkpoints, "make_model", make_all_layers),
        mock.patch.object(test_torch_quantized, "make_model", make_all_layers),
    ):
        yield


def _wide_of(family: str, settings: dict[str, Any]) -> dict[str, int]:
    own = {"distilbert": _STUDENT, "mobilebert": WIDE | _NARROW, "albert": WIDE | {"embedding_size": 64}}.get(
        family, WIDE
    )
    return own if "hidden_size" in settings or family == "distilbert" else {}


def _quantized(pack: Any, settings: dict[str, Any], **options: Any) -> Callable[[Path], Any]:
    return lambda folder: integer_checkpoints.make_quantized(folder, pack, settings, **({"group": 32} | options))


def _groups(folder: Path) -> Any:
    """Write an ALBERT of 8 layers in two groups of two."""
    return models.make_model(folder, "albert", num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2)


def _adapted(folder: Path) -> Any:
    """Write a model with a LoRA adapter beside its weights."""
    model = checkpoints.base(folder)
    layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "attention.self" in n]
    saved = {
        f"{n}.lora_{side}.weight": torch.randn(*shape) * 0.02
        for n in layers
        for side, shape in (("A", (4, 256)), ("B", (256, 4)))
    }
    return adapters.save_adapter(folder, saved, folder)


def _dora(folder: Path) -> Any:
    """Write a model with a DoRA adapter on queries, keys and values."""
    model = checkpoints.base(folder)
    layers = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and "attention.self" in n}
    adapted = {n: adapters.LoraLinear(m, 4, 8, dora=True) for n, m in layers.items()}
    return adapters.save_adapter(folder, adapters.adapt(model, adapted), folder, use_dora=True)


def _ia3(folder: Path) -> Any:
    """Write a model with IA3's scales of keys, of values, and of what the second layers of feed-forwards read."""
    model = checkpoints.base(folder)
    ends = ("self.key", "self.value", "output.dense")
    layers = {
        n: m for n, m in model.named_modules() if ".layer." in n and n.endswith(ends) and "attention.output" not in n
    }
    adapted = {n: adapters.Scaled(m, inputs=n.endswith("dense")) for n, m in layers.items()}
    return adapters.save_adapter(folder, adapters.adapt(model, adapted), folder, peft_type="IA3")


def _averaged(folder: Path) -> Any:
    """Write a model with the moving averages of its training beside its weights, which the config says are to be used."""
    state = checkpoints.base(folder).state_dict()
    averages = {
        f"ema_model.{n}": t + 0.001 * torch.randn_like(t) if t.is_floating_point() else t for n, t in state.items()
    }
    return checkpoints.save(folder, state | averages, use_ema=True)


def _setfit(folder: Path) -> Any:
    """Write a model of sentence-transformers, and a logistic regression that was fitted to its vectors."""
    models.make_sentence_model(folder, normalize=False, num_hidden_layers=WIDE["num_hidden_layers"])
    pooling = folder / "1_Pooling" / "config.json"
    size = {"word_embedding_dimension": WIDE["hidden_size"]}
    pooling.write_text(json.dumps(json.loads(pooling.read_text()) | size))
    draw = np.random.default_rng(0)
    head = LogisticRegression().fit(draw.normal(size=(60, WIDE["hidden_size"])), draw.integers(0, 2, 60))
    joblib.dump(head, folder / "model_head.pkl")
    (folder / "config_setfit.json").write_text(json.dumps({"labels": None, "normalize_embeddings": False}))


def _moved(folder: Path) -> Any:
    """Write movement pruning's scores, and the threshold of its training: 15 % of the weights are kept."""
    make_moved(folder, "topK", 0.15)
    return checkpoints.save(folder, checkpoints.tensors(folder), final_threshold=0.15)


def _words(folder: Path) -> Any:
    return make_word_model(
        folder, ["LSTM"], words=[*WORDS, *(w for w in models.WORDS if w not in WORDS)], size=256, hidden=128
    )


def _gguf(folder: Path) -> Any:
    """Write a file of GGUF whose matrices are 8 bits in blocks of 32."""
    plain = models.make_model(folder / "plain")
    model = transformers.AutoModel.from_pretrained(plain).eval()
    pieces = pieces_of(transformers.AutoTokenizer.from_pretrained(plain))
    shutil.rmtree(plain)
    return write_gguf(folder / "model.gguf", bert_metadata(model, pieces), bert_tensors(model, Q8_0))


def _ctranslate2(folder: Path) -> Any:
    """Write what CTranslate2's converter makes of a model at int8."""
    plain = models.make_model(folder / "plain")
    write_model(
        folder / "model.bin", bert_variables(transformers.AutoModel.from_pretrained(plain).eval(), quantized=True)
    )
    (folder / "config.json").write_text(json.dumps({"layer_norm_epsilon": 1e-12, "unk_token": "[UNK]"}))
    pieces = pieces_of(transformers.AutoTokenizer.from_pretrained(plain))
    (folder / "vocabulary.json").write_text(json.dumps(pieces))
    shutil.rmtree(plain)


def _onnx(make: tool_forms.Make) -> Callable[[Path], Any]:
    """Return what writes a file of a classifier as another tool makes it of the float file."""

    def write(folder: Path) -> Path:
        plain = onnx_files.torchscript_file(folder / "plain", "bert", 17, "eager")
        made = tool_forms.form_of(plain, folder, make)
        shutil.rmtree(plain.parent)
        return made

    return write


def _nothing(folder: Path) -> None:
    """Write nothing: the source is a factory."""


def _torch_dynamic(folder: Path) -> Any:
    """Write the state of a model whose linear layers torch quantizes, a scale for each output."""
    return test_torch_quantized.make(folder, {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig})


_FLOAT8 = test_float8.packing(torch.float8_e4m3fn, torch.ones(1, 1), ".weight_scale_inv")
_TWO_OF_FOUR = range(2)
_HALF = range(512)


def _qbert(bits: int) -> Callable[[Path], Any]:
    settings = test_scaled_integers.settings(bits, groups=4, packed=True)
    return _quantized(test_scaled_integers.by_rows(bits, 4, packed=True), settings, bits=bits)


def _gptq(bits: int) -> Callable[[Path], Any]:
    return _quantized(test_gptq.packing(bits), test_gptq.settings(bits, group_size=32), bits=bits, symmetric=True)


def _hqq(bits: int) -> Callable[[Path], Any]:
    return _quantized(test_hqq.packing(bits), test_hqq.SETTINGS, bits=bits)


ROWS = (
    Row("1. magnitude pruning, 90 %", lambda f: make_masked(f, 0.9), CLASSIFIER),
    Row("2. heads and neurons", lambda f: make_pruned(f, {i: _TWO_OF_FOUR for i in range(4)}, {i: _HALF for i in range(4)})),
    Row("3. gates on heads and neurons", lambda f: make_gates(f, task=CLASSIFIER), CLASSIFIER),
    Row("3. blocks, compiled, no norm", lambda f: make_compiled(f, CLASSIFIER), CLASSIFIER),
    Row("3. masks of nn_pruning", lambda f: make_blocks(f, task=CLASSIFIER), CLASSIFIER),
    Row("3. movement pruning", _moved, CLASSIFIER),
    Row("4. LayerDrop, 2 of 4", lambda f: make_dropped(f, [0, 2], of=4)),
    Row("5. near zeros, 90 %", lambda f: make_reweighted(f, bounded=True, strength=1.1e-3), CLASSIFIER),
    Row("6. factors with gates", lambda f: make_gated(f, [48, 32, 0], rank=64), CLASSIFIER),
    Row("6. two linear layers", lambda f: make_stacked(f, [48]), CLASSIFIER),
    Row("7. ALBERT in groups", _groups, sizes=(("num_hidden_layers", 8),)),
    Row("8. projections shared", lambda f: shared_projections.make_shared(f, once=True)),
    Row("9. DistilBERT", lambda f: models.make_model(f, "distilbert")),
    Row("10. word embeddings and LSTM", _words),
    Row("13. the first 2 of 4 layers", lambda f: make_dropped(f, [0, 1], of=4, says=2, renumbered=True)),
    Row("14. TinyBERT", tiny_bert.make_tiny_bert),
    Row("15. MobileBERT", lambda f: models.make_model(f, "mobilebert"), sizes=(("num_hidden_layers", 8),)),
    Row("16. Q8BERT, integers", lambda f: make_q8bert(f, in_8bit=True, num_hidden_layers=4)),
    Row("17. Q-BERT, 4 bits", _qbert(4)),
    Row("17. Q-BERT, 3 bits", _qbert(3)),
    Row("17. Q-BERT, 2 bits", _qbert(2)),
    Row("GPTQ, 4 bits", _gptq(4)),
    Row("GPTQ, 3 bits", _gptq(3)),
    Row("GPTQ, 2 bits", _gptq(2)),
    Row("AWQ, 4 bits", _quantized(test_awq.pack, test_awq.SETTINGS | {"group_size": 32})),
    Row("HQQ, 4 bits", _hqq(4)),
    Row("HQQ, 3 bits", _hqq(3)),
    Row("HQQ, 2 bits", _hqq(2)),
    Row("compressed-tensors, 4 bits", _quantized(test_compressed_tensors.packing(4), test_compressed_tensors.settings())),
    Row("torchao, 8 bits", _quantized(test_torchao.packing(8), test_torchao.SETTINGS, bits=8, symmetric=True)),
    Row("bitsandbytes, 8 bits", _quantized(test_bitsandbytes_8bit.pack, test_bitsandbytes_8bit.SETTINGS, bits=8, symmetric=True)),
    Row("bitsandbytes, NF4", _quantized(test_bitsandbytes_4bit.packing("nf4", True), test_bitsandbytes_4bit.SETTINGS)),
    Row("GGUF, Q8_0", _gguf),
    Row("CTranslate2, int8", _ctranslate2),
    Row("8-bit floats in blocks", _quantized(_FLOAT8, test_float8.BLOCKS)),
    Row("torch dynamic, 8 bits", _torch_dynamic, more=("--allow-pickle",)),
    Row(".onnx, dynamic int8", _onnx(tool_forms.dynamic()), CLASSIFIER, file="model.onnx"),
    Row(".onnx, static int8, QDQ", _onnx(tool_forms.static("QDQ")), CLASSIFIER, file="model.onnx"),
    Row(".onnx, static int8, QOperator", _onnx(tool_forms.static("QOperator")), CLASSIFIER, file="model.onnx"),
    Row(".onnx, 4 bits in blocks", _onnx(tool_forms.blocks(block_size=32)), CLASSIFIER, file="model.onnx"),
    Row(".onnx, fused, float16", _onnx(tool_forms.fused(half=True)), CLASSIFIER, file="model.onnx"),
    Row("LoRA adapter", _adapted),
    Row("DoRA adapter", _dora),
    Row("IA3 adapter", _ia3),
    Row("averages (EMA) beside the weights", _averaged),
    Row("SetFit", _setfit, CLASSIFIER, more=("--allow-pickle",)),
    Row("two heads on one encoder", _nothing, CLASSIFIER, more=("--task", CLASSIFIER), factory=f"{FACTORIES}:two_heads"),
    Row("Linformer", _nothing, factory=f"{FACTORIES}:linformer"),
    Row("Performer", _nothing, factory=f"{FACTORIES}:performer"),
)  # fmt: skip


def make_sibling(row: Row, folder: Path) -> Path:
    """Write the uncompressed model of a row's size: a BERT of 4 layers and hidden size 256, or as many layers as the row says."""
    return models.make_model(folder, "bert", row.task, **dict(row.sizes))


def make_adapter(base: Path, directory: Path) -> Path:
    """Write a random LoRA adapter for every linear layer of the blocks of `base`."""
    directory.mkdir(parents=True, exist_ok=True)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "bias": "none", "base_model_name_or_path": str(base)}
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    tensors = {}
    for path in sorted(base.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  no container
                shape = file.get_slice(name).get_shape()
                if ".layer." in name and len(shape) == 2:
                    stem = f"base_model.model.{name.removesuffix('.weight')}"
                    tensors[f"{stem}.lora_A.weight"] = torch.randn(RANK, shape[1]) * 0.01
                    tensors[f"{stem}.lora_B.weight"] = torch.randn(shape[0], RANK) * 0.01
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory
