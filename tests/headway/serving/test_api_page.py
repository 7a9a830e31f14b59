"""The description for programs and the page for people."""

import re
from html.parser import HTMLParser

from headway.serving.api_page import openapi, page
from headway.serving.endpoints import ENDPOINTS


def test_all_paths_are_described() -> None:
    described = openapi(key=False)
    assert described["openapi"] == "3.1.0" and "security" not in described
    for endpoint in ENDPOINTS:
        operation = described["paths"][endpoint.path][endpoint.method.lower()]
        assert operation["summary"] == endpoint.says and "200" in operation["responses"]
        named = [p["name"] for p in operation.get("parameters", [])]
        assert named == re.findall(r"{(\w+)}", endpoint.path)
        # OpenAPI 3.1, 4.8.12.2: a parameter in the path has to be required.
        assert all((p["in"], p["required"]) == ("path", True) for p in operation.get("parameters", []))
        assert ("requestBody" in operation) == (endpoint.method == "POST")


def test_the_key_is_described_where_it_is_asked_for() -> None:
    described = openapi(key=True)
    assert described["security"] == [{"key": []}]
    assert described["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}


def test_the_page_loads_nothing_from_elsewhere() -> None:
    class Links(HTMLParser):
        links: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.links += [str(value) for name, value in attrs if name in ("href", "src")]

    links = Links()
    links.feed(page())
    assert links.links == ["openapi.json"] and "//" not in page().replace("<!doctype html>", "")
    assert all(endpoint.path in page() for endpoint in ENDPOINTS)
