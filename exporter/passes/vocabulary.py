"""Trim the vocabulary: rows of the token embedding, the output head and the tokenizer together, so that ids stay consistent.

The tokens of most expected use stay (`token_use` estimates it), and every special token, and single characters or bytes as a
fallback. Text whose tokens all stay becomes the same tokens as before: WordPiece takes the longest piece and Unigram the most likely
path, which a smaller vocabulary that holds them cannot change. BPE needs the merges that lead to each token, which are kept as well.
Other text still becomes tokens, only more of them.
"""

import json
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from ...errors import SourceError, UsageError
from ..graph.edit import attribute_int, attribute_ints, constant, consumers, dims, initializer
from .cuts import set_array
from .token_use import TokenUse

COVERAGE = 0.999
"""Of a thousand tokens to come one is spelled by others: about one text in forty changes."""

_SEES_THROUGH = ("Reshape", "Cast", "Identity", "Unsqueeze", "Squeeze")
_STALE = ("sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model")


def tokens_to_keep(tokenizer: Mapping[str, Any], used: Collection[int]) -> list[int]:
    """Return the ids to keep, ascending, for the content of a `tokenizer.json` and the ids that text uses."""
    model = tokenizer["model"]
    vocabulary = vocabulary_of(model)
    kept_ids = {t["id"] for t in tokenizer.get("added_tokens", [])}
    kept_ids |= set(used) | {i for token, i in vocabulary.items() if _is_fallback(token, model)}
    if tokenizer.get("padding"):  # the padding of word embeddings is a word, which no added token names
        kept_ids.add(tokenizer["padding"]["pad_id"])
    if model.get("unk_id") is not None:
        kept_ids.add(model["unk_id"])
    if model.get("unk_token") in vocabulary:
        kept_ids.add(vocabulary[model["unk_token"]])
    if model["type"] == "BPE":
        kept_ids |= _needed_by_merges(model, vocabulary, kept_ids)
    return sorted(kept_ids)


def choose_tokens(
    tokenizer: Mapping[str, Any],
    use: TokenUse,
    *,
    tokens: int | None = None,
    coverage: float = COVERAGE,
    keep_scripts: Sequence[str] = (),
) -> list[int]:
    """Return the ids to keep, ascending: as few as cover `coverage` of unseen text, or the `tokens` of most expected use.

    The fallback of `tokens_to_keep` and all tokens of `keep_scripts` are among them. UsageError where those alone are more than
    `tokens`, or no token is of such a script.
    """
    check_scripts(keep_scripts, use.scripts)
    always = [i for i, name in enumerate(use.scripts) if name in keep_scripts]
    ranked = use.ranked

    def kept(count: int) -> list[int]:
        return tokens_to_keep(tokenizer, {*always, *ranked[:count]})

    needed = kept(0)
    if tokens is not None and len(needed) > tokens:
        raise UsageError(
            f"{tokens} tokens are too few: special tokens, single characters and the scripts to keep alone are {len(needed)}"
        )

    def enough(count: int) -> bool:
        return len(kept(count)) > tokens if tokens is not None else use.coverage(count, needed) >= coverage

    # Kept tokens only grow in number with `count`; a token may need others by its merges.
    count = bisect_left(range(len(ranked)), True, key=enough)
    return kept(count - 1 if tokens is not None and enough(count) else count)


def check_scripts(names: Sequence[str], scripts: Collection[str]) -> None:
    """Raise UsageError where a script to keep is none of those that tokens are of."""
    for name in names:
        if name not in scripts:
            raise UsageError(
                f"trim_vocabulary: no token is of script {name!r}; the tokenizer has {', '.join(sorted(set(scripts)))}"
            )


def single_characters(tokenizer: Mapping[str, Any]) -> set[int]:
    """Return the ids of special tokens, single characters and bytes, which always stay."""
    return set(tokens_to_keep(tokenizer, ()))


def vocabulary_of(model: Mapping[str, Any]) -> dict[str, int]:
    """Return token → id. SourceError names an unknown kind of tokenizer."""
    kind = model.get("type")
    if kind in ("WordPiece", "BPE", "WordLevel"):
        return dict(model["vocab"])
    if kind == "Unigram":
        return {piece: i for i, (piece, _) in enumerate(model["vocab"])}
    raise SourceError(
        f"the vocabulary of a {kind} tokenizer cannot be trimmed; known: WordPiece, BPE, Unigram, WordLevel"
    )


def _is_fallback(token: str, model: Mapping[str, Any]) -> bool:
    """Return True for a single character, in any form in which the tokenizer can need it, and for a byte."""
    prefix, suffix = model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""
    bare = token.removeprefix(prefix) if prefix else token
    bare = bare.removesuffix(suffix) if suffix and len(bare) > len(suffix) else bare
    return len(bare) == 1 or (token.startswith("<0x") and token.endswith(">") and len(token) == 6)


def _pairs(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the merges of a BPE model, which older files hold as strings and newer ones as lists."""
    parts = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
    return [(first, second) for first, second, *_ in parts]


def _merged(pair: tuple[str, str], model: Mapping[str, Any]) -> str:
    return pair[0] + pair[1].removeprefix(model.get("continuing_subword_prefix") or "")


def _needed_by_merges(model: Mapping[str, Any], vocabulary: Mapping[str, int], kept_ids: Collection[int]) -> set[int]:
    """Return the ids of every token from which a kept one can be merged."""
    merges_to: dict[str, list[tuple[str, str]]] = {}
    for pair in _pairs(model):
        merges_to.setdefault(_merged(pair, model), []).append(pair)
    names = {i: t for t, i in vocabulary.items()}
    queue = [names[i] for i in kept_ids if i in names]
    visited = set(queue)
    while queue:
        for pair in merges_to.get(queue.pop(), []):
            new = [t for t in pair if t not in visited]
            visited.update(new)
            queue += new
    return {vocabulary[t] for t in visited if t in vocabulary}


def trim_tokenizer(tokenizer: Mapping[str, Any], keep: Sequence[int]) -> dict[str, Any]:
    """Return the content of a `tokenizer.json` whose ids are indices into `keep`. SourceError where a needed id is dropped."""
    new = {old: i for i, old in enumerate(keep)}
    trimmed = json.loads(json.dumps(tokenizer))
    model = trimmed["model"]
    vocabulary = vocabulary_of(model)
    if model["type"] == "Unigram":
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new]
        if model.get("unk_id") is not None:
            model["unk_id"] = _new_id(new, model["unk_id"], "the unknown token")
    else:
        model["vocab"] = {t: new[i] for t, i in sorted(vocabulary.items(), key=lambda item: item[1]) if i in new}
    if model["type"] == "BPE":
        there = model["vocab"]
        pairs = [(raw, pair) for raw, pair in zip(model["merges"], _pairs(model), strict=True)]
        model["merges"] = [raw for raw, pair in pairs if {*pair, _merged(pair, model)} <= there.keys()]
    for token in trimmed.get("added_tokens", []):
        token["id"] = _new_id(new, token["id"], token["content"])
    if trimmed.get("padding"):
        trimmed["padding"]["pad_id"] = _new_id(new, trimmed["padding"]["pad_id"], "the padding token")
    if trimmed.get("post_processor"):
        _renumber_post_processor(trimmed["post_processor"], new)
    return trimmed


def _new_id(new: Mapping[int, int], old: int, what: str) -> int:
    if old not in new:
        raise SourceError(f"id {old} ({what}) is needed by the tokenizer and would be dropped")
    return new[old]


def _renumber_post_processor(processor: dict[str, Any], new: Mapping[int, int]) -> None:
    kind = processor["type"]
    if kind == "Sequence":
        for step in processor["processors"]:
            _renumber_post_processor(step, new)
    elif kind == "TemplateProcessing":
        for name, token in processor["special_tokens"].items():
            token["ids"] = [_new_id(new, i, name) for i in token["ids"]]
    elif kind in ("BertProcessing", "RobertaProcessing"):
        for role in ("sep", "cls"):
            name, old = processor[role]
            processor[role] = [name, _new_id(new, old, name)]
    elif kind != "ByteLevel":
        raise SourceError(f"a {kind} post-processor may hold ids that cannot be renumbered")


def trim_directory(directory: Path, keep: Sequence[int]) -> None:
    """Rewrite the tokenizer files of a directory, and delete files of older formats, which would be stale."""
    path = directory / "tokenizer.json"
    trimmed = trim_tokenizer(json.loads(path.read_text(encoding="utf-8")), keep)
    path.write_text(json.dumps(trimmed, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    vocabulary = vocabulary_of(trimmed["model"])
    new = {old: i for i, old in enumerate(keep)}
    if (directory / "vocab.txt").is_file():
        names = sorted(vocabulary, key=vocabulary.__getitem__)
        (directory / "vocab.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    if (directory / "vocab.json").is_file():
        (directory / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    for name in ("merges.txt", *_STALE):
        (directory / name).unlink(missing_ok=True)
    settings = directory / "tokenizer_config.json"
    if settings.is_file():
        content = json.loads(settings.read_text(encoding="utf-8"))
        if "added_tokens_decoder" in content:
            old = content["added_tokens_decoder"]
            content["added_tokens_decoder"] = {str(new[int(i)]): t for i, t in old.items() if int(i) in new}
        settings.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def trimmed_config(config: Mapping[str, Any], keep: Sequence[int]) -> dict[str, Any]:
    """Return a `config.json` with the new size and ids. SourceError where a token that it names was dropped."""
    new = {old: i for i, old in enumerate(keep)}
    changed = dict(config)
    changed["vocab_size"] = len(keep)
    for key, value in config.items():
        if key.endswith("_token_id") and value is not None:
            ids = value if isinstance(value, list) else [value]
            renumbered = [_new_id(new, i, key) for i in ids]
            changed[key] = renumbered if isinstance(value, list) else renumbered[0]
    return changed


@dataclass(frozen=True)
class TrimVocabulary:
    """Keep the rows `keep` of the token embedding, ascending; row `keep[i]` becomes row `i`, in inputs and in logits."""

    keep: tuple[int, ...]

    def apply(self, model: ir.Model) -> tuple[int, int]:
        """Edit the model; return the number of rows before and after.

        Raises UsageError for ids out of range or out of order; SourceError where the model computes with ids in another way
        than by looking them up or comparing them with a constant.
        """
        graph = model.graph
        ids = next((i for i in graph.inputs if i.name == "input_ids"), None)
        lookups, comparisons = _readers(ids) if ids is not None else ([], [])
        if not lookups:
            raise SourceError("no embedding is looked up by input_ids")
        embedding = lookups[0].inputs[0]
        rows = (dims(embedding) or [None])[0]
        assert embedding is not None and rows is not None
        if any(b <= a for a, b in zip(self.keep, self.keep[1:], strict=False)) or not self.keep or self.keep[0] < 0:
            raise UsageError("the ids to keep have to be ascending, each once")
        if self.keep[-1] >= rows:
            raise UsageError(f"id {self.keep[-1]} is out of range: the embedding has {rows} rows")
        cut = _Cut(rows, np.asarray(self.keep, np.int64))
        cut.along(embedding, 0)
        for value in graph.outputs:
            if str(value.name) == "logits" and (dims(value) or [None])[-1] == rows:
                cut.along(value, len(dims(value) or ()) - 1)
        new = {old: i for i, old in enumerate(self.keep)}
        for node, slot in comparisons:
            old = constant(node.inputs[slot])
            assert old is not None
            fresh = np.vectorize(lambda i: new.get(int(i), -1), otypes=[old.dtype])(old)
            name = f"{node.name}.kept.{'x'.join(map(str, fresh.reshape(-1)))}"
            node.replace_input_with(slot, initializer(graph, name, fresh.reshape(old.shape)))
        return rows, len(self.keep)


def _readers(ids: ir.Value) -> tuple[list[ir.Node], list[tuple[ir.Node, int]]]:
    """Return the lookups by token ids, and the comparisons of ids with a constant as (node, index of the constant)."""
    lookups, comparisons, queue = [], [], [ids]
    while queue:
        value = queue.pop()
        for node in consumers(value):
            if node.op_type == "Gather" and node.inputs[1] is value and node.inputs[0] is not value:
                lookups.append(node)
            elif node.op_type == "Equal" and (slot := _constant_slot(node, value)) is not None:
                comparisons.append((node, slot))
            elif node.op_type in _SEES_THROUGH and node.inputs[0] is value:
                queue.extend(node.outputs)
            elif node.op_type != "Shape":
                raise SourceError(
                    f"node {node.name!r} ({node.op_type}) computes with token ids; they cannot be renumbered"
                )
    return lookups, comparisons


def _constant_slot(node: ir.Node, value: ir.Value) -> int | None:
    slot = 1 if node.inputs[0] is value else 0
    return slot if constant(node.inputs[slot]) is not None else None


@dataclass
class _Cut:
    """Cut an axis of `rows` entries to `indices`, from a value back to the weights that it is computed from."""

    rows: int
    indices: np.ndarray

    def along(self, value: ir.Value | None, axis: int) -> None:
        """Cut a value along `axis`. SourceError names a node through which that cannot be done."""
        shape = dims(value)
        if value is None or shape is None or shape[axis] != self.rows:
            return  # cut before, or broadcast along this axis
        resized = list(value.shape or ())
        resized[axis] = len(self.indices)
        if value.is_initializer():
            array = constant(value)
            assert array is not None
            set_array(value, np.ascontiguousarray(np.take(array, self.indices, axis=axis)))
            return
        node = value.producer()
        from_right = axis - len(shape)
        if node is None:
            raise SourceError(f"input {value.name!r} has the vocabulary's size; it cannot be trimmed")
        if node.op_type in ("Add", "Sub", "Mul", "Div", "Where"):
            for v in node.inputs:
                rank = len(dims(v) or ())
                if rank >= -from_right:
                    self.along(v, rank + from_right)
        elif node.op_type == "MatMul" and from_right == -1:
            self.along(node.inputs[1], len(dims(node.inputs[1]) or ()) - 1)
        elif node.op_type == "Gemm" and from_right == -1:
            transposed = bool(attribute_int(node, "transB", 0))
            self.along(node.inputs[1], 0 if transposed else 1)
            if len(node.inputs) > 2:
                self.along(node.inputs[2], len(dims(node.inputs[2]) or ()) - 1)
        elif node.op_type == "Transpose":
            self.along(node.inputs[0], attribute_ints(node, "perm")[axis])
        elif node.op_type == "Concat" and attribute_int(node, "axis") % len(shape) != axis:
            for v in node.inputs:
                self.along(v, axis)
        elif node.op_type in ("Identity", "Cast"):
            self.along(node.inputs[0], axis)
        else:
            raise SourceError(
                f"node {node.name!r} ({node.op_type}) computes logits over tokens in a way that cannot be trimmed"
            )
        value.shape = ir.Shape(resized)
