"""Package a bundle as a folder for an app: Android assets, iOS resources, or an npm package, within a size.

    android  src/main/assets/headway/  model, tokenizer, license    src/main/kotlin/headway/  Model, Tokenizer    src/main/cpp/  its reader
    ios      Resources/headway/        model, tokenizer, license    Sources/                  Model, Tokenizer    Sources/tokenizer/
    web      the bundle's own files, index.js and package.json

README.md, SHA256SUMS (as `sha256sum -c` reads it) and headway-package.json come with them. The size that counts is that of all files
together. The templates of the code are in `snippets`.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...errors import GateError, SourceError, UsageError
from ...json_file import read_json
from ...manifest import Manifest, file_records, read_checked
from ...scratch import scratch
from ..publish.staging import staged
from ..recipe.targets import Platform
from ..source.license import LICENSE_FILES
from ..tokenizer.reader import write_reader
from .snippets.common import FOLDER, Snippet
from .snippets.writers import snippet

PACKAGE_FILE = "headway-package.json"
SUMS_FILE = "SHA256SUMS"
_LARGEST = 5
_PLACES: dict[Platform, tuple[str, str]] = {
    "android": (f"src/main/assets/{FOLDER}", f"src/main/kotlin/{FOLDER}"),
    "ios": (f"Resources/{FOLDER}", "Sources"),
    "web": ("", ""),
}
"""Where the model and the source code go."""

_NATIVE = {"android": "src/main/cpp", "ios": "Sources/tokenizer"}
"""Where the tokenizer's reader in C++ goes."""

_READER = {
    "android": "Text becomes token ids by `Tokenizer` (Tokenizer.kt says how it is opened); name `src/main/cpp/CMakeLists.txt` in "
    "`externalNativeBuild { cmake { path … } }`.",
    "ios": "Text becomes token ids by `Tokenizer` (Tokenizer.swift says how it is opened); add `Sources/tokenizer` to target and "
    "import paths.",
}

_NOT_FOR_WEB = ("recipe.yaml", "README.md", "package.json", "package-lock.json", "required_operators_and_types.config")


@dataclass(frozen=True)
class Packaged:
    """What was written: bytes by file."""

    path: Path
    files: dict[str, int]

    @property
    def nbytes(self) -> int:
        return sum(self.files.values())


def package(
    bundle: Path, platform: Platform, out: Path, *, max_mb: float | None = None, force: bool = False
) -> Packaged:
    """Write the folder for `platform` at `out`, completely or not at all.

    Raise UsageError where the bundle's target does not run there or `max_mb` is no size, SourceError where a file of the bundle is
    missing or changed, and GateError where all files together exceed `max_mb` (10^6 bytes each), with the largest tensors.
    """
    if max_mb is not None and not max_mb > 0:
        raise UsageError(f"--max-mb {max_mb:g}: a size above 0 is expected")
    manifest = read_checked(bundle)
    code = snippet(manifest, platform)
    with staged(out, force=force, marker=PACKAGE_FILE) as staging:
        assets, sources = (staging / place for place in _PLACES[platform])
        for folder in (assets, sources):
            folder.mkdir(parents=True, exist_ok=True)
        copied = _copy_model(bundle, manifest, platform, assets)
        read, tokenizer = copy_tokenizer(bundle, manifest, platform, staging)
        copied += [p for p in read if p not in copied]
        (sources / code.file).write_text(code.text, encoding="utf-8")
        license = copy_license(bundle, manifest, assets)
        if platform == "web":
            _write_npm(staging, bundle, out.resolve().name, manifest)
        _write_readme(staging, manifest, platform, code, tokenizer, license)
        about = _about(manifest, platform, license, [p.relative_to(staging).as_posix() for p in copied])
        (staging / PACKAGE_FILE).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        files = write_sums(staging)
        check_budget(files, max_mb, bundle, manifest)
    return Packaged(out, files)


def write_sums(folder: Path) -> dict[str, int]:
    """Write the checksums of all files of a folder as `sha256sum -c` reads them; return the bytes of each file, these among them."""
    sums = file_records(folder)
    text = "".join(f"{record['sha256']}  {name}\n" for name, record in sums.items())
    (folder / SUMS_FILE).write_text(text, encoding="utf-8")
    return {name: int(record["bytes"]) for name, record in sums.items()} | {SUMS_FILE: len(text.encode())}


def check_budget(files: dict[str, int], max_mb: float | None, bundle: Path, manifest: Manifest) -> None:
    """Raise GateError where the files together exceed `max_mb`."""
    total = sum(files.values())
    if max_mb is None or total <= max_mb * 1e6:
        return
    largest = ", ".join(f"{name} {nbytes:,} bytes" for name, nbytes in largest_tensors(bundle, manifest)[:_LARGEST])
    rest = total - max(files.values())
    raise GateError(
        f"the package has {total / 1e6:.2f} MB, {total / 1e6 - max_mb:.2f} MB over the {max_mb:g} allowed ({rest / 1e6:.2f} MB of it "
        f"beside the model). Largest tensors: {largest}. Quantize them, trim the vocabulary (recipe: trim_vocabulary with tokens) or cut "
        "(fit). Nothing was written"
    )


def largest_tensors(bundle: Path, manifest: Manifest) -> list[tuple[str, int]]:
    """Return the tensors of an artifact by their Hugging Face names with bytes, largest first.

    For files whose tensors cannot be read here (`.pte`, `.tflite`, Core ML) they are the embeddings of the graph that the files were
    made from, in float32.
    """
    path = bundle / manifest.artifact
    if path.suffix == ".ort":
        from ..targets.phones.ort_format import largest_first, read_ort

        return [(t.name, t.nbytes) for t in largest_first(read_ort(path))]
    if path.suffix == ".onnx":
        import onnx_ir as ir

        tensors = ir.load(path).graph.initializers.items()
        sizes = [(str(n), int(v.const_value.nbytes)) for n, v in tensors if v.const_value is not None]
        return sorted(sizes, key=lambda t: (-t[1], t[0]))
    tables = manifest.anatomy["embeddings"].items()
    sizes = [(f"{name} (in float32)", 4 * shape[0] * shape[1]) for name, shape in tables]
    return sorted(sizes, key=lambda t: (-t[1], t[0]))


def copy_tokenizer(bundle: Path, manifest: Manifest, platform: Platform, staging: Path) -> tuple[list[Path], str]:
    """Copy what turns text into token ids on a device; return the files, and a sentence about them.

    Phones get the small reader of `tokenizer.reader` and its compact file, whose ids were compared with the bundle's. Where it does not
    read the tokenizer exactly, they get `tokenizer.json` for the tokenizers library itself, as the web does.
    """
    refusal = ""
    if platform != "web":
        try:
            return _copy_reader(bundle, platform, staging)
        except SourceError as error:
            refusal = f"The reader for phones does not read this tokenizer ({error}): the tokenizers library, built for the phone, reads "
    names = [manifest.tokenizer.file]
    if platform == "web":
        names += [n for n in ("tokenizer_config.json", "config.json") if n in manifest.files]
    copied = [_without_white_space(bundle / name, staging / _PLACES[platform][0] / name) for name in names]
    _check_same_tokenizer(bundle / manifest.tokenizer.file, copied[0])
    return copied, f"{refusal}`{manifest.tokenizer.file}`{' holds the tokenizer' if not refusal else ''}."


def _copy_reader(bundle: Path, platform: Literal["android", "ios"], staging: Path) -> tuple[list[Path], str]:
    assets, sources = (staging / place for place in _PLACES[platform])
    native = staging / _NATIVE[platform]
    with scratch() as folder:
        written = write_reader(bundle, Path(folder), platform)
        copied = []
        for file in written:
            place = assets if file == written[0] else sources if file.suffix in (".kt", ".swift") else native
            place.mkdir(parents=True, exist_ok=True)
            copied.append(Path(shutil.move(file, place / file.name)))
    return copied, _READER[platform]


def _without_white_space(file: Path, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    content = read_json(file)
    to.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    return to


def _check_same_tokenizer(before: Path, after: Path) -> None:
    from tokenizers import Tokenizer

    try:
        a, b = (Tokenizer.from_file(str(p)).to_str() for p in (before, after))
    except Exception as error:  # tokenizers raises plain Exception
        raise SourceError(f"{before}: not a tokenizer file ({error})") from error
    if a != b:
        raise GateError(f"{before}: without white space it would be a different tokenizer; please report this")


def _copy_model(bundle: Path, manifest: Manifest, platform: Platform, assets: Path) -> list[Path]:
    copied = []
    if platform == "web":  # with the page's own files
        skipped = {*_NOT_FOR_WEB, *_licenses(bundle), manifest.tokenizer.file}
        names = [n for n in manifest.files if n not in skipped and not n.startswith("plots/")]
    else:
        names = [
            n
            for n in manifest.files
            if n == manifest.artifact or n.startswith((f"{manifest.artifact}/", f"{manifest.artifact}."))
        ]
    for name in names:
        target = assets / (name if platform == "web" else name.removeprefix(str(Path(manifest.artifact).parent) + "/"))
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, target)
        copied.append(target)
    return copied


def _licenses(bundle: Path) -> list[str]:
    return [n for n in LICENSE_FILES if (bundle / n).is_file()]


def copy_license(bundle: Path, manifest: Manifest, assets: Path) -> str:
    """Copy the license files of the source, and return a sentence about them."""
    files = _licenses(bundle)
    for name in files:
        shutil.copyfile(bundle / name, assets / name)
    declared = manifest.source.get("license")
    if files:
        return f"The model's license is in {', '.join(files)}."
    if declared:
        (assets / "LICENSE-MODEL.txt").write_text(f"license: {declared}\n", encoding="utf-8")
        return f"The model's source has no license file; its model card says `license: {declared}`, which LICENSE-MODEL.txt repeats."
    return (
        "The model's source has no license file and its model card names none: find out under which terms the model may be "
        "passed on before you ship it."
    )


def _about(manifest: Manifest, platform: Platform, license: str, files: Sequence[str]) -> dict[str, Any]:
    raw = json.loads(manifest.to_json())
    fields = (
        "headway_version",
        "target",
        "task",
        "artifact",
        "inputs",
        "outputs",
        "tokenizer",
        "labels",
        "source",
        "engine",
    )
    return {
        "schema_version": 1,
        "platform": platform,
        **{k: raw[k] for k in fields},
        "license": license,
        "files": list(files),
    }


_HOW: dict[Platform, str] = {
    "android": "Copy `src/` into an app's module and add to its `build.gradle.kts`:",
    "ios": f"Add `Sources/` to a target and `Resources/{FOLDER}` as a folder reference (so that it stays a folder). Dependencies:",
    "web": "`npm install` this folder, then `import { Model } from` it. Dependencies (in package.json):",
}


def _write_readme(
    staging: Path, manifest: Manifest, platform: Platform, code: Snippet, tokenizer: str, license: str
) -> None:
    tensors = [
        f"| {kind} | {t.name} | {t.dtype} | {', '.join(map(str, t.shape))} |"
        for kind, ts in (("input", manifest.inputs), ("output", manifest.outputs))
        for t in ts
    ]
    lines = [
        f"# {manifest.source.get('model_type') or 'model'} for {manifest.task}, {platform}",
        "",
        _HOW[platform],
        "",
        *(f"    {line}" for line in code.dependencies),
        "",
        *(
            [
                f"The model file was written by onnxruntime {manifest.libraries['onnxruntime']}; use that version or a later one.",
                "",
            ]
            if manifest.artifact.endswith(".ort")
            else []
        ),
        "| | name | dtype | shape |",
        "|---|---|---|---|",
        *tensors,
        "",
        tokenizer,
        "",
        license,
        "",
        f"`sha256sum -c {SUMS_FILE}` checks the files. The code was written for these names and shapes and has not run on a device.",
    ]
    (staging / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_npm(staging: Path, bundle: Path, name: str, manifest: Manifest) -> None:
    own = bundle / "package.json"
    theirs = read_json(own) if own.is_file() else {}
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in name.lower()).strip("-_") or "model"
    files = _licenses(bundle)
    content = {
        "name": plain,
        "version": "1.0.0",
        "type": "module",
        "main": "index.js",
        "exports": {".": "./index.js", "./*": "./*"},
        "dependencies": {"onnxruntime-web": "^1.23.0"} | theirs.get("dependencies", {}),
        "license": f"SEE LICENSE IN {files[0]}"
        if files
        else manifest.source.get("license") or "SEE LICENSE IN README.md",
    }
    (staging / "package.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
