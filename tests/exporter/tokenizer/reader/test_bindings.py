"""The reader called from Java and from Kotlin."""

import json
import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from headway.exporter.export import Exported
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.reader import write_reader

from tests.support.phone_tokenizers import LONGEST, Both, needs_compiler

JAVA = """
package headway;

public class Tokenizer {
  static { System.loadLibrary("headway_tokenizer"); }
  native long nativeOpen(byte[] data);
  native void nativeClose(long handle);
  native int nativeMaxLength(long handle);
  native long[][] nativeEncode(long handle, byte[] text, byte[] pair, int length, boolean padded);

  public static void main(String[] arguments) throws Exception {
    byte[] data = java.nio.file.Files.readAllBytes(java.nio.file.Path.of(arguments[0]));
    var in = new java.io.DataInputStream(new java.io.ByteArrayInputStream(
        java.nio.file.Files.readAllBytes(java.nio.file.Path.of(arguments[1]))));
    var tokenizer = new Tokenizer();
    long handle = tokenizer.nativeOpen(data);
    var out = new StringBuilder();
    for (int left = in.readInt(); left > 0; --left) {
      byte[] text = in.readNBytes(in.readInt());
      byte[] pair = left % 2 == 0 ? text : null;
      for (long[] row : tokenizer.nativeEncode(handle, text, pair, tokenizer.nativeMaxLength(handle), left % 3 == 0))
        out.append(java.util.Arrays.toString(row)).append("\\n");
    }
    tokenizer.nativeClose(handle);
    try {
      tokenizer.nativeOpen(new byte[] {1, 2, 3});
    } catch (IllegalArgumentException refused) {
      out.append(refused.getMessage()).append("\\n");
    }
    System.out.print(out);
  }
}
"""


@pytest.fixture(scope="module")
def android(bert_bundle: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what is written for Android, in a folder `package`, and beside it in `build` the library that its CMakeLists.txt makes."""
    if not all(map(shutil.which, ("cmake", "javac", "java"))):
        pytest.skip("no CMake or no JDK")
    folder = tmp_path_factory.mktemp("android")
    write_reader(bert_bundle.path, folder / "package", "android")
    home = Path(shutil.which("javac") or "").resolve().parents[1]
    for command in (
        ["cmake", "-S", folder / "package", "-B", folder / "build", "-DCMAKE_BUILD_TYPE=Release"],
        ["cmake", "--build", folder / "build"],
    ):
        done = subprocess.run(command, env=os.environ | {"JAVA_HOME": str(home)}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run_java(android: Path, *arguments: str, cwd: Path) -> list[str]:
    command = [
        "java",
        f"-Djava.library.path={android / 'build'}",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        *arguments,
    ]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def pack(lines: list[str], file: Path) -> None:
    texts = [line.encode() for line in lines]
    file.write_bytes(struct.pack(">i", len(texts)) + b"".join(struct.pack(">i", len(t)) + t for t in texts))


@pytest.mark.slow
@needs_compiler
def test_native_methods_through_java(uncased: Both, android: Path, tmp_path: Path) -> None:
    """The library that Android builds, its native methods called from Java as Kotlin calls them."""
    kotlin = (android / "package" / "Tokenizer.kt").read_text()
    in_java = {line.split("(")[0].split()[-1] for line in JAVA.splitlines() if " native " in line}
    assert in_java == {line.split("(")[0].split()[-1] for line in kotlin.splitlines() if "external fun" in line}
    (tmp_path / "headway").mkdir()
    (tmp_path / "headway" / "Tokenizer.java").write_text(JAVA)
    lines = unicode_lines(4, 300)
    pack(lines, tmp_path / "texts")
    (tmp_path / "tokenizer.bin").write_bytes(uncased.data)
    *rows, refused = run_java(android, "headway/Tokenizer.java", "tokenizer.bin", "texts", cwd=tmp_path)
    assert refused.startswith("the tokenizer file is damaged")
    for i, line in enumerate(lines):
        left = len(lines) - i
        ids, mask, types, count = uncased.reader.encode(line, line if left % 2 == 0 else None)
        length = LONGEST if left % 3 == 0 else count
        assert [json.loads(row) for row in rows[3 * i : 3 * i + 3]] == [ids[:length], mask[:length], types[:length]]


KOTLIN = """
import headway.Tokenizer
import java.io.DataInputStream
import java.io.File

fun main(arguments: Array<String>) {
    val texts = DataInputStream(File(arguments[1]).inputStream())
    Tokenizer(File(arguments[0]).readBytes()).use { tokenizer ->
        repeat(texts.readInt()) {
            val text = String(texts.readNBytes(texts.readInt()), Charsets.UTF_8)
            for (made in listOf(tokenizer.encode(text), tokenizer.encode(text, text, 40)))
                for (row in listOf(made.ids, made.attentionMask, made.tokenTypeIds)) println(row.contentToString())
        }
    }
    try { Tokenizer(byteArrayOf(1, 2)) } catch (refused: IllegalArgumentException) { println(refused.message) }
}
"""


@needs_compiler
@pytest.mark.skipif(shutil.which("kotlinc") is None, reason="no Kotlin compiler")
def test_kotlin_class(uncased: Both, android: Path, tmp_path: Path) -> None:
    (tmp_path / "Main.kt").write_text(KOTLIN)
    sources = [str(android / "package" / "Tokenizer.kt"), "Main.kt"]
    subprocess.run(["kotlinc", *sources, "-include-runtime", "-d", "main.jar"], cwd=tmp_path, check=True)
    lines = unicode_lines(5, 1000)
    pack(lines, tmp_path / "texts")
    (tmp_path / "tokenizer.bin").write_bytes(uncased.data)
    *rows, refused = run_java(android, "-cp", "main.jar", "MainKt", "tokenizer.bin", "texts", cwd=tmp_path)
    assert refused.startswith("the tokenizer file is damaged")
    for i, line in enumerate(lines):
        *alone, count = uncased.reader.encode(line)
        paired = uncased.reader.encode(line, line, 40)[:3]
        assert [json.loads(row) for row in rows[6 * i : 6 * i + 6]] == [*(a[:count] for a in alone), *paired]
