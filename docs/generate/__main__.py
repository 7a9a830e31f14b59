"""Fill the generated parts of all pages, and draw the picture: `python -m docs.generate [--check]`."""

import argparse
import sys

from . import pages, picture


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="Change nothing; exit 1 if a page is out of date.")
    check = parser.parse_args().check
    stale = [path for path in pages.all_pages() if pages.update(path, write=not check)]
    stale += [picture.FILE] if picture.update(write=not check) else []
    for path in stale:
        print(f"{'out of date' if check else 'written'}: {path.relative_to(pages.ROOT)}")
    sys.exit(bool(check and stale))


if __name__ == "__main__":
    main()
