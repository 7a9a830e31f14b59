"""Compile the reader for this machine, to compare what is packaged for a phone with the source's tokenizer."""

import atexit
import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from ....errors import SourceError, UsageError
from ....kernels.cpu.build import compiler

SOURCES = Path(__file__).with_name("sources")
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra")
_MESSAGE = 512


@cache
def library() -> ctypes.CDLL | None:
    """Return the compiled reader, compiled once per process; None where there is no C++ compiler."""
    if compiler() is None:
        return None
    folder = Path(tempfile.mkdtemp(prefix="headway-reader-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return load(build(folder / "reader.so"))


def build(out: Path, flags: Sequence[str] = FLAGS) -> Path:
    """Compile the reader to a shared library. Raise CalledProcessError where that fails; messages are on standard error."""
    command = compiler()
    assert command is not None
    subprocess.run([*command.split(), *flags, str(SOURCES / "headway_tokenizer.cc"), "-o", str(out)], check=True)
    return out


def load(path: Path) -> ctypes.CDLL:
    """Load a compiled reader and declare the types of its functions."""
    loaded = ctypes.CDLL(str(path))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    loaded.headway_tokenizer_open.restype = pointer
    loaded.headway_tokenizer_open.argtypes = [ctypes.c_char_p, size, ctypes.c_char_p, size]
    loaded.headway_tokenizer_close.restype = None
    loaded.headway_tokenizer_close.argtypes = [pointer]
    loaded.headway_tokenizer_max_length.restype = size
    loaded.headway_tokenizer_max_length.argtypes = [pointer]
    loaded.headway_tokenizer_encode.restype = ctypes.c_int64
    loaded.headway_tokenizer_encode.argtypes = [
        *(pointer, ctypes.c_char_p, size, ctypes.c_char_p, size, size, pointer, pointer, pointer, ctypes.c_char_p, size)
    ]
    return loaded


class NativeReader:
    """Open a compact file by the reader's C functions. Raise SourceError where it is damaged, UsageError where text is not UTF-8."""

    def __init__(self, data: bytes, of: ctypes.CDLL | None = None):
        compiled = of or library()
        if compiled is None:
            raise UsageError("no C++ compiler found (g++ or clang++, or set CXX)")
        self._library = compiled
        self._message = ctypes.create_string_buffer(_MESSAGE)
        self._handle = compiled.headway_tokenizer_open(data, len(data), self._message, _MESSAGE)
        if not self._handle:
            raise SourceError(self._message.value.decode())
        self.max_length: int = compiled.headway_tokenizer_max_length(self._handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.headway_tokenizer_close(self._handle)

    def encode(
        self, text: str | bytes, pair: str | bytes | None = None, length: int | None = None
    ) -> tuple[list[int], list[int], list[int], int]:
        """Return ids, mask and token types, padded to `length` (by default the model's), and how many tokens are not padding."""
        arrays = [(ctypes.c_int64 * (self.max_length if length is None else length))() for _ in range(3)]
        count = self._fill(arrays, text, pair)
        ids, mask, types = (list(a) for a in arrays)
        return ids, mask, types, count

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return token ids of each text, without padding."""
        arrays = [(ctypes.c_int64 * self.max_length)() for _ in range(3)]
        return [arrays[0][: self._fill(arrays, text, None)] for text in texts]

    def _fill(self, arrays: Sequence[ctypes.Array], text: str | bytes, pair: str | bytes | None) -> int:
        first, second = (x.encode() if isinstance(x, str) else x for x in (text, pair))
        assert first is not None
        count = self._library.headway_tokenizer_encode(
            self._handle,
            first,
            len(first),
            second,
            len(second or b""),
            len(arrays[0]),
            *arrays,
            self._message,
            _MESSAGE,
        )
        if count < 0:
            raise UsageError(self._message.value.decode())
        return count
