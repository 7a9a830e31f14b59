"""Describe the server's paths as OpenAPI 3.1, and as a page that loads nothing from elsewhere."""

import html
import json
import re
from typing import Any

from .. import __version__
from .endpoints import ENDPOINTS, Endpoint

_STATUSES = {
    "400": "The request is wrong.",
    "401": "The API key is missing or wrong.",
    "404": "No such model, or none for this task.",
    "413": "The body, the number of texts or a text is too long.",
    "422": "A field is wrong.",
    "429": "Too much waits; Retry-After says when to come back.",
    "503": "The server starts or stops.",
    "504": "The answer took too long.",
}

_OPEN = {
    "/health": "Whether the server answers.",
    "/v2/health/live": "Whether the process lives.",
    "/v2/health/ready": "Whether it answers requests.",
    "/metrics": "Figures for Prometheus.",
}


def openapi(key: bool) -> dict[str, Any]:
    """Return the description. `key`: whether an API key is asked for."""
    paths: dict[str, Any] = {path: {"get": _plain(says)} for path, says in _OPEN.items()}
    for endpoint in ENDPOINTS:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "Headway", "version": __version__},
        "paths": paths,
    }
    if key:
        described["components"] = {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
        described["security"] = [{"key": []}]
    return described


def _plain(says: str) -> dict[str, Any]:
    return {"summary": says, "responses": {"200": {"description": says}}}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation = _plain(endpoint.says)
    operation["responses"]["200"]["content"] = {"application/json": {"schema": {}}}
    names = re.findall(r"{(\w+)}", endpoint.path)
    if names:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
        ]
    if endpoint.method == "POST":
        content = {"schema": {"type": "object"}, "example": endpoint.example}
        operation["requestBody"] = {"required": True, "content": {"application/json": content}}
        operation["responses"] |= {status: {"description": says} for status, says in _STATUSES.items()}
    return operation


def page() -> str:
    """Return the paths as an HTML page."""
    rows = [("GET", path, says, "") for path, says in _OPEN.items()]
    for e in ENDPOINTS:
        rows.append((e.method, e.path, e.says, json.dumps(e.example, indent=1) if e.example else ""))
    cells = "\n".join(
        f"<tr><td>{m}</td><td><code>{html.escape(p)}</code></td><td>{html.escape(s)}"
        f"{f'<pre>{html.escape(x)}</pre>' if x else ''}</td></tr>"
        for m, p, s, x in rows
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Headway</title>
<style>body {{ font: 16px sans-serif; margin: 2rem; }} td {{ padding: .4rem 1rem; vertical-align: top; }}</style></head>
<body><h1>Headway {__version__}</h1>
<p>The same for programs: <a href="openapi.json">openapi.json</a></p>
<table>{cells}</table></body></html>
"""
