"""Read a request within its limits, and find the bundle that it is for."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect, Request

from .refusal import Refusal, invalid
from .served_bundle import ServedBundle
from .server_settings import ServerSettings
from .token_queue import Waiting

_DISCARD = 2.0
"""Seconds for which a body that is too large is read and thrown away: a client that still sends reads no answer."""


@dataclass
class Models:
    """The bundles that are served, in the order in which they were given."""

    bundles: Sequence[ServedBundle]

    def named(self, name: object) -> ServedBundle:
        """Return the bundle of a name. Refusal (404) where there is none."""
        for served in self.bundles:
            if served.name == name:
                return served
        raise Refusal(
            404, f"no model {str(name)[:100]!r} is served here; there are: {', '.join(s.name for s in self.bundles)}"
        )

    def first(self, fits: Callable[[ServedBundle], bool], what: str) -> ServedBundle:
        """Return the first bundle that fits. Refusal (404) says `what` is missing."""
        for served in self.bundles:
            if fits(served):
                return served
        tasks = ", ".join(f"{s.name} ({s.manifest.task})" for s in self.bundles)
        raise Refusal(
            404, f"none of the models here gives {what}: {tasks}; ask /v2/models/NAME/infer for a model's own outputs"
        )


@dataclass
class Call:
    """One request while it is answered, with what the log and the metrics say about it."""

    request: Request
    models: Models
    settings: ServerSettings
    began: float = field(default_factory=time.perf_counter)
    model: str = ""
    texts: int = 0
    tokens: int = 0
    queued: float = 0.0
    ran: float = 0.0
    read: bool = False
    """Whether the whole body was read."""

    def use(self, served: ServedBundle, encodings: Sequence[Any], waiting: Waiting | None = None) -> None:
        """Note what a request needed."""
        self.model = served.name
        self.texts += len(encodings)
        self.tokens += sum(len(e.ids) for e in encodings)
        if waiting is not None:
            self.queued += waiting.queued
            self.ran += waiting.ran

    async def body(self) -> bytes:
        """Return the bytes of the body. Refusal where they are too many, or come too slowly."""
        most = self.settings.most_bytes
        declared = self.request.headers.get("content-length", "")
        if self.request.headers.get("content-encoding", "identity") != "identity":
            raise invalid("compressed bodies are not read; send plain JSON", 415)
        too_large = Refusal(
            413, f"the body has more than the {most:,} bytes that are read; send fewer texts at once", close=True
        )
        if declared.isdigit() and int(declared) > most:
            if self.request.headers.get("expect", "").lower() != "100-continue":
                await self._discard()
            raise too_large
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.settings.timeout):
                async for part in self.request.stream():
                    size += len(part)
                    if size > most:
                        parts.clear()
                        break
                    parts.append(part)
        except TimeoutError:
            raise Refusal(408, f"the body did not come within {self.settings.timeout:g} s", close=True) from None
        if size > most:
            await self._discard()
            raise too_large
        self.read = True
        return b"".join(parts)

    async def _discard(self) -> None:
        try:
            async with asyncio.timeout(_DISCARD):
                while (await self.request.receive()).get("more_body"):
                    pass
        except (TimeoutError, ClientDisconnect):
            pass

    async def json(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the fields of a body, checked: `fields` has the default of each, `...` where it is needed.

        Refusal for what is no JSON object, for a field that is not known, and for one of another type than its default's.
        """
        return checked_fields(parse_object(await self.body()), fields)

    def check_texts(self, count: int, name: str) -> None:
        """Refuse a request without texts, or with too many."""
        if not 0 < count <= self.settings.most_texts:
            raise invalid(
                f"{name} has {count} texts; send 1 to {self.settings.most_texts} at once", 413 if count else 422
            )


def to_json(value: object) -> bytes:
    """Return a value as JSON. numpy's arrays are lists of numbers there, of the fewest digits that give the same float32."""
    import orjson

    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object. Refusal says where it is broken."""
    import orjson

    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise invalid(f"the body is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise invalid("the body has to be a JSON object", 422)
    return value


def checked_fields(given: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `fields`, with their defaults where they are not given. See `Call.json`."""
    unknown = [name for name in given if name not in fields]
    if unknown:
        raise invalid(f"the field {unknown[0][:100]!r} is not known here; known are {', '.join(fields)}", 422)
    values = {}
    for name, default in fields.items():
        value = given.get(name)
        if value is None:
            if default is ...:
                raise invalid(f"the field {name!r} is missing", 422)
            value = default
        elif isinstance(default, bool | str) and type(value) is not type(default):
            raise invalid(f"{name}: {'true or false' if isinstance(default, bool) else 'text'} is expected", 422)
        values[name] = value
    return values


def optional_bool(value: object, name: str) -> bool | None:
    """Return true, false, or None where nothing is said. Refusal for anything else."""
    if value is None or isinstance(value, bool):
        return value
    raise invalid(f"{name}: true or false is expected", 422)


def texts_of(value: object, name: str) -> list[str]:
    """Return a list of texts; one text is a list of one. Refusal for anything else, token ids among it."""
    texts = [value] if isinstance(value, str) else value
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return texts
    raise invalid(f"{name}: a text or a list of texts is expected; token ids go to /v2/models/NAME/infer", 422)


def refuse_unless(value: object, allowed: Sequence[object], name: str) -> None:
    """Refuse a setting that this server does not have."""
    if value not in allowed:
        raise invalid(f"{name} {str(value)[:60]!r} is not offered here; leave it out", 422)
