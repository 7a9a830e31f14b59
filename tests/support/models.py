"""Small random models of every family, written as Hugging Face directories, for tests and benchmarks."""

import json
import random
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

VOCABULARY = 300
WORDS = [
    "the",
    "a",
    "model",
    "text",
    "of",
    "and",
    "with",
    "time",
    "runs",
    "small",
    "large",
    "heads",
    "layer",
    "word",
    "piece",
    "number",
    "language",
    "price",
    "train",
    "bread",
    "rain",
]

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", _COMMON),
    "roberta": ("Roberta", _COMMON | {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", _COMMON | {"type_vocab_size": 1}),
    "camembert": ("Camembert", _COMMON | {"type_vocab_size": 1}),
    "distilbert": (
        "DistilBert",
        {
            "vocab_size": VOCABULARY,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "max_position_embeddings": 66,
            "pad_token_id": 0,
        },
    ),
    "albert": ("Albert", _COMMON | {"embedding_size": 16, "num_hidden_layers": 3}),
    "electra": ("Electra", _COMMON | {"embedding_size": 16}),
    "mobilebert": (
        "MobileBert",
        _COMMON
        | {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16, "num_feedforward_networks": 2},
    ),
    "mpnet": ("MPNet", _COMMON),
    "deberta-v2": (
        "DebertaV2",
        _COMMON
        | {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
            "type_vocab_size": 0,
            "max_relative_positions": -1,
        },
    ),
    "modernbert": (
        "ModernBert",
        _COMMON
        | {
            "num_hidden_layers": 4,
            "local_attention": 8,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "cls_token_id": 1,
            "sep_token_id": 2,
        },
    ),
}

SOONEST: dict[str, dict[str, int]] = {
    "distilbert": {"n_layers": 3},
    "albert": {"num_hidden_layers": 2},  # one layer, applied again and again
    "modernbert": {"num_hidden_layers": 2},  # one that attends to everything, one with a window
    "deberta-v2": {"num_hidden_layers": 1},  # its layers have more than one value in common
}

TASK_CLASSES = {
    "feature-extraction": "Model",
    "fill-mask": "ForMaskedLM",
    "text-classification": "ForSequenceClassification",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
    "multiple-choice": "ForMultipleChoice",
}


def soonest(family: str) -> dict[str, int]:
    """Return the depth of a model that is traced soonest: three equal layers are traced as one, where a family has them."""
    return SOONEST.get(family, {"num_hidden_layers": 3})


def model_class(family: str, task: str) -> type | None:
    """Return the transformers class of a family for a task; None where there is none."""
    return getattr(transformers, FAMILIES[family][0] + TASK_CLASSES[task], None)


def make_model(
    directory: Path, family: str = "bert", task: str = "feature-extraction", seed: int = 0, **changes: Any
) -> Path:
    """Write a random model of `family` with its tokenizer to `directory`; `changes` go into the config."""
    torch.manual_seed(seed)
    name, settings = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**settings, **changes})
    class_of_task = model_class(family, task)
    assert class_of_task is not None, f"{family} has no class for {task}"
    model = class_of_task(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # untrained norms and biases are ones and zeros, which would hide mistakes
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(directory)
    make_tokenizer(directory, family)
    return directory


def write_labeled(path: Path, count: int) -> Path:
    """At most `count` lines of random words, each with one of two labels."""
    rng = random.Random(1)
    lines = dict.fromkeys(" ".join(rng.choices(WORDS, k=rng.randint(2, 20))) for _ in range(count))
    path.write_text("\n".join(json.dumps({"text": t, "label": i % 2}) for i, t in enumerate(lines)))
    return path


def make_tokenizer(directory: Path, family: str = "bert", max_length: int = 64) -> None:
    """Return a small tokenizer of the family's kind: WordPiece, byte-level BPE or Unigram."""
    rng = random.Random(0)
    corpus = [" ".join(rng.choices(WORDS, k=8)) for _ in range(200)]
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    if family in ("roberta", "modernbert"):
        tokenizer = Tokenizer(models.BPE(unk_token=None))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer: Any = trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    elif family in ("xlm-roberta", "camembert", "albert", "deberta-v2"):
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", tokenizer.token_to_id("[CLS]")), ("[SEP]", tokenizer.token_to_id("[SEP]"))],
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
    )
    fast.save_pretrained(directory)


def make_sentence_model(
    directory: Path, pooling: str = "mean", normalize: bool = True, dense: bool = False, **changes: Any
) -> Path:
    """Return a sentence-transformers directory around a random BERT of one layer. `pooling` is one of its modes."""
    make_model(directory, "bert", **{"num_hidden_layers": 1, **changes})
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    if dense:
        modules.append(("Dense", "2_Dense"))
    if normalize:
        modules.append(("Normalize", f"{len(modules)}_Normalize"))
    listed = [
        {"idx": i, "name": str(i), "path": p, "type": f"sentence_transformers.models.{k}"}
        for i, (k, p) in enumerate(modules)
    ]
    (directory / "modules.json").write_text(json.dumps(listed))
    (directory / "1_Pooling").mkdir()
    keys = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    config: dict[str, Any] = {f"pooling_mode_{k}": k.startswith(pooling) and k != "mean_sqrt_len_tokens" for k in keys}
    if pooling == "mean_sqrt_len_tokens":
        config = {f"pooling_mode_{k}": k == pooling for k in keys}
    (directory / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **config}))
    if dense:
        from safetensors.torch import save_file

        (directory / "2_Dense").mkdir()
        settings = {
            "in_features": 32,
            "out_features": 24,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        }
        (directory / "2_Dense" / "config.json").write_text(json.dumps(settings))
        save_file(
            {"linear.weight": torch.randn(24, 32) * 0.3, "linear.bias": torch.randn(24)},
            directory / "2_Dense" / "model.safetensors",
        )
    return directory
