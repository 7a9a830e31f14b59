"""Hold every setting of a server in one place, with the limits that a request meets."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError

KEY_VARIABLE = "HEADWAY_API_KEY"
"""The environment variable with the key that clients have to send."""

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_LOCAL = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class ServerSettings:
    """What `headway serve` was told. Durations are in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 8000
    p99: float = 0.2
    """What 99 of 100 accepted requests may take. Batches are sized by it, and requests that would take longer are refused."""

    workers: int = 1
    """Processes that answer; they share the pages in which the weights lie."""

    threads: int = 0
    """Batches that are computed at once, each by one thread; 0 takes as many as there are processors."""

    truncate: bool = False
    """Whether texts that are too long are cut where a request does not say."""

    most_texts: int = 256
    """Texts of one request."""

    most_bytes: int = 4_000_000
    """Bytes of one request's body."""

    timeout: float = 30.0
    """How long a client may take to send its request, and the answer to be made."""

    drain: float = 30.0
    """How long requests may take to end after the server was told to stop."""

    log_requests: bool = False
    """Whether each request is a line of the log."""

    certificate: Path | None = None
    key: Path | None = None
    """The files of TLS; both or none."""

    api_key: str | None = None
    """The key that clients have to send, as `Authorization: Bearer KEY`."""

    def __post_init__(self) -> None:
        if not 0.001 <= self.p99 <= 60:
            raise UsageError(f"--p99 is {self.p99:g} seconds; give 1ms to 60s")
        for option, seconds in (("--timeout", self.timeout), ("--drain", self.drain)):
            if not 0.001 <= seconds <= 86400:
                raise UsageError(f"{option} is {seconds:g} seconds; give 1ms to 1440m")
        if (self.certificate is None) != (self.key is None):
            raise UsageError("TLS needs both files: give --tls-cert and --tls-key")
        for file in (self.certificate, self.key):
            if file is not None and not file.is_file():
                raise UsageError(f"{file}: no such file; give the PEM file of the certificate or key")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.strip()):
            raise UsageError(f"{KEY_VARIABLE} is empty or not ASCII; set it to a key, or unset it")

    @property
    def lanes(self) -> int:
        """Return how many batches a process runs at once."""
        return max(1, (self.threads or available_processors()) // self.workers)

    @property
    def public(self) -> bool:
        """Return whether other machines can reach the server."""
        return self.host not in _LOCAL


def read_duration(text: str, option: str) -> float:
    """Return the seconds of "20ms", "1.5s" or "2m". UsageError names the option."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s|m)", text.strip().lower())
    if match is None:
        raise UsageError(f"{option} {text!r}: a duration with its unit is expected, as 20ms or 2s")
    return float(match[1]) * _UNITS[match[2]]


def available_processors() -> int:
    """Return how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1
