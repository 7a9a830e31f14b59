"""Read the directories of sentence-transformers that begin with word embeddings: settings, and the embeddings' shape."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import SourceError
from .checkpoints.state import listed, read_state
from .sentence_modules import SentenceModule
from .whitespace_tokenizer import FILE

WORDS = "WordEmbeddings"
"""The kind of module that such a directory begins with."""

_TABLE = "emb_layer.weight"
_MOST_TOKENS = 1 << 20


def of_words(modules: tuple[SentenceModule, ...]) -> bool:
    """Return whether a directory begins with word embeddings."""
    return bool(modules) and modules[0].kind == WORDS


def check_words(module: SentenceModule) -> None:
    """Raise SourceError where the words of a module are not split by the library's WhitespaceTokenizer."""
    tokenizer = str(module.config.get("tokenizer_class", "")).rsplit(".", 1)
    if tokenizer[-1] != "WhitespaceTokenizer" or not tokenizer[0].startswith("sentence_transformers"):
        raise SourceError(
            f"{module.file}: tokenizer_class = {module.config.get('tokenizer_class')!r}, and a bundle's tokenizer gives the ids of the "
            f"library's WhitespaceTokenizer ({FILE}) alone: give the torch module as module:callable, with a tokenizer.json"
        )


def word_config(module: SentenceModule, files: tuple[Path, ...]) -> dict[str, Any]:
    """Return what a config would say of word embeddings: how many there are, and the longest text in tokens.

    SourceError where the weights are anything but one table of embeddings.
    """
    check_words(module)
    state, _ = read_state(files)
    table = state.get(_TABLE)
    if table is None or len(state) > 1 or len(table.shape) != 2:
        shown = f"{list(table.shape)}" if table is not None else "missing"
        raise SourceError(
            f"{module.folder}: word embeddings are one table {_TABLE}, which is {shown} here, beside "
            f"{listed(sorted(state.keys() - {_TABLE}), 3) or 'nothing'}: give the files that the library saved"
        )
    longest = module.config.get("max_seq_length")
    return {
        "vocab_size": table.shape[0],
        "max_position_embeddings": min(longest, _MOST_TOKENS) if type(longest) is int and longest > 0 else _MOST_TOKENS,
    }


def _of_ones(strides: Any) -> bool:
    return isinstance(strides, list) and all(type(stride) is int and stride == 1 for stride in strides)


def check_convolution(settings: Mapping[str, Any], path: Path) -> None:
    """Raise SourceError for convolutions that leave another number of tokens than they were given."""
    kernels, strides = settings.get("kernel_sizes", [1, 3, 5]), settings.get("stride_sizes") or [1]
    if not isinstance(kernels, list) or not all(type(k) is int and k % 2 for k in kernels) or not _of_ones(strides):
        raise SourceError(
            f"{path}: kernel_sizes = {kernels} with stride_sizes = {strides}: convolutions of odd size and stride 1 alone leave a text "
            "as many tokens as it has, which pooling needs: give the model as module:callable"
        )
