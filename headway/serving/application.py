"""Put the parts together: routes, the API key, errors as each protocol has them, health, metrics, and the log."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from . import api_page, tei_api
from .call import Call, Models, to_json
from .endpoints import ENDPOINTS, Endpoint
from .event_log import EventLog
from .refusal import Refusal
from .served_bundle import OpenedBundle, ServedBundle, tell_in
from .server_settings import ServerSettings
from .service_metrics import Metrics
from .token_queue import Lanes

_CALLERS = 16
"""Threads that wait for calls of a bundle as a whole, as for entities."""

_CLOSED = 499
"""The status in log and metrics of a request whose client left."""


@dataclass
class State:
    """What the server is doing. While `draining` each answer ends its connection, so that clients come back on a new one."""

    ready: bool = False
    draining: bool = False
    models: Models = field(default_factory=lambda: Models([]))


class Service:
    """The application of one process, for bundles that are open already."""

    def __init__(self, opened: Sequence[OpenedBundle], settings: ServerSettings, log: EventLog | None = None):
        self.state = State()
        self.settings = settings
        self._opened = opened
        self._log = log or EventLog()
        self._metrics = Metrics()
        routes = [Route(e.path, self._route(e), methods=[e.method]) for e in ENDPOINTS]
        routes += [
            Route("/health", self._health),
            Route("/v2/health/ready", self._health),
            Route("/v2/health/live", self._live),
            Route("/metrics", self._guarded(self._figures)),
            Route("/openapi.json", self._guarded(self._openapi)),
            Route("/docs", self._guarded(self._page)),
        ]
        self.app = Starlette(routes=routes, lifespan=self._life, exception_handlers={HTTPException: self._no_route})

    @asynccontextmanager
    async def _life(self, app: Starlette) -> AsyncIterator[None]:
        lanes = Lanes(self.settings.lanes, tell_in(asyncio.get_running_loop()))
        with (
            ThreadPoolExecutor(max(2, self.settings.lanes), "headway-text") as threads,
            ThreadPoolExecutor(_CALLERS, "headway-call") as callers,
        ):
            served = [
                ServedBundle(o, self.settings, lanes, threads, callers, self._metrics.batches(o.name))
                for o in self._opened
            ]
            self.state.models = Models(served)
            lanes.start()
            self.state.ready = True
            yield
            self.state.ready = False
            await asyncio.get_running_loop().run_in_executor(None, lanes.close)

    def _route(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            call = Call(request, self.state.models, self.settings)
            response = await self._answered(endpoint, call)
            took = time.perf_counter() - call.began
            # Log and metrics come after the answer, which this coroutine sends before the loop calls anything else.
            asyncio.get_running_loop().call_soon(self._note, endpoint, call, response.status_code, took)
            return self._last(response)

        return answer

    async def _answered(self, endpoint: Endpoint, call: Call) -> Response:
        try:
            self._check_key(call.request)
            if not self.state.ready:
                raise Refusal(503, "the server stops; send the request again", 1)
            result = await _unless_gone(call, endpoint.answer(call))
            return result if isinstance(result, Response) else _json(result)
        except Refusal as refusal:
            return _json(endpoint.error_body(refusal), refusal.status, _headers(refusal))
        except ClientDisconnect:
            return Response(status_code=_CLOSED)
        except Exception as error:
            self._log.say("error", endpoint=endpoint.path, model=call.model, error=f"{type(error).__name__}: {error}")
            return _json(endpoint.error_body(Refusal(500, "the server made a mistake; its log has more")), 500)

    def _note(self, endpoint: Endpoint, call: Call, status: int, took: float) -> None:
        self._metrics.answered(endpoint.path, call.model, status, took)
        if call.texts and status == 200:
            self._metrics.used(call.model, call.texts, call.tokens, call.queued)
        if self.settings.log_requests:
            fields = {"endpoint": endpoint.path, "model": call.model, "status": status, "texts": call.texts}
            times = {"queued_ms": call.queued, "ran_ms": call.ran, "ms": took}
            rounded = {name: round(1e3 * seconds, 2) for name, seconds in times.items()}
            own = call.request.headers.get("x-request-id")
            self._log.say("request", **fields, tokens=call.tokens, **rounded, **({"id": own[:100]} if own else {}))

    def _last(self, response: Response) -> Response:
        if self.state.draining:
            response.headers["connection"] = "close"
        return response

    def _check_key(self, request: Request) -> None:
        key = self.settings.api_key
        if key is None:
            return
        given = request.headers.get("authorization", "").encode("latin-1", "replace")
        if not hmac.compare_digest(given, f"Bearer {key}".encode()):
            raise Refusal(401, "this server asks for its API key, as the header Authorization: Bearer KEY")

    def _guarded(self, answer: Callable[[], Response]) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            try:
                self._check_key(request)
            except Refusal as refusal:
                return _json(tei_api.error_body(refusal), refusal.status, _headers(refusal))
            return self._last(answer())

        return guarded

    async def _health(self, request: Request) -> Response:
        ready = self.state.ready and not self.state.draining
        return self._last(JSONResponse({"ready": ready}, 200 if ready else 503))

    async def _live(self, request: Request) -> Response:
        return self._last(JSONResponse({"live": True}))

    def note_queues(self) -> None:
        """Set the figures of the queues to what they are now: any process may be asked for those of all."""
        for served in self.state.models.bundles:
            self._metrics.queue(served.name, served.queue.tokens, served.expected_wait())

    def _figures(self) -> Response:
        self.note_queues()
        text, media_type = self._metrics.text()
        return Response(text, media_type=media_type)

    def _openapi(self) -> Response:
        return JSONResponse(api_page.openapi(self.settings.api_key is not None))

    def _page(self) -> Response:
        return HTMLResponse(api_page.page())

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        says = "there is no such path" if status == 404 else "the path does not take this method"
        return self._last(_json(tei_api.error_body(Refusal(status, f"{says}: see /docs")), status))


def _json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(value), status, headers, "application/json")


def _headers(refusal: Refusal) -> dict[str, str]:
    headers = {}
    if refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    if refusal.close:
        headers["connection"] = "close"
    return headers


_PATIENCE = 0.1
"""Seconds after which the server looks whether the client is still there: shorter requests are not worth a look."""


async def _unless_gone(call: Call, answer: Awaitable[Any]) -> Any:
    """Return the answer. Raise ClientDisconnect, and stop working on it, where the client leaves first."""
    if call.request.method != "POST":
        return await answer
    task = asyncio.current_task()
    assert task is not None, "requests are answered in tasks"
    watch = _Watch(call, task)
    timer = asyncio.get_running_loop().call_later(_PATIENCE, watch.begin)
    try:
        return await answer
    except asyncio.CancelledError:
        if not watch.gone:
            raise
        raise ClientDisconnect from None
    finally:
        if watch.gone:
            task.uncancel()
        timer.cancel()
        watch.end()


class _Watch:
    """Looks whether the client of a long request is still there, and cancels the `work` on it where it is not."""

    def __init__(self, call: Call, work: asyncio.Task[Any]):
        self.gone = False
        self._call = call
        self._work = work
        self._watching: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self._watching = asyncio.ensure_future(self._watch())

    def end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        while not self._call.read:  # until then, whoever reads the body notices
            await asyncio.sleep(_PATIENCE)
        while (await self._call.request.receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._work.cancel()
