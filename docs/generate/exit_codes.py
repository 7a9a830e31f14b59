"""The exit codes, from the classes of errors."""

from . import markdown, places

DONE = "Done, and within every gate."
"""What code 0 means: no error stands for it."""


def reference() -> str:
    """Return a table of exit codes, with the error that carries each."""
    base = places.load(places.ERRORS)
    rows = [["0", "", DONE]]
    for error in sorted(base.__subclasses__(), key=lambda e: (e.exit_code, e.__name__)):
        rows.append([str(error.exit_code), f"`{error.__name__}`", markdown.sentence(error.__doc__)])
    return markdown.table(["code", "error", "meaning"], rows)
