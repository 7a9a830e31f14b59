"""Write a small tokenizer for phones: C++17 without dependencies, a compact file, and bindings for Kotlin and Swift.

It is our own because the alternatives do not fit: the tokenizers library itself would bring Rust into the build of every app, and
onnxruntime-extensions gives other ids on much text beyond ASCII (`in_graph` compares them). The reader is one C++ file that compiles to
less than 100 kB. A tokenizer that it does not read exactly is refused. Where this machine has a C++ compiler, the files that are handed
over are compared with the bundle's own tokenizer first.
"""

import shutil
import warnings
from pathlib import Path
from typing import Literal

from ....errors import HeadwayWarning
from ....json_file import read_json
from ....manifest import Manifest, TokenizerInfo
from ....text import TextEncoder
from ..check import TokenAgreement, compare_ids, unicode_lines
from .compact import compact_file
from .native import SOURCES, NativeReader, library

FILE = "tokenizer.bin"
CHECKED_LINES = 2_000
_SOURCES = ("headway_tokenizer.h", "headway_tokenizer.cc")
_BINDINGS = {
    "android": ("headway_tokenizer_jni.cc", "CMakeLists.txt", "Tokenizer.kt"),
    "ios": ("module.modulemap", "Tokenizer.swift"),
}


def write_reader(bundle_directory: Path, out: Path, platform: Literal["android", "ios"]) -> list[Path]:
    """Write the reader for a bundle's tokenizer into `out`; return the files, the compact file first.

    Raise SourceError naming a part of the tokenizer that is not read exactly, and GateError where the reader's token ids differ from
    the bundle's on this machine. Without a C++ compiler here they are not compared, and a HeadwayWarning says so.
    """
    info = Manifest.read(bundle_directory).tokenizer
    path = bundle_directory / info.file
    data = compact_file(read_json(path), info)
    if library() is None:
        warnings.warn(
            "no C++ compiler on this machine: the tokenizer for phones was not compared with the bundle's",
            HeadwayWarning,
            stacklevel=2,
        )
    else:
        check_reader(data, path, info, unicode_lines(0, CHECKED_LINES)).require("the tokenizer for phones")
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_bytes(data)
    copied = [Path(shutil.copyfile(SOURCES / name, out / name)) for name in (*_SOURCES, *_BINDINGS[platform])]
    return [out / FILE, *copied]


def check_reader(data: bytes, tokenizer_file: Path, info: TokenizerInfo, lines: list[str]) -> TokenAgreement:
    """Compare the compiled reader's token ids, on a compact file, with those of the bundle's `tokenizer.json`."""
    expected = [e.ids for e in TextEncoder(tokenizer_file, info).encode(lines)]
    return compare_ids(expected, NativeReader(data).ids(lines), lines)
