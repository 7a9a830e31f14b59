"""The tokenizer for phones against Hugging Face's `tokenizers`, on this processor: one thread, the same lines, in turn.

    python -m benchmarks.reader

MiniLM's tokenizer. Ids are compared first, line by line. The library is given its fast call, which leaves offsets out as the
reader does; the reader is called through ctypes. Also the size of the compact file, of the compiled reader, and the time to open.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from headway.calibration.corpus import builtin_lines
from headway.exporter.bench.measure import machine, ratio_interval
from headway.exporter.tokenizer.check import unicode_lines
from headway.exporter.tokenizer.reader import check_reader, native
from headway.exporter.tokenizer.reader.compact import compact_file
from headway.manifest import TokenizerInfo
from headway.text import TextEncoder

from .models import minilm
from .results import save

ROUNDS = 15
LINES = 10_000


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    file = minilm() / "tokenizer.json"
    info = TokenizerInfo(file.name, 512, 0, 0, "[PAD]")
    data = compact_file(json.loads(file.read_text(encoding="utf-8")), info)
    mixed = unicode_lines(0, LINES)
    agreement = check_reader(data, file, info, mixed)
    print(agreement)
    reader, encoder = native.NativeReader(data), TextEncoder(file, info)
    encoder.tokenizer.enable_truncation(info.max_length)
    result: dict[str, object] = {
        "agreement": {"lines": agreement.lines, "different": agreement.different},
        "bytes": {"tokenizer.json": file.stat().st_size, "tokenizer.bin": len(data), "library": stripped_size()},
        "machine": machine(),
    }
    ordinary = builtin_lines() * (LINES // len(builtin_lines()))
    for name, lines in {"ordinary": ordinary, "mixed": mixed}.items():
        runs = {
            "reader": lambda lines=lines: reader.ids(lines),
            "tokenizers": lambda lines=lines: [e.ids for e in encoder.tokenizer.encode_batch_fast(lines)],
        }
        times = {who: np.zeros(ROUNDS) for who in runs}
        for turn in range(-1, ROUNDS):  # the first round warms up
            for who in sorted(runs, reverse=bool(turn % 2)):
                spent = seconds(runs[who])
                if turn >= 0:
                    times[who][turn] = spent
        ratio = ratio_interval(times["reader"], times["tokenizers"])
        rates = {who: len(lines) / float(np.median(spent)) for who, spent in times.items()}
        size = sum(len(line.encode()) for line in lines) / len(lines)
        result[name] = {"lines": len(lines), "bytes_a_line": size, "lines_a_second": rates, "ratio": ratio}
        print(
            f"{name} ({size:.0f} bytes a line): reader {rates['reader']:,.0f} lines/s, tokenizers {rates['tokenizers']:,.0f}; "
            f"{ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f}) times as fast"
        )
    opening = [seconds(lambda: native.NativeReader(data)) for _ in range(9)]
    theirs = [seconds(lambda: TextEncoder(file, info)) for _ in range(9)]
    result["open_ms"] = {"reader": 1e3 * statistics.median(opening), "tokenizers": 1e3 * statistics.median(theirs)}
    print(f"open, ms: {result['open_ms']}; bytes: {result['bytes']}")
    save("reader", result)


def stripped_size() -> int:
    """Of the reader as a shared library: -O2, stripped."""
    with tempfile.TemporaryDirectory() as folder:
        out = native.build(Path(folder) / "reader.so", [*native.FLAGS, "-s"])
        return out.stat().st_size


if __name__ == "__main__":
    main()
