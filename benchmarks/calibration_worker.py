"""One calibration in a process of its own, as a user would run it: model file, tokenizer and text in, ranges out.

    python -m benchmarks.calibration_worker {headway,onnxruntime} METHOD FOLDER [--workers N] [--all] [--pad N] [--imports]

`FOLDER` holds `model.onnx`, `tokenizer.json` and `text.txt`; the ranges go to `ranges.json`. `--imports` stops before the
work: what is in memory then is not the calibration's.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


def headway(
    folder: Path, method: Any, percentile: float, workers: int, imports: bool, memory: bool = False
) -> dict[str, list[float]]:
    """With `memory` the process's resident bytes go to `memory.json` after every 1,000 texts: `[[texts, bytes], …]`."""
    import onnx_ir as ir
    import onnxruntime  # noqa: F401

    from headway.calibration.batches import stream_batches
    from headway.calibration.observe import observe

    if imports:
        return {}
    model = ir.load(folder / "model.onnx")
    names = list(dict.fromkeys(v.name for n in model.graph if n.op_type == "MatMul" for v in (n.inputs[0], *n.outputs)))
    encode = encoder(folder)
    with (folder / "text.txt").open(encoding="utf-8") as lines:
        batches = stream_batches(encode, (x.rstrip("\n") for x in lines), 256)
        counted = trace(batches, folder / "memory.json") if memory else batches
        wanted = [str(n) for n in names]
        found = observe(model, counted, wanted, histograms=method != "min-max", workers=workers, source="", text="")
    return {name: ends(o, method, percentile) for name, o in found.values.items()}


def ends(seen: Any, method: Any, percentile: float) -> list[float]:
    """Return a range as the runtime defines it: its percentile is one of magnitudes, cut to what occurs."""
    low, high = seen.range(method, percentile=percentile, symmetric=method == "percentile")
    return [max(low, seen.histogram.low), min(high, seen.histogram.high)]


def trace(batches: Iterator[Any], to: Path) -> Iterator[Any]:
    """Pass batches on, and notes what is in memory."""
    import psutil

    seen, taken = 0, []
    for batch in batches:
        before, seen = seen, seen + len(batch.rows)
        if seen // 1000 > before // 1000:
            taken.append([seen, psutil.Process().memory_info().rss])
            to.write_text(json.dumps(taken), encoding="utf-8")
        yield batch


def onnxruntime(
    folder: Path, method: str, percentile: float, everything: bool, pad: int, imports: bool
) -> dict[str, list[float]]:
    """`quantize_static` itself; its ranges are read on their way to the quantizer."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, calibrate, quantize_static

    if imports:
        return {}
    kind = {
        "min-max": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }[method]
    encode = encoder(folder, pad)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.lines: Iterator[str] = iter((folder / "text.txt").read_text(encoding="utf-8").splitlines())

        def get_next(self) -> dict[str, np.ndarray] | None:  # type: ignore[override]
            line = next(self.lines, None)
            return None if line is None else encode([line], 256)

    ranges: dict[str, list[float]] = {}
    base = {"min-max": calibrate.MinMaxCalibrater}.get(method, calibrate.HistogramCalibrater)
    compute = base.compute_data

    def noted(self: object) -> object:
        found = compute(self)  # type: ignore[arg-type]
        ranges.update({k: [float(np.min(x)) for x in v.range_value] for k, v in found.items()})  # type: ignore[union-attr]
        return found

    base.compute_data = noted  # type: ignore[method-assign]
    quantize_static(
        folder / "model.onnx",
        folder / "quantized.onnx",
        Reader(),
        calibrate_method=kind,
        op_types_to_quantize=None if everything else ["MatMul"],
        extra_options={"CalibPercentile": percentile},
    )
    return ranges


def encoder(folder: Path, pad: int = 0):
    """Text to feeds; with `pad` every text gets that many tokens, as statistics over samples of unequal shape need."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()

    def encode(texts: list[str], longest: int | None) -> dict[str, np.ndarray]:
        tokenizer.enable_truncation(longest or 256)
        found = [e.ids for e in tokenizer.encode_batch(list(texts))]
        shape = (len(found), max(pad, *map(len, found)))
        ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, one in enumerate(found):
            ids[row, : len(one)], mask[row, : len(one)] = one, 1
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}

    return encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("who", choices=["headway", "onnxruntime"])
    parser.add_argument("method", choices=["min-max", "percentile", "entropy", "mse"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--percentile", type=float, default=99.999)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--pad", type=int, default=0)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--imports", action="store_true")
    a = parser.parse_args()
    ranges = (
        headway(a.folder, a.method, a.percentile, a.workers, a.imports, a.memory)
        if a.who == "headway"
        else onnxruntime(a.folder, a.method, a.percentile, a.all, a.pad, a.imports)
    )
    (a.folder / f"ranges-{a.who}.json").write_text(json.dumps(ranges), encoding="utf-8")


if __name__ == "__main__":
    main()
