"""The application: keys, health, metrics, errors, the log, and clients that leave."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from headway.serving.application import Service
from headway.serving.event_log import EventLog

from tests.support.served import client_of, service_of

BODY = {"inputs": "rain"}


def test_the_key_is_asked_for_everywhere_but_health(embedder: Path) -> None:
    with client_of(embedder, api_key="secret") as client:
        for path in ("/health", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200
        for path in ("/metrics", "/docs", "/openapi.json", "/info", "/v2", "/v1/models"):
            assert client.get(path).status_code == 401
            assert client.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
        for given in ("", "Bearer", "Bearer wrong", "Basic secret", "bearer secret", "Bearer secret "[:-2], "Bearer ü"):
            answer = client.post("/embed", json=BODY, headers=[(b"authorization", given.encode())])
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert "components" in client.get("/openapi.json", headers={"Authorization": "Bearer secret"}).json()


def test_errors_of_the_server_are_told_without_their_inside(embedder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    stream = io.StringIO()
    service = service_of(embedder, log=EventLog(stream))
    with TestClient(service.app) as client:

        def broken(*_: object) -> Any:
            raise RuntimeError("the inside")

        monkeypatch.setattr(service.state.models.bundles[0].queue.runner, "run", broken)
        answer = client.post("/embed", json=BODY)
        monkeypatch.undo()
        assert client.post("/embed", json=BODY).status_code == 200
    assert answer.status_code == 500 and "inside" not in answer.text
    assert [json.loads(line)["error"] for line in stream.getvalue().splitlines()] == ["RuntimeError: the inside"]


def test_requests_are_counted_and_logged(embedder: Path) -> None:
    from starlette.testclient import TestClient

    stream = io.StringIO()
    with TestClient(service_of(embedder, log=EventLog(stream), log_requests=True).app) as client:
        client.post("/embed", json={"inputs": ["rain", "secret words"]}, headers={"X-Request-Id": "seven"})
        client.post("/embed", content="{")
        figures = client.get("/metrics").text
    name = embedder.name
    assert f'headway_requests_total{{endpoint="/embed",model="{name}",status="200"}} 1.0' in figures
    assert 'headway_requests_total{endpoint="/embed",model="",status="400"} 1.0' in figures
    assert f'headway_texts_total{{model="{name}"}} 2.0' in figures
    good, bad = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (good["status"], good["texts"], good["id"]) == (200, 2, "seven") and good["ms"] >= good["ran_ms"] > 0
    assert bad["status"] == 400 and "secret" not in stream.getvalue()


def test_a_server_that_stops_ends_connections_and_is_not_ready(embedder: Path) -> None:
    from starlette.testclient import TestClient

    service = service_of(embedder)
    with TestClient(service.app) as client:
        assert client.get("/health").json() == {"ready": True}
        service.state.draining = True
        assert client.get("/health").status_code == 503 and client.get("/v2/health/live").status_code == 200
        answer = client.post("/embed", json=BODY)
        assert answer.status_code == 200 and answer.headers["connection"] == "close"
        service.state.ready = False
        late = client.post("/embed", json=BODY)
        assert late.status_code == 503 and late.headers["retry-after"] == "1"


def test_no_such_path_or_method(embedder: Path) -> None:
    with client_of(embedder) as client:
        assert client.get("/none").json()["error_type"] == "NotFound"
        assert client.get("/embed").status_code == 405
        assert client.get("/docs").text.startswith("<!doctype html>")
        assert "access-control-allow-origin" not in client.get("/health", headers={"Origin": "http://x"}).headers


def test_a_full_queue_is_told_with_when_to_come_back(embedder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from starlette.testclient import TestClient

    from headway.serving.refusal import overloaded
    from headway.serving.token_queue import Lanes

    def full(*_: object) -> None:
        raise overloaded(2.5)

    with TestClient(service_of(embedder).app) as client:
        monkeypatch.setattr(Lanes, "add", full)
        answers = [
            client.post("/embed", json=BODY),
            client.post("/v1/embeddings", json={"model": embedder.name, "input": "a"}),
        ]
        monkeypatch.undo()
    assert [a.status_code for a in answers] == [429, 429] and [a.headers["retry-after"] for a in answers] == ["3", "3"]
    assert answers[0].json()["error_type"] == "Overloaded" and answers[1].json()["error"]["type"] == "rate_limit_error"


async def _ask(service: Service, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the application sends to a client whose messages are these, and who then says no more."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(60)
        return {}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/embed", "query_string": b"", "headers": [], "root_path": ""}
    await service.app(scope, receive, send)
    return sent


def test_what_a_client_who_left_asked_for_is_not_computed(embedder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> tuple[Any, Any]:
        service = service_of(embedder)
        async with service.app.router.lifespan_context(service.app):
            kept: list[Any] = []
            served = service.state.models.bundles[0]
            monkeypatch.setattr(served._lanes, "add", lambda queue, waiting, most: kept.append(waiting))
            body = {"type": "http.request", "body": b'{"inputs": "rain"}', "more_body": False}
            sent = await _ask(service, [body, {"type": "http.disconnect"}])
            monkeypatch.undo()
            return sent, kept

    sent, kept = asyncio.run(run())
    assert sent[0]["status"] == 499 and kept[0].dropped


def test_a_client_that_leaves_while_it_sends(embedder: Path) -> None:
    async def run() -> Any:
        service = service_of(embedder)
        async with service.app.router.lifespan_context(service.app):
            half = {"type": "http.request", "body": b'{"inp', "more_body": True}
            return await _ask(service, [half, {"type": "http.disconnect"}])

    assert asyncio.run(run())[0]["status"] == 499
