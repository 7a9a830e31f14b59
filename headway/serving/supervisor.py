"""Run worker processes on one socket: forked from a process that has opened the bundles, so that they share the weights' memory.

A worker that dies is replaced. SIGHUP opens the bundles again and, where they are whole, starts workers with them before the old ones
end: no request is dropped, and a damaged bundle changes nothing. SIGTERM and SIGINT end all after what was accepted is answered.
"""

import asyncio
import gc
import os
import select
import signal
import socket
import ssl
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import HeadwayError, TargetError, UsageError
from .event_log import EventLog
from .served_bundle import OpenedBundle, table_record
from .server_settings import KEY_VARIABLE, ServerSettings
from .service_metrics import forget_process, share_metrics

_BACKLOG = 1024
_QUICK_DEATHS = 3
"""Workers that may die before they were ready, one after the other; then the server gives up."""
_START = 60.0
"""Seconds that a worker may take to be ready."""
_SWITCH = 0.0005
"""Seconds after which a thread of Python lets another one run: tokenizing must not keep answers waiting."""
_ENDING = (signal.SIGTERM, signal.SIGINT)


def bundle_names(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return the bundles by the names of their directories. UsageError where two have the same."""
    named = [(path.resolve().name, path) for path in paths]
    for name, path in named:
        if sum(other == name for other, _ in named) > 1:
            raise UsageError(f"{path}: two bundles are called {name}; rename one, clients ask for models by name")
    return named


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens already: connections wait in its queue until a worker takes them. UsageError where it cannot."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # The protocol has to be named: asyncio sends at once (TCP_NODELAY) on sockets that name it, and else answers wait 40 ms.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
        return bound
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another with --host and --port"
        ) from error


def check_certificate(settings: ServerSettings) -> None:
    """Raise UsageError where the files of TLS are no certificate with its key: a worker would end without an answer."""
    if settings.certificate is None:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(settings.certificate, settings.key)
    except OSError as error:  # ssl's own errors among them
        raise UsageError(
            f"{settings.certificate} and {settings.key}: no certificate with its key ({error.strerror or error}); give PEM files that "
            "belong together"
        ) from error


@dataclass
class _Worker:
    process: int
    ready: int
    """The reading end of the pipe that says it is ready; -1 once it was read."""
    was_ready: bool = False
    started: float = field(default_factory=time.monotonic)


class Supervisor:
    """The parent process: it opens bundles and holds the socket, and answers nothing itself."""

    def __init__(self, bundles: Sequence[tuple[str, Path]], settings: ServerSettings, log: EventLog | None = None):
        if not hasattr(os, "fork"):
            raise TargetError("serving forks worker processes, which this system does not have: use Linux or macOS")
        self._bundles = bundles
        self._settings = settings
        self._log = log or EventLog()
        self._workers: dict[int, _Worker] = {}
        self._leaving: set[int] = set()
        """Workers that were told to end, or were killed, and have not ended."""
        self._pending: list[int] = []
        """Signals that came and were not dealt with."""

    def run(self, announce: Callable[[str], None] = print) -> int:
        """Serve until a signal ends it; return the exit code. Raises HeadwayError where a bundle is damaged or the port taken."""
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads would not survive a fork
        check_certificate(self._settings)
        with tempfile.TemporaryDirectory(prefix="headway-serve-") as folder:
            share_metrics(Path(folder))
            with listen(self._settings.host, self._settings.port) as bound:
                opened = self._open()
                return self._serve(bound, opened, announce)

    def _open(self) -> list[OpenedBundle]:
        opened = [OpenedBundle(name, path, self._settings) for name, path in self._bundles]
        for one in opened:
            self._log.say(
                "opened",
                model=one.name,
                task=one.manifest.task,
                sha256=one.sha256,
                batch_tokens=one.budget,
                batch_wait_ms=round(1e3 * one.wait, 3),
                measured=table_record(one.table),
            )
        return opened

    def _serve(self, bound: socket.socket, opened: list[OpenedBundle], announce: Callable[[str], None]) -> int:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        before = signal.set_wakeup_fd(woken.fileno())
        taken = (*_ENDING, signal.SIGHUP, signal.SIGCHLD)
        handlers = {number: signal.signal(number, lambda n, _: self._pending.append(n)) for number in taken}
        try:
            self._start(bound, opened)
            host, port = bound.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            announce(f"{'https' if self._settings.certificate else 'http'}://{shown}:{port}/")
            if self._settings.public and self._settings.api_key is None:
                self._log.say("warning", message=f"any machine that reaches this one may use it: set {KEY_VARIABLE}")
            return self._watch(bound, opened, wake)
        finally:
            for process in self._workers:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            wake.close()
            woken.close()

    def _watch(self, bound: socket.socket, opened: list[OpenedBundle], wake: socket.socket) -> int:
        quick = 0
        while True:
            select.select([wake], [], [], 1.0)
            with suppress(BlockingIOError):
                wake.recv(4096)
            signals, self._pending[:] = set(self._pending), []
            if signals & set(_ENDING):
                return self._stop(bound)
            if signal.SIGHUP in signals:
                opened = self._swap(bound, opened)
            dead = self._reap()
            if dead:
                quick = 0 if all(dead) else quick + dead.count(False)
            if quick >= _QUICK_DEATHS:
                self._log.say("gave-up", message="workers die before they are ready")
                self._stop(bound)
                return 1
            if dead:
                self._fork_missing(bound, opened)

    def _start(self, bound: socket.socket, opened: list[OpenedBundle]) -> None:
        """Start workers and wait until they answer. TargetError where one ends before."""
        self._fork_missing(bound, opened)
        if not self._wait_ready(list(self._workers.values())):
            raise TargetError("a worker ended, or took too long, before it was ready: its log says why")
        self._log.say("ready", workers=len(self._workers), lanes=self._settings.lanes)

    def _fork_missing(self, bound: socket.socket, opened: list[OpenedBundle]) -> None:
        for _ in range(self._settings.workers - len(self._workers)):
            self._fork(bound, opened)

    def _fork(self, bound: socket.socket, opened: list[OpenedBundle]) -> None:
        reading, writing = os.pipe()
        gc.collect()
        gc.freeze()  # what is there now is never looked at again, so that its pages stay shared
        sys.stdout.flush()
        sys.stderr.flush()
        process = os.fork()
        if process == 0:
            code = 1
            try:
                os.close(reading)
                code = run_worker(bound, opened, self._settings, self._log, writing)
            except BaseException as error:  # nobody else hears of it
                self._log.say("worker-failed", worker=os.getpid(), error=f"{type(error).__name__}: {error}")
            finally:
                os._exit(code)
        os.close(writing)
        self._workers[process] = _Worker(process, reading)

    def _wait_ready(self, workers: list[_Worker]) -> bool:
        """Return whether all of these say within a minute that they are ready."""
        end = time.monotonic() + _START
        for worker in workers:
            if not select.select([worker.ready], [], [], max(0.0, end - time.monotonic()))[0]:
                return False
            if not self._says_ready(worker):
                return False
        return True

    def _says_ready(self, worker: _Worker) -> bool:
        """Return whether a worker has said that it is ready; reads its pipe without waiting."""
        if worker.ready < 0:
            return worker.was_ready
        if not select.select([worker.ready], [], [], 0)[0]:
            return False
        said = os.read(worker.ready, 1) == b"1"  # nothing where it ended before
        os.close(worker.ready)
        worker.ready = -1
        worker.was_ready = said
        return said

    def _swap(self, bound: socket.socket, opened: list[OpenedBundle]) -> list[OpenedBundle]:
        """Return the bundles that are served from now on: those opened anew, or the old ones where that fails."""
        try:
            fresh = self._open()
        except (HeadwayError, OSError) as error:
            self._log.say("swap-refused", error=str(error))
            return opened
        old, self._workers = self._workers, {}
        self._fork_missing(bound, fresh)
        if not self._wait_ready(list(self._workers.values())):
            self._log.say("swap-refused", error="a new worker did not become ready")
            for process in self._workers:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._leaving |= set(self._workers)  # their ends are no deaths of this server's
            self._workers = old
            return opened
        self._leaving |= set(old)
        for process in old:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        self._log.say("swapped", models={one.name: one.sha256 for one in fresh})
        return fresh

    def _reap(self) -> list[bool]:
        """Collect processes that ended; return for each unexpected one whether it had been ready."""
        died: list[bool] = []
        while True:
            try:
                process, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return died
            if process == 0:
                return died
            forget_process(process)
            self._leaving.discard(process)
            worker = self._workers.pop(process, None)
            if worker is not None:
                died.append(self._says_ready(worker))
                self._log.say("worker-died", worker=process, code=os.waitstatus_to_exitcode(status))

    def _stop(self, bound: socket.socket) -> int:
        """End all workers, those of an earlier bundle among them, and return 0 where each ended by itself."""
        self._log.say("stopping")
        bound.close()  # so that with the last worker's the socket is closed, and later clients are refused, not reset
        processes = set(self._workers) | self._leaving
        for process in self._workers:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        self._workers.clear()
        end = time.monotonic() + self._settings.drain + 5
        while time.monotonic() < end:
            processes = {process for process in processes if not _ended(process)}
            if not processes:
                self._log.say("stopped")
                return 0
            time.sleep(0.02)
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._log.say("stopped", message="workers did not end in time and were killed")
        return 1


def _ended(process: int) -> bool:
    """Return whether a child has ended, and collect it."""
    try:
        return os.waitpid(process, os.WNOHANG)[0] == process
    except ChildProcessError:
        return True


def run_worker(
    bound: socket.socket, opened: Sequence[OpenedBundle], settings: ServerSettings, log: EventLog, ready: int
) -> int:
    """Answer requests in a process of its own until SIGTERM; return its exit code."""
    from .application import Service
    from .connections import DrainingServer

    signal.set_wakeup_fd(-1)
    gc.enable()
    sys.setswitchinterval(_SWITCH)
    warnings.simplefilter("ignore")  # what was cut, the answer's request has asked for
    service = Service(opened, settings, log)
    server = DrainingServer(service, ready)

    def end(_number: int, _frame: object) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, end)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the terminal sends them to all; the parent decides
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    asyncio.run(server.serve(sockets=[bound]))
    return 0
