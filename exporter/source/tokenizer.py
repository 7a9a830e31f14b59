"""Save the source's tokenizer as one `tokenizer.json` for the bundle. Functions import transformers when they are called."""

import json
import os
import warnings
from pathlib import Path
from typing import Any

from ...errors import HeadwayWarning, SourceError
from ...json_file import read_json
from ...manifest import TokenizerInfo
from ...system_errors import number_of
from ...text import TextEncoder
from .config import undone_config
from .overlay import origin_of
from .place import TOKENIZER_FILES
from .source import Source
from .whitespace_tokenizer import PADDING, read_whitespace_tokenizer
from .word_models import of_words

TOKENIZER_FILE = "tokenizer.json"
_USUAL_PADDING = ("[PAD]", "<pad>")


def source_tokenizer(source: Source) -> Any:
    """Load a source's tokenizer as its own library does. SourceError where there is none."""
    if source.tokenizer is not None:
        return source.tokenizer
    if not source.sentence_modules or source.kind == "onnx":
        return load_tokenizer(source.encoder_directory, source.spec, **undone_config(source))
    first = source.sentence_modules[0]
    if first.kind == "StaticEmbedding":
        return _static_tokenizer(first.folder / TOKENIZER_FILE)
    if of_words(source.sentence_modules):
        return read_whitespace_tokenizer(first.folder, int(source.config["vocab_size"]))
    tokenizer = load_tokenizer(first.folder, **undone_config(source), **first.tokenizer_settings)
    if first.config.get("do_lower_case") and source.judge_class is not None:
        _lower_case(tokenizer)
    return tokenizer


def _static_tokenizer(file: Path) -> Any:
    """Return the tokenizer of a static embedding, which is one file."""
    from transformers import PreTrainedTokenizerFast

    try:
        return PreTrainedTokenizerFast(tokenizer_file=str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise SourceError(f"{file}: the tokenizer does not load: {error}") from error


def _lower_case(tokenizer: Any) -> None:
    """Let a tokenizer lower its text first, unless it does already: so does sentence-transformers with `do_lower_case`."""
    from tokenizers import normalizers

    backend = tokenizer.backend_tokenizer
    probe = backend.normalizer.normalize_str("ABC") if backend.normalizer is not None else "ABC"
    if probe != "abc":
        steps = [normalizers.Lowercase(), *([backend.normalizer] if backend.normalizer is not None else [])]
        backend.normalizer = normalizers.Sequence(steps)


def load_tokenizer(directory: Path | None, spec: str | None = None, **settings: Any) -> Any:
    """Load the Hugging Face fast tokenizer of a directory. SourceError where there is none; `spec` names a source without one."""
    if directory is None or not any((directory / name).is_file() for name in TOKENIZER_FILES):
        place = (origin_of(directory) if directory else spec) or "the source"
        raise SourceError(
            f"{place}: no tokenizer (expected one of {', '.join(TOKENIZER_FILES[:3])} … beside it); it is needed, since every "
            "export is checked on real text"
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, **{"local_files_only": True, "use_fast": True, **settings})
    except Exception as error:  # transformers and tokenizers raise many kinds
        raise SourceError(
            f"{origin_of(directory)}: the tokenizer does not load: {str(error).splitlines()[0] if str(error) else error}"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise SourceError(
            f"{origin_of(directory)}: the tokenizer has no fast form, which is the one that runs without transformers"
        )
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        # A tokenizer.json alone names no roles. Which id pads is no part of an answer: the mask leaves it out.
        tokenizer.pad_token = next((token for token in _USUAL_PADDING if token in tokenizer.get_vocab()), None)
    return tokenizer


def source_encoder(source: Source, directory: Path) -> TextEncoder:
    """Write a source's tokenizer to `directory`, and open it as a bundle does. Its `info` goes into the manifest.

    SourceError where it gives ids that the model has no embedding for.
    """
    padding = PADDING if of_words(source.sentence_modules) else 0 if source.is_static else None
    longest = source.longest
    if source.allowed > longest:
        warnings.warn(
            f"{source.spec}: takes texts of {source.allowed:,} tokens, and the bundle reads the first {longest:,}, on which its "
            "answers are compared",
            HeadwayWarning,
            stacklevel=2,
        )
    info = save_tokenizer(source_tokenizer(source), longest, directory, padding, special=not source.is_static)
    encoder = TextEncoder(directory / info.file, info)
    known = source.config.get("vocab_size")
    if known is not None:
        check_embedded(encoder, int(known), f"{source.spec}", f"config.json says vocab_size = {known}")
    added = encoder.tokenizer.num_special_tokens_to_add(is_pair=False)
    if info.max_length <= added:
        raise SourceError(
            f"{source.spec}: a text may have {info.max_length} tokens, and the tokenizer adds {added}: nothing is left of it. "
            "See max_position_embeddings in config.json and model_max_length in tokenizer_config.json"
        )
    return encoder


def check_embedded(encoder: TextEncoder, rows: int, place: str, reason: str) -> None:
    """Raise SourceError where the tokenizer gives an id that is not among the `rows` of the embedding: a text would fail."""
    needed = max(encoder.tokenizer.get_vocab_size(with_added_tokens=False), encoder.info.pad_id + 1)
    if needed > rows:
        raise SourceError(f"{place}: the tokenizer has {needed} tokens, {reason}: they belong to different models")
    for index, token in sorted(encoder.tokenizer.get_added_tokens_decoder().items()):
        if index >= rows:
            raise SourceError(
                f"{place}: the added token {token.content!r} has the id {index}, {reason}, so it has no embedding: take it out of the "
                "tokenizer, or give it one by resize_token_embeddings"
            )


def save_tokenizer(
    tokenizer: Any, longest: int, directory: Path, padding: int | None = None, *, special: bool = True
) -> TokenizerInfo:
    """Write the tokenizer's files for every loader; return its entry for the manifest.

    `longest` is the limit in tokens, `padding` the id to pad with where no special token is for that. Without `special` it adds no special
    tokens.
    """
    for name, wanted in (("truncation_side", "right"), ("split_special_tokens", False)):
        given = getattr(tokenizer, name, wanted)
        if given != wanted:
            raise SourceError(
                f"the tokenizer says {name} = {given!r}, which a bundle's readers do not do: if your texts need none of it, set it "
                f"to {json.dumps(wanted)} in tokenizer_config.json"
            )
    try:
        tokenizer.save_pretrained(directory)
    except Exception as error:  # tokenizers raises plain Exception, with the system's number in its text
        number = number_of(error)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(directory)) from error
    pad = tokenizer.pad_token if tokenizer.pad_token is not None else tokenizer.eos_token
    if pad is None and padding is not None:
        pad = tokenizer.convert_ids_to_tokens(padding) or ""
    if pad is None:
        raise SourceError("the tokenizer has no padding token and no end-of-sequence token to pad with")
    mask = getattr(tokenizer, "mask_token_id", None)
    info = TokenizerInfo(
        file=TOKENIZER_FILE,
        max_length=longest,
        pad_id=int(tokenizer.convert_tokens_to_ids(pad)) if padding is None else padding,
        pad_type_id=int(getattr(tokenizer, "pad_token_type_id", 0) or 0),
        pad_token=str(pad),
        mask_id=None if mask is None else int(mask),
    )
    content = read_json(directory / TOKENIZER_FILE)
    if not special:
        content["post_processor"] = None
    if "token_type_ids" not in tokenizer.model_input_names:
        _leave_types_out(content)
    write_tokenizer(directory / TOKENIZER_FILE, content | limits(info))
    return info


def limits(info: TokenizerInfo) -> dict[str, Any]:
    """Return the entries of `tokenizer.json` by which every reader cuts and pads texts as the bundle does."""
    return {
        "truncation": {"direction": "Right", "max_length": info.max_length, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": "BatchLongest",
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": info.pad_id,
            "pad_type_id": info.pad_type_id,
            "pad_token": info.pad_token,
        },
    }


def write_tokenizer(path: Path, content: dict[str, Any]) -> None:
    """Write the content of a `tokenizer.json`."""
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _leave_types_out(content: dict[str, Any]) -> None:
    """Give every token type 0, as the model does for a source's tokenizer that gives no types, in both texts of a pair."""
    processor = content.get("post_processor") or {}
    for step in processor.get("processors", [processor]):
        if step.get("type") == "BertProcessing":
            template = _as_template(step)
            step.clear()  # keys that are left would make the file read as BERT's again
            step.update(template)
        for piece in [*step.get("single", []), *step.get("pair", [])]:
            next(iter(piece.values()))["type_id"] = 0


def _as_template(bert: dict[str, Any]) -> dict[str, Any]:
    """Return BERT's post-processor, which has its types built in, as the template that does the same."""
    cls, sep = ({"SpecialToken": {"id": bert[role][0], "type_id": 0}} for role in ("cls", "sep"))
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "type": "TemplateProcessing",
        "single": [cls, first, sep],
        "pair": [cls, first, sep, second, sep],
        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in (bert["cls"], bert["sep"])},
    }
