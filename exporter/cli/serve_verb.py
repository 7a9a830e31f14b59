"""`headway serve`: answer requests over HTTP, or show the page of a bundle made for browsers."""

import math
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import UsageError
from ...manifest import Manifest
from .. import api
from .shared import check_installed

SERVER = "Server"
LIMITS = "Limits"


def _option(panel: str, name: str, says: str, metavar: str, **rest: Any) -> Any:
    return typer.Option(name, metavar=metavar, help=says, rich_help_panel=panel, **rest)


_Bundles = Annotated[list[Path], typer.Argument(metavar="BUNDLE…", help="Directories of bundles; clients name them.")]
_Host = Annotated[str, _option(SERVER, "--host", "Address to listen on; 0.0.0.0 for other machines too.", "ADDRESS")]
_Port = Annotated[
    int,
    typer.Option(
        "--port",
        "-p",
        min=0,
        max=65535,
        metavar="N",
        help="Port to listen on; 0 takes a free one.",
        rich_help_panel=SERVER,
    ),
]
_Workers = Annotated[
    int, _option(SERVER, "--workers", "Processes that answer; they share the weights' memory.", "N", min=1, max=256)
]
_Threads = Annotated[
    int | None,
    _option(
        SERVER, "--threads", "Batches computed at once, each by one thread; by default all processors.", "N", min=1
    ),
]
_P99 = Annotated[
    str,
    _option(
        LIMITS, "--p99", "What 99 of 100 answers may take: batches are sized by it, and excess is told 429.", "TIME"
    ),
]
_Truncate = Annotated[
    bool,
    typer.Option("--truncate", help="Read the beginning of texts that are too long.", rich_help_panel=LIMITS),
]
_MostTexts = Annotated[int, _option(LIMITS, "--max-texts", "Texts of one request.", "N", min=1)]
_MostMb = Annotated[float, _option(LIMITS, "--max-mb", "Size of one request's body.", "MB", min=0.001)]
_Timeout = Annotated[str, _option(LIMITS, "--timeout", "Time for a request to come, and for its answer.", "TIME")]
_Drain = Annotated[str, _option(LIMITS, "--drain", "Time for requests to end after SIGTERM.", "TIME")]
_Certificate = Annotated[Path | None, _option(SERVER, "--tls-cert", "PEM file of the certificate.", "FILE")]
_Key = Annotated[Path | None, _option(SERVER, "--tls-key", "PEM file of its key.", "FILE")]
_LogRequests = Annotated[
    bool, typer.Option("--log-requests", help="Write a line for each request.", rich_help_panel=SERVER)
]


def serve(
    bundles: _Bundles,
    host: _Host = "127.0.0.1",
    port: _Port = 8000,
    p99: _P99 = "200ms",
    workers: _Workers = 1,
    threads: _Threads = None,
    truncate: _Truncate = False,
    max_texts: _MostTexts = 256,
    max_mb: _MostMb = 4.0,
    timeout: _Timeout = "30s",
    drain: _Drain = "30s",
    tls_cert: _Certificate = None,
    tls_key: _Key = None,
    log_requests: _LogRequests = False,
) -> None:
    """Serve bundles over HTTP: OpenAI embeddings, TEI, KServe v2, metrics. Of target web, show the page.

    The environment variable HEADWAY_API_KEY holds the key that clients have to send. SIGHUP opens the bundles again.
    """
    if len(bundles) == 1 and _is_page(bundles[0]):
        if host != "127.0.0.1" or tls_cert or tls_key:
            raise UsageError(
                "a page is shown on this machine alone, without TLS: leave out --host, --tls-cert and --tls-key"
            )
        _serve_page(bundles[0], port)
        return
    from ...serving.server_settings import KEY_VARIABLE, ServerSettings, read_duration

    with api.needs("serve"):
        check_installed("starlette", "uvicorn", "httptools", "orjson", "prometheus_client")
    from ...serving.supervisor import Supervisor, bundle_names

    settings = ServerSettings(
        host=host,
        port=port,
        p99=read_duration(p99, "--p99"),
        workers=workers,
        threads=threads or 0,
        truncate=truncate,
        most_texts=max_texts,
        most_bytes=_bytes(max_mb),
        timeout=read_duration(timeout, "--timeout"),
        drain=read_duration(drain, "--drain"),
        log_requests=log_requests,
        certificate=tls_cert,
        key=tls_key,
        api_key=os.environ.get(KEY_VARIABLE),
    )
    named = bundle_names(bundles)
    for _, path in named:
        if Manifest.read(path).target == "web":
            raise UsageError(f"{path}: made for browsers; serve it alone, or export with --target ort")
    code = Supervisor(named, settings).run(lambda url: print(url, flush=True))
    if code:
        raise typer.Exit(code)


def _bytes(megabytes: float) -> int:
    if not math.isfinite(megabytes):
        raise UsageError(f"--max-mb {megabytes}: a size in MB is expected")
    return round(megabytes * 1e6)


def _is_page(bundle: Path) -> bool:
    return (bundle / "index.html").is_file()


def _serve_page(bundle: Path, port: int) -> None:
    from ..targets.web.serve import server

    with server(bundle, port) as running:
        print(f"http://127.0.0.1:{running.server_port}/", flush=True)
        running.serve_forever()
