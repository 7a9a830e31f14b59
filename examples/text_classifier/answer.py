"""Answer texts from standard input, one a line, with JSON lines. Needs `pip install headway` and nothing that trains or exports.

echo "the parcel has not arrived" | python examples/text_classifier/answer.py build/tickets/bundles/fast-cpu
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import headway
from headway.errors import HeadwayError


def answers(bundle: headway.Bundle, lines: Iterable[str]) -> Iterator[str]:
    """Yield one JSON line for each text that is not blank."""
    texts = (text for line in lines if (text := line.strip()))
    while batch := list(islice(texts, 32)):
        for text, (label, probability) in zip(batch, bundle.labels(batch), strict=True):
            yield json.dumps({"text": text, "label": label, "probability": round(probability, 4)}, ensure_ascii=False)


def main() -> int:
    """Read the command line and answer until the input ends."""
    parser = argparse.ArgumentParser(description="Label texts from standard input.")
    parser.add_argument("bundle", type=Path)
    given = parser.parse_args()
    try:
        for line in answers(headway.open(given.bundle), sys.stdin):
            print(line, flush=True)
    except HeadwayError as error:
        print(f"no answer: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
