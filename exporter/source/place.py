"""Find out where the parts of a model lie that the user points at: weights, config, adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import SourceError
from .checkpoints.adapter import ADAPTER_CONFIG, ADAPTER_FILES, Adapter, adapter_file, adapter_settings, read_adapter
from .checkpoints.stored import Stored
from .formats.find_format import find_format
from .overlay import overlay
from .recurrent_weights import check_not_recurrent
from .sentence_modules import MODULES, STATIC, SentenceModule, read_modules
from .weight_files import check_file, has_weights, hint_at, usual_names, weight_files
from .word_models import of_words

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "spm.model",
    "tokenizer.model",
)
"""Files that a tokenizer may lie in."""


@dataclass(frozen=True)
class Place:
    """Where a model lies: the directory of its config and tokenizer, its weight files, and the adapters to be merged into them.

    `own_names`: the weight files have names by which transformers does not find them. `stored`: the model of a file in another
    runtime's format.
    """

    directory: Path
    files: tuple[Path, ...]
    adapters: tuple[Adapter, ...] = ()
    own_names: bool = False
    stored: Stored | None = None

    @property
    def all_files(self) -> tuple[Path, ...]:
        """The weight files, and those of the adapters."""
        names = [a.directory / n for a in self.adapters for n in (ADAPTER_CONFIG, *ADAPTER_FILES)]
        return (*self.files, *(path for path in names if path.is_file()))


def base_of(directory: Path) -> tuple[Path, Path | None]:
    """Return the directory of a model, and that of an adapter which lies in it, or in its place.

    An adapter without weights beside it names its base, whose files are then laid under its own. SourceError where that is no
    directory here.
    """
    if not (directory / ADAPTER_CONFIG).is_file():
        return directory, None
    settings = adapter_settings(directory)
    if not any((directory / name).is_file() for name in ADAPTER_FILES) and has_weights(directory):
        return directory, None  # factors that lie among the weights
    if has_weights(directory):
        return overlay([directory], without=(ADAPTER_CONFIG, *ADAPTER_FILES)), directory
    named = settings.get("base_model_name_or_path")
    places = [Path(str(named)), directory / str(named)] if named else []
    base = next((place for place in places if place.is_dir()), None)
    if base is None:
        raise SourceError(
            f"{directory / ADAPTER_CONFIG}: an adapter ({settings['peft_type']}) for {named}, which is no directory here: give the base "
            f"model as the source and {directory} as its adapter (`adapters`, --adapter)"
        )
    return overlay([directory, base], without=(ADAPTER_CONFIG, *ADAPTER_FILES)), directory


def with_base(directory: Path, route: str | None = None) -> tuple[Path, tuple[SentenceModule, ...], Path | None]:
    """Return a directory with the files of an adapter's base in it, its modules of sentence-transformers, and the adapter's directory.

    The adapter lies where the encoder does: in the folder of the first module, where there are modules.
    """
    modules = read_modules(directory, route)
    home = modules[0].folder if modules else directory
    complete, adapter = base_of(home)
    if complete == home:
        return directory, modules, adapter
    if home == directory:
        return complete, read_modules(complete, route), adapter
    around = overlay([directory], without=(home.name,))
    (around / home.name).symlink_to(complete)
    return around, read_modules(around, route), adapter


def locate(
    given: Path, adapters: Sequence[Path], *, file: Path | None = None, route: str | None = None, allow_pickle: bool
) -> tuple[Path, tuple[SentenceModule, ...], Place]:
    """Return the directory of a model, its modules of sentence-transformers, and where its parts lie.

    `file` is its weight file where the user named one, `route` that of a Router. SourceError where there is no config,
    where the first module is no encoder,
    or where weights or adapters are damaged or not allowed.
    """
    found = find_format(given if file is None else file)
    if found is not None:
        directory, stored = found
        if route is not None:
            raise SourceError(f"{given}: a model of another format has no route {route!r}: leave #{route} out")
        read = _read_adapters(adapters, allow_pickle)
        place = Place(directory, (stored.file,), read, stored=stored)
        return directory, read_modules(directory), place
    directory, modules, beside = with_base(given, route)
    home = modules[0].folder if modules else directory
    if of_words(modules) and file is None and not adapters:
        return directory, modules, Place(home, weight_files(home, allow_pickle))
    static = bool(modules) and modules[0].kind in STATIC
    if modules and not static and modules[0].kind not in ("Transformer", "MLMTransformer"):
        raise SourceError(
            f"{directory / MODULES}: the first module is {modules[0].type}: only directories that begin with a Transformer, WordEmbeddings "
            "or a static embedding are read; give the torch module as module:callable"
        )
    if not static and not (home / "config.json").is_file():
        if has_weights(home):
            check_not_recurrent(home, weight_files(home, allow_pickle))
        hint = hint_at(home, "*.onnx", "onnx/*.onnx")
        raise SourceError(f"{home}: no config.json, so this is not a Hugging Face model directory{hint}")
    if file is not None:
        check_file(file, allow_pickle)
    files = weight_files(home, allow_pickle) if file is None else (file,)
    read = _read_adapters([*([beside] if beside is not None else []), *adapters], allow_pickle)
    return directory, modules, Place(home, files, read, file is not None or not usual_names(files))


def _read_adapters(directories: Sequence[Path], allow_pickle: bool) -> tuple[Adapter, ...]:
    for directory in directories:
        if not (directory / ADAPTER_CONFIG).is_file():
            raise SourceError(f"{directory}: no {ADAPTER_CONFIG}, so this is no adapter of peft")
        check_file(adapter_file(directory), allow_pickle)
    return tuple(read_adapter(directory) for directory in directories)
