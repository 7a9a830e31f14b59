"""Reading requests: limits, types, and the model that is asked for."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from starlette.requests import Request

from headway.serving.call import (
    Call,
    Models,
    checked_fields,
    optional_bool,
    parse_object,
    refuse_unless,
    texts_of,
    to_json,
)
from headway.serving.refusal import Refusal

from tests.support.served import settings_of


def call_of(parts: Sequence[bytes], headers: dict[str, str] | None = None, **changes: Any) -> tuple[Call, list[bytes]]:
    """Return a call whose body comes in parts, and the parts that are left."""
    left = list(parts)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.sleep(60)
        part = left.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": raw}
    return Call(Request(scope, receive), Models([]), settings_of(**changes)), left


def test_a_body_comes_in_parts() -> None:
    call, _ = call_of([b'{"inputs"', b': "rain"}'])
    assert asyncio.run(call.json({"inputs": ..., "more": 3})) == {"inputs": "rain", "more": 3}
    assert call.read


@pytest.mark.parametrize("headers", [{}, {"content-length": "200"}])
def test_a_body_that_is_too_large_is_read_away_and_refused(headers: dict[str, str]) -> None:
    call, left = call_of([b"x" * 50] * 4, headers, most_bytes=100)
    with pytest.raises(Refusal, match="more than the 100 bytes") as refused:
        asyncio.run(call.body())
    assert refused.value.status == 413 and refused.value.close and not left


def test_a_client_that_asks_first_need_not_send_it() -> None:
    call, left = call_of([b"x" * 200], {"content-length": "200", "expect": "100-continue"}, most_bytes=100)
    with pytest.raises(Refusal, match="more than"):
        asyncio.run(call.body())
    assert left


def test_a_body_that_does_not_come_is_given_up() -> None:
    call, _ = call_of([], timeout=0.02)
    with pytest.raises(Refusal, match="did not come") as refused:
        asyncio.run(call.body())
    assert refused.value.status == 408


def test_compressed_bodies_are_refused() -> None:
    with pytest.raises(Refusal, match="compressed"):
        asyncio.run(call_of([b""], {"content-encoding": "gzip"})[0].body())


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b"nul", b'{"a": NaN}', b"\xff{}", b'{"a": "\xed\xa0\x80"}', b"[" * 100_000, b'"x"']
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal, match="JSON"):
        parse_object(body)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "'inputs' is missing"),
        ({"inputs": 1, "spelling": 2}, "'spelling' is not known here; known are inputs, flag, name"),
        ({"inputs": 1, "flag": 1}, "flag: true or false"),
        ({"inputs": 1, "name": 7}, "name: text"),
    ],
)
def test_fields_are_checked(given: dict[str, Any], says: str) -> None:
    with pytest.raises(Refusal, match=says):
        checked_fields(given, {"inputs": ..., "flag": True, "name": ""})


def test_small_checks() -> None:
    assert texts_of("a", "x") == ["a"] and texts_of(["a", "b"], "x") == ["a", "b"]
    for value in (1, [1], ["a", 1], None, [["a"]], {"a": 1}):
        with pytest.raises(Refusal, match="a text or a list of texts"):
            texts_of(value, "x")
    assert optional_bool(None, "x") is None and optional_bool(False, "x") is False
    with pytest.raises(Refusal):
        optional_bool("yes", "x")
    refuse_unless("a", ("a", "b"), "x")
    with pytest.raises(Refusal, match="'c' is not offered"):
        refuse_unless("c", ("a", "b"), "x")


def test_numbers_are_the_same_float32_again() -> None:
    values = np.random.default_rng(0).normal(size=100).astype(np.float32)
    assert np.array_equal(np.array(json.loads(to_json(values)), np.float32), values)


def test_requests_need_some_texts_and_not_too_many() -> None:
    call, _ = call_of([b""], most_texts=3)
    call.check_texts(3, "inputs")
    for count, status in ((0, 422), (4, 413)):
        with pytest.raises(Refusal, match="1 to 3") as refused:
            call.check_texts(count, "inputs")
        assert refused.value.status == status


def test_models_by_name_and_by_what_they_can() -> None:
    class Named:
        def __init__(self, name: str):
            self.name = name
            self.manifest = type("M", (), {"task": "fill-mask"})

    models = Models([Named("a"), Named("b")])  # type: ignore[list-item]
    assert models.named("b").name == "b" and models.first(lambda s: s.name == "b", "x").name == "b"
    with pytest.raises(Refusal, match="no model 'c' is served here; there are: a, b"):
        models.named("c")
    with pytest.raises(Refusal, match=r"gives wings: a \(fill-mask\)"):
        models.first(lambda s: False, "wings")
