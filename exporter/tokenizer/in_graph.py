"""Write the tokenizer as a graph: a small model from text to ids, for ONNX Runtime with onnxruntime-extensions on the device.

The BERT tokenizer of onnxruntime-extensions gives other ids than the source's on much text beyond plain ASCII. So Headway packages it
only on request, and only after comparing its ids with the source's: classes of text in which they differ have to be accepted by name.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from ...errors import SourceError, TargetError, UsageError
from ...json_file import read_json
from ...manifest import Manifest, TokenizerInfo
from ...text import TextEncoder
from .check import PLAIN, TokenAgreement, compare_ids, unicode_lines

GRAPH_FILE = "tokenizer.onnx"
REPORT_FILE = "tokenizer_agreement.json"
CHECKED_LINES = 10_000
_DOMAIN = "ai.onnx.contrib"
_OUTPUTS = ("input_ids", "token_type_ids", "attention_mask")


def write_in_graph(bundle_directory: Path, out: Path, accepted: Collection[str] = ()) -> list[Path]:
    """Write `tokenizer.onnx` (input `text`, string `[1]`; outputs int64 `[tokens]`) and a report of how far its ids agree.

    `accepted`: classes of text (`check.classes_of`) in which ids may differ. Raise GateError naming every other class in which they
    differ, with nothing written; SourceError where the tokenizer is not BERT's; TargetError without onnxruntime-extensions.
    """
    info = Manifest.read(bundle_directory).tokenizer
    path = bundle_directory / info.file
    graph = text_graph(read_json(path), info)
    agreement = check_in_graph(graph, path, info, unicode_lines(0, CHECKED_LINES))
    known = {PLAIN, *(c.name for c in agreement.classes)}
    if unknown := sorted(set(accepted) - known):
        raise UsageError(f"no such class of text: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    agreement.require("the tokenizer in the graph", accepted)
    out.mkdir(parents=True, exist_ok=True)
    (out / GRAPH_FILE).write_bytes(graph)
    report = {"accepted": sorted(accepted), **agreement.to_json()}
    (out / REPORT_FILE).write_text(json.dumps(report, indent=2, ensure_ascii=True) + "\n", encoding="utf-8")
    return [out / GRAPH_FILE, out / REPORT_FILE]


def text_graph(tokenizer: dict[str, Any], info: TokenizerInfo) -> bytes:
    """Return an ONNX model around onnxruntime-extensions' BertTokenizer, from the content of a `tokenizer.json`.

    Raise SourceError where the tokenizer is not BERT's.
    """
    import onnx

    model, normalizer = tokenizer["model"], tokenizer.get("normalizer") or {}
    if model["type"] != "WordPiece" or normalizer.get("type") != "BertNormalizer":
        raise SourceError(
            f"only BERT's tokenizer is put into the graph; this one has a model of type {model['type']} and a normalizer of type "
            f"{normalizer.get('type')}: use the reader for phones or the tokenizer's own files"
        )
    vocabulary = sorted(model["vocab"], key=model["vocab"].get)
    if [model["vocab"][t] for t in vocabulary] != list(range(len(vocabulary))):
        raise SourceError("ids of the vocabulary have gaps, which a tokenizer in the graph has no way to express")
    accents = normalizer["strip_accents"]
    uncut = [f"{name}_uncut" for name in _OUTPUTS]
    tokenize = onnx.helper.make_node(
        "BertTokenizer",
        ["text"],
        uncut,
        domain=_DOMAIN,
        vocab_file="\n".join(vocabulary),
        do_lower_case=int(normalizer["lowercase"]),
        strip_accents=int(normalizer["lowercase"] if accents is None else accents),
        tokenize_chinese_chars=int(normalizer["handle_chinese_chars"]),
        unk_token=model["unk_token"],
        suffix_indicator=model["continuing_subword_prefix"],
    )
    # Version 0.15.2 ignores its own limit: ids are cut here, and the last token is set again.
    end = _end_token(tokenizer)
    constants = {"zero": [0], "last": [-1], "room": [info.max_length - 1], "end": [end], "type": [0], "seen": [1]}
    nodes = [tokenize]
    for before, name, closing in zip(uncut, _OUTPUTS, ("end", "type", "seen"), strict=True):
        nodes += [
            onnx.helper.make_node("Slice", [before, "zero", "last"], [f"{name}_open"]),
            onnx.helper.make_node("Slice", [f"{name}_open", "zero", "room"], [f"{name}_cut"]),
            onnx.helper.make_node("Concat", [f"{name}_cut", closing], [name], axis=0),
        ]
    graph = onnx.helper.make_graph(
        nodes,
        "tokenizer",
        [onnx.helper.make_tensor_value_info("text", onnx.TensorProto.STRING, [1])],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["tokens"]) for name in _OUTPUTS],
        [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", 23), onnx.helper.make_opsetid(_DOMAIN, 1)]
    return onnx.helper.make_model(
        graph, opset_imports=opsets, ir_version=10, producer_name="headway"
    ).SerializeToString()


def _end_token(tokenizer: dict[str, Any]) -> int:
    from tokenizers import Tokenizer

    around = Tokenizer.from_str(json.dumps(tokenizer | {"padding": None})).encode("").ids
    if len(around) != 2:
        raise SourceError(
            "a tokenizer in the graph puts one token before the text and one behind it; this one does not"
        )
    return around[1]


def check_in_graph(graph: bytes, tokenizer_file: Path, info: TokenizerInfo, lines: list[str]) -> TokenAgreement:
    """Compare the graph's token ids, computed here, with those of a `tokenizer.json`."""
    try:
        from onnxruntime_extensions import get_library_path
    except ImportError as error:
        raise TargetError(
            "a tokenizer in the graph needs onnxruntime-extensions, here and on the device: pip install 'headway[in-graph]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    actual = [session.run(["input_ids"], {"text": np.array([line], dtype=object)})[0].tolist() for line in lines]
    expected = [e.ids for e in TextEncoder(tokenizer_file, info).encode(lines)]
    return compare_ids(expected, actual, lines)
