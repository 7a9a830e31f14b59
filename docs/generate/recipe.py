"""The reference of the recipe, from the JSON schema of the pydantic models."""

from typing import Any

from . import markdown, places

MISSING = "*(not described yet)*"
"""Stands where a field has no description in the code."""

_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}


def fields() -> str:
    """Return the recipe's own keys, and those of the mappings in it."""
    root = schema()
    parts = [_body(root)]
    for name in _mappings(root):
        parts += [f"### {_spaced(name)} {{ #{_anchor(name)} }}", _body(root["$defs"][name])]
    return markdown.join(*parts)


def passes() -> str:
    """Return one section per pass: its description and its keys."""
    parts = []
    for kind, part in _passes(schema()).items():
        parts += [f"### {kind} {{ #{kind} }}", _body(part)]
    return markdown.join(*parts)


def short() -> str:
    """Return a table of all passes with the first sentence of their description."""
    rows = []
    for kind, part in _passes(schema()).items():
        first = markdown.paragraphs(part.get("description", MISSING)).split("\n\n")[0]
        rows.append([f"`{kind}`", markdown.sentence(first)])
    return markdown.table(["pass", "does"], rows)


def schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe."""
    return places.load(places.RECIPE).model_json_schema()


def _passes(root: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the schemas of all passes by their kind, in the order of the code."""
    mapping = root["properties"]["passes"]["items"]["discriminator"]["mapping"]
    references = [item["$ref"] for item in root["properties"]["passes"]["items"]["oneOf"]]
    by_reference = {reference: kind for kind, reference in mapping.items()}
    return {by_reference[reference]: root["$defs"][_name(reference)] for reference in references}


def _mappings(root: dict[str, Any]) -> list[str]:
    """Return the names of the models that are no pass, each behind the one that refers to it."""
    passed = {id(part) for part in _passes(root).values()}
    order: list[str] = []
    visited: set[str] = set()

    def visit(part: Any) -> None:
        if isinstance(part, dict):
            name = _name(part["$ref"]) if "$ref" in part else None
            if name and name not in visited:
                visited.add(name)
                order.extend([name] if id(root["$defs"][name]) not in passed else [])
                visit(root["$defs"][name])
            for value in part.values():
                visit(value)
        elif isinstance(part, list):
            for value in part:
                visit(value)

    visit(root["properties"])
    return order


def _body(part: dict[str, Any]) -> str:
    required = part.get("required", [])
    rows = []
    for name, field in part.get("properties", {}).items():
        if name == "kind":
            continue
        meaning = markdown.sentence(field.get("description")) or MISSING
        rows.append([f"`{name}`", _type(field), _default(name, field, required), meaning])
    parts = [markdown.paragraphs(part.get("description", MISSING))]
    parts.append(markdown.table(["key", "value", "default", "meaning"], rows) if rows else "It has no keys.")
    return markdown.join(*parts)


def _type(field: dict[str, Any]) -> str:
    """Return what a field takes, in words, with its bounds."""
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if "$ref" in field:
        name = _name(field["$ref"])
        return f"[{_spaced(name)}](#{_anchor(name)})"
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"] if option.get("type") != "null")
    kind = field.get("type")
    if kind == "array":
        if "prefixItems" in field:
            return "[" + ", ".join(_type(item) for item in field["prefixItems"]) + "]"
        if "oneOf" in field["items"]:
            return "list of [passes](#passes)"
        return f"list of {_plural(_type(field['items']))}"
    if kind == "object":
        return f"mapping to {_type(field['additionalProperties'])}"
    name = {"string": "text", "boolean": "`true` or `false`", "integer": "integer", "number": "number"}[str(kind)]
    if field.get("format") == "path":
        name = "path"
    bounds = [text.format(f"{field[key]:g}") for key, text in _BOUNDS.items() if key in field]
    return ", ".join([name, *bounds])


def _plural(text: str) -> str:
    name, comma, bounds = text.partition(",")
    plural = {"integer": "integers", "text": "texts", "number": "numbers", "path": "paths"}.get(name, name)
    return f"{plural}{comma}{bounds}"


def _default(name: str, field: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "required"
    default = field.get("default")
    if default in (None, [], {}) or isinstance(default, dict):
        return ""
    if isinstance(default, list):
        return f"`[{', '.join(f'{item:g}' if isinstance(item, float) else str(item) for item in default)}]`"
    return f"`{str(default).lower()}`" if isinstance(default, bool) else f"`{default}`"


def _name(reference: str) -> str:
    return reference.rsplit("/", 1)[-1]


def _spaced(name: str) -> str:
    """Return `EngineOptions` as `engine options`."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()


def _anchor(name: str) -> str:
    return _spaced(name).replace(" ", "-")
