"""Read under which terms a source model may be passed on, as far as the source says so itself. Nothing is guessed."""

from pathlib import Path

from ..quiet import quiet

LICENSE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING", "NOTICE")
_CARD = "README.md"


def declared_license(directory: Path | None) -> str | None:
    """Return `license` from the metadata of a model card, as `apache-2.0`; None without a card, or where it names no single one."""
    path = directory / _CARD if directory is not None else None
    if path is None or not path.is_file():
        return None
    from huggingface_hub import RepoCard

    try:
        with quiet():  # the library warns about a card without metadata
            card = RepoCard(path.read_text(encoding="utf-8-sig", errors="replace"))
    except Exception:  # broken metadata, which raises errors of several libraries, declares nothing
        return None
    declared = card.data.get("license")
    return declared if isinstance(declared, str) and declared else None
