"""Export a model, say what was checked, and run the bundle.

python examples/export_from_python.py path/to/model build/bundle --data tickets.txt
"""

import argparse
import sys
from pathlib import Path

import headway
from headway.errors import HeadwayError


def export_and_run(source: str, out: Path, data: Path | None = None) -> None:
    """Write a verified bundle of `source` to `out`, print what was compared, and run two texts through it."""
    exported = headway.export(source, out, data=data)  # without data, a built-in set in two dozen languages is used
    print(
        f"{exported.path}: {exported.artifact_bytes / 1e6:.1f} MB, the source has {exported.source_bytes / 1e6:.1f} MB"
    )
    for output in exported.parity.outputs:
        print(f"{output.name}: at most {output.max_abs:.1e} from the source, {output.tolerance:.0e} is allowed")

    bundle = headway.open(out)
    for name, array in bundle(["a text", "another, somewhat longer text"]).items():
        print(f"{name}: {array.dtype} {list(array.shape)}")  # one row for each text


def main() -> int:
    """Read the command line; a failure is one sentence and its exit code."""
    parser = argparse.ArgumentParser(description="Export a model from Python.")
    parser.add_argument("source", help="model directory, .onnx file, or module:callable")
    parser.add_argument("out", type=Path, help="directory of the bundle; it must not exist yet")
    parser.add_argument("--data", type=Path, help="text like production's, to check on")
    given = parser.parse_args()
    try:
        export_and_run(given.source, given.out, given.data)
    except HeadwayError as error:  # nothing was written
        print(f"export failed: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
