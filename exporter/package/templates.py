"""Open the templates of packages: a name without a value is an error, not an empty text."""

import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def environment(folder: Path) -> Any:
    """Return the jinja2 environment of a folder of templates. jinja2 is imported here, since packaging alone needs it."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["json"] = json.dumps
    return made
