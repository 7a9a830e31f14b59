"""Pages served for this machine."""

import socket
from http.client import HTTPConnection
from pathlib import Path
from urllib.request import urlopen

import pytest

from headway.errors import UsageError
from headway.exporter.export import Exported
from headway.exporter.targets.web import serve
from headway.exporter.targets.web.serve import ISOLATION, server

from tests.support.serving import serving


def test_pages_are_served_with_the_headers_that_threads_need(sentence: Exported, tmp_path: Path) -> None:
    with serving(sentence.path) as url, urlopen(url) as response:
        assert {name: response.headers[name] for name in ISOLATION} == ISOLATION
    with pytest.raises(UsageError, match="--target web"):
        server(tmp_path)


def get(port: int, path: str, host: str = "localhost") -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path, headers={"Host": host})
    response = connection.getresponse()
    return response.status, response.read()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    directory = tmp_path / "site"
    (directory / "empty").mkdir(parents=True)
    (directory / "index.html").write_text("page")
    (directory / "own.txt").symlink_to("index.html")
    (tmp_path / "secret.txt").write_text("secret")
    (directory / "out.txt").symlink_to(tmp_path / "secret.txt")
    (directory / "up").symlink_to(tmp_path)
    return directory


def test_what_lies_outside_and_what_foreign_hosts_ask_for_is_refused(site: Path) -> None:
    with serving(site) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        assert get(port, "/") == (200, b"page") == get(port, "/own.txt", f"127.0.0.1:{port}")
        for path in ("/out.txt", "/up/secret.txt", "/../secret.txt", "/%2e%2e/secret.txt", "/empty/", "/none"):
            status, content = get(port, path)
            assert status == 404 and b"secret" not in content.replace(path.encode(), b"")
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example"):
            assert get(port, "/", host)[0] == 421


def test_silent_connections_end_and_do_not_keep_others_out(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve._Handler, "timeout", 0.2)
    with serving(site) as url:
        port = int(url.rstrip("/").rpartition(":")[2])
        silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(serve.MOST_CONNECTIONS + 8)]
        assert get(port, "/") == (200, b"page")
        for connection in silent:
            assert connection.recv(1) == b""  # closed by the server
            connection.close()
