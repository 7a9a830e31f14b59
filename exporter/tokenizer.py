"""The source's tokenizer as one `tokenizer.json` that travels with the bundle. Imports transformers inside."""

from pathlib import Path
from typing import Any

from .bundle import TextEncoder, TokenizerInfo
from .errors import SourceError
from .source import Source

_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
TOKENIZER_FILE = "tokenizer.json"


def load_tokenizer(directory: Path | None) -> Any:
    """The Hugging Face fast tokenizer of a directory. SourceError where there is none."""
    if directory is None or not any((directory / name).is_file() for name in _FILES):
        place = str(directory) if directory is not None else "the source"
        raise SourceError(
            f"{place}: no tokenizer (expected one of {', '.join(_FILES[:3])} …); it is needed, since every export is checked on real text"
        )
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, use_fast=True)
    except Exception as error:  # transformers and tokenizers raise many kinds
        raise SourceError(
            f"{directory}: the tokenizer does not load: {str(error).splitlines()[0] if str(error) else error}"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise SourceError(
            f"{directory}: the tokenizer has no fast form, which is the one that runs without transformers"
        )
    return tokenizer


def source_encoder(source: Source, directory: Path) -> TextEncoder:
    """Writes a source's tokenizer to `directory`, and opens it as a bundle does; its `info` is what the bundle needs to know."""
    info = save_tokenizer(load_tokenizer(source.directory), source.longest, directory)
    return TextEncoder(directory / info.file, info)


def save_tokenizer(tokenizer: Any, longest: int, directory: Path) -> TokenizerInfo:
    """Writes the tokenizer's files for every loader; returns what the bundle needs to know. `longest`: limit in tokens."""
    tokenizer.save_pretrained(directory)
    pad = tokenizer.pad_token if tokenizer.pad_token is not None else tokenizer.eos_token
    if pad is None:
        raise SourceError("the tokenizer has no padding token and no end-of-sequence token to pad with")
    return TokenizerInfo(
        file=TOKENIZER_FILE,
        max_length=longest,
        pad_id=int(tokenizer.convert_tokens_to_ids(pad)),
        pad_type_id=int(getattr(tokenizer, "pad_token_type_id", 0) or 0),
        pad_token=str(pad),
    )
