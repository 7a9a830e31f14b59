"""Tell whether a path is a model in another runtime's format, and lay it out as a directory that is read like any other."""

import json
import re
from pathlib import Path

from ....errors import SourceError
from ....json_file import read_json
from ..checkpoints.stored import Stored
from ..overlay import overlay
from ..sentence_modules import MODULES
from .ctranslate2 import FILE, is_ctranslate2, read_ctranslate2
from .gguf import read_gguf
from .gguf_models import read_model
from .wordpiece import vocabulary_lines

_TOKENIZERS = ("tokenizer.json", "vocab.txt")
_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")


def find_format(path: Path) -> tuple[Path, Stored] | None:
    """Return a directory with the config and tokenizer of a model in another format, and the model; None for a path of any other kind.

    `path` is a GGUF file, a directory with one and no config.json, a directory of CTranslate2 or its model.bin.
    SourceError where it is damaged.
    Files of a tokenizer are linked where they are whole, and written where there is none: never both, since a link would be written
    through.
    """
    stored = _stored(path)
    if stored is None:
        return None
    home = path if path.is_dir() else path.parent
    beside = any((home / name).is_file() for name in _TOKENIZERS)
    alone = next((home / name for name in _SETTINGS if (home / name).is_file()), None)
    if alone is not None and not beside:
        raise SourceError(
            f"{alone}: its tokenizer is not beside it, and this file alone is not followed: copy tokenizer.json here, too, or remove it"
        )
    kept = [home / name for name in (*(_TOKENIZERS + _SETTINGS if beside else ()), "README.md", "LICENSE")]
    gone = [entry.name for entry in home.iterdir() if entry not in kept]
    folder = overlay([home], without=gone, config=stored.config, origin=path)
    if beside:
        _check_beside(home, stored)
    else:
        stored.write_tokenizer(folder)
    _write_modules(folder, stored)
    return folder, stored


def _check_beside(home: Path, stored: Stored) -> None:
    """Refuse a tokenizer by which ids are other tokens than the model's own file says."""
    path = next(home / name for name in _TOKENIZERS if (home / name).is_file())
    for piece, index in _pieces_of(path):
        if not stored.has_token(index, piece):
            raise SourceError(
                f"{path}: its token {index} is {piece!r}, and {stored.file} has another one there: copy the tokenizer of this model here"
            )


def _pieces_of(path: Path) -> list[tuple[str, int]]:
    """Return the pieces and ids of a tokenizer's file; none where it holds them in another way."""
    if path.suffix == ".txt":
        return [(line, index) for index, line in enumerate(vocabulary_lines(path, errors="replace"))]
    model = read_json(path).get("model")
    pieces = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(pieces, list):  # of Unigram, each with its score
        return [(str(entry[0]), index) for index, entry in enumerate(pieces) if isinstance(entry, list) and entry]
    return [(p, i) for p, i in pieces.items() if type(i) is int] if isinstance(pieces, dict) else []


def _write_modules(folder: Path, stored: Stored) -> None:
    """Write what sentence-transformers would have saved of the modules behind the encoder; nothing where there is none."""
    if not stored.modules:
        return
    places = [("Transformer", ""), *((kind, f"{i}_{kind}") for i, (kind, _) in enumerate(stored.modules, 1))]
    listed = [
        {"idx": i, "name": str(i), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, place) in enumerate(places)
    ]
    (folder / MODULES).write_text(json.dumps(listed), encoding="utf-8")
    for (_, place), (_, settings) in zip(places[1:], stored.modules, strict=True):
        (folder / place).mkdir()
        (folder / place / "config.json").write_text(json.dumps(settings), encoding="utf-8")


def _stored(path: Path) -> Stored | None:
    if path.is_file() and path.suffix == ".gguf":
        return read_model(read_gguf(path))
    if path.is_file() and path.name == FILE and is_ctranslate2(path.parent):
        return read_ctranslate2(path.parent)
    if not path.is_dir():
        return None
    if is_ctranslate2(path):
        return read_ctranslate2(path)
    files = [] if (path / "config.json").is_file() else sorted(path.glob("*.gguf"))
    if len(files) > 1 and not all(_PART.search(file.name) for file in files):
        raise SourceError(f"{path}: several GGUF files, {', '.join(f.name for f in files[:5])}: give the path of one")
    return read_model(read_gguf(files[0])) if files else None
