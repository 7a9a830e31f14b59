"""Replace a bundle by another, and that by the first, again and again, until standard input ends. Started by tests and a benchmark.

Arguments are the place, the two bundles, and "exchange" or "steps" (as on systems that cannot exchange two names at once).
"""

import importlib
import os
import shutil
import sys
import threading
from pathlib import Path

from headway.exporter.publish.staging import staged


def main() -> None:
    place, *bundles = map(Path, sys.argv[1:4])
    if sys.argv[4] == "steps":
        importlib.import_module("headway.exporter.publish.exchange")._call = lambda: None
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    count = 0
    while True:
        with staged(place, force=True) as staging:
            shutil.copytree(bundles[count % 2], staging, dirs_exist_ok=True)
        count += 1
        if count == 2:
            print("begun", flush=True)


if __name__ == "__main__":
    main()
