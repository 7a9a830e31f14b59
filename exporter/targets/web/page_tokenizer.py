"""Compare token ids in JavaScript with the source's. Both the page's reader and transformers.js are run in Node."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ....errors import TargetError
from ....manifest import TokenizerInfo
from ....text import Text, TextEncoder
from ...tokenizer.check import compare_ids, unicode_lines
from .wasm import NO_NODE, error_of

LINES = 10_000
_READER = Path(__file__).parent / "page" / "ids.mjs"


def ids_in_javascript(directory: Path, texts: Sequence[Text], max_length: int, reader: str = "page") -> list[list[int]]:
    """Return token ids of texts by the page's reader, or by "transformers.js". Raise TargetError where Node or the package is missing."""
    node = shutil.which("node")
    if node is None:
        raise TargetError(NO_NODE)
    command = [node, str(_READER), reader, str(directory), str(max_length)]
    done = subprocess.run(
        command, input=json.dumps(texts), capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        if "MODULE_NOT_FOUND" in done.stderr:
            raise TargetError(f"node finds no @huggingface/tokenizers from {Path.cwd()}")
        raise TargetError(f"{directory}: the tokenizer cannot be read in JavaScript: {error_of(done.stderr)}")
    return list(json.loads(done.stdout))


def compare_in_javascript(directory: Path, info: TokenizerInfo, count: int = LINES) -> dict[str, Any]:
    """Compare both readers with the bundle's tokenizer on mixed Unicode lines; return what the manifest says about it.

    Raise GateError naming the classes of text where the page's reader differs: a page must give the outputs of the bundle. Where
    transformers.js differs, the classes are recorded.
    """
    if shutil.which("node") is None:
        return {"page": "not compared: node is not on the PATH"}
    lines = unicode_lines(0, count)
    expected = [e.ids for e in TextEncoder(directory / info.file, info).encode(lines)]
    page = compare_ids(expected, ids_in_javascript(directory, lines, info.max_length), lines)
    page.require("the tokenizer of the page")
    record: dict[str, Any] = {"lines": count, "page": "equal on all"}
    try:
        theirs = compare_ids(expected, ids_in_javascript(directory, lines, info.max_length, "transformers.js"), lines)
    except TargetError as error:
        return record | {"transformers.js": f"not compared: {error}"}
    record["transformers.js"] = (
        {"different": theirs.different, "classes": list(theirs.culprits)} if theirs.different else "equal on all"
    )
    return record
