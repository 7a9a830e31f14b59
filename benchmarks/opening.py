"""Open a bundle again and again while another process replaces it: each opening has to be one of the two bundles, or say so.

`python -m benchmarks.opening [--openings 10000] [--how exchange|steps]`. Two random models with different weights and tokenizers are
exported, which takes a minute. Each opening answers one text, and the answer is compared with those of both bundles. Exit code 1
where an answer is neither. Then the time of an opening with and without checksums is printed, alone, for a bundle of some 100 MB.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from headway import Bundle
from headway.errors import SourceError
from headway.exporter.export import export
from headway.exporter.recipe.recipe import Recipe
from headway.manifest import MANIFEST, Manifest, file_records

from tests.support import models, replacing

TEXT = "a large language model with small heads and layers of bread"
_BIG = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8, "num_attention_heads": 8}


def make_bundles(folder: Path) -> list[Path]:
    """Return two bundles that have neither weights nor ids in common: in one, two words change places in the vocabulary."""
    bundles = []
    for name, seed in (("first", 0), ("second", 7)):
        source = models.make_model(folder / f"{name}-source", seed=seed)
        bundles.append(export(Recipe(source=str(source)), folder / name).path)
    file = bundles[1] / "tokenizer.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    vocab["bread"], vocab["large"] = vocab["large"], vocab["bread"]
    file.write_text(json.dumps(content), encoding="utf-8")
    manifest = Manifest.read(bundles[1])
    manifest.files = file_records(bundles[1])
    (bundles[1] / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return bundles


def open_beside_replacement(bundles: list[Path], place: Path, openings: int, how: str) -> Counter[str]:
    """Return how many openings were the first bundle, the second, refused, or a mixture."""
    answers = {path.name: Bundle.open(path, threads=1)([TEXT])["last_hidden_state"] for path in bundles}
    command = [sys.executable, replacing.__file__, str(place), *map(str, bundles), how]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    counts: Counter[str] = Counter()
    try:
        for _ in range(openings):
            try:
                answer = Bundle.open(place, threads=1)([TEXT])["last_hidden_state"]
            except SourceError as error:
                counts["refused" if "replaced again and again" in str(error) else f"mixture: {error}"] += 1
                continue
            near = [n for n, a in answers.items() if a.shape == answer.shape and np.abs(a - answer).max() < 1e-5]
            counts[near[0] if near else "mixture"] += 1
    finally:
        process.communicate()
    return counts


def cost(bundle: Path, rounds: int) -> dict[bool, list[float]]:
    """Return milliseconds of opening a bundle with and without checksums, in turn; the first of each is left out."""
    times: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds + 1):
        for check in times:
            start = time.perf_counter()
            Bundle.open(bundle, threads=1, check=check)
            times[check].append((time.perf_counter() - start) * 1e3)
    return {check: values[1:] for check, values in times.items()}


def main() -> int:
    """Run both parts and print what they found; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--openings", type=int, default=10_000)
    parser.add_argument("--how", choices=("exchange", "steps"), default="exchange")
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = open_beside_replacement(make_bundles(folder), folder / "out", options.openings, options.how)
        print(f"{options.openings} openings beside replacement ({options.how}): {dict(counts)}", flush=True)
        big = export(Recipe(source=str(models.make_model(folder / "big", **_BIG))), folder / "big-bundle").path
        times = cost(big, options.rounds)
        megabytes = sum(p.stat().st_size for p in big.iterdir()) / 1e6
        for check, values in times.items():
            print(f"{megabytes:.0f} MB, check={check}: median {np.median(values):.1f} ms, least {min(values):.1f} ms")
    return int(any(key.startswith("mixture") for key in counts))


if __name__ == "__main__":
    sys.exit(main())
