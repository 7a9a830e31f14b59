"""Settings: what is refused, and what follows from what."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from headway.errors import UsageError
from headway.exporter.cli.serve_verb import serve
from headway.serving.server_settings import ServerSettings, available_processors, read_duration


@pytest.mark.parametrize(("text", "seconds"), [("20ms", 0.02), ("1.5s", 1.5), ("2m", 120.0), ("500us", 0.0005)])
def test_durations_have_units(text: str, seconds: float) -> None:
    assert read_duration(text, "--p99") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["20", "fast", "-1s", "1h", "", "1e3s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--p99.*20ms or 2s"):
        read_duration(text, "--p99")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"p99": 0.0001}, "1ms to 60s"),
        ({"timeout": 0.0}, "--timeout is 0 seconds"),
        ({"drain": 1e6}, "--drain is 1e[+]06 seconds"),
        ({"certificate": Path("c.pem")}, "both files"),
        ({"certificate": Path("c.pem"), "key": Path("k.pem")}, r"c\.pem: no such file"),
        ({"api_key": " "}, "HEADWAY_API_KEY is empty"),
        ({"api_key": "schlüssel"}, "not ASCII"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        ServerSettings(**changes)


def test_lanes_are_what_each_worker_may_use() -> None:
    assert ServerSettings(threads=8, workers=3).lanes == 2
    assert ServerSettings(threads=1, workers=4).lanes == 1
    assert ServerSettings().lanes == available_processors()


def test_only_loopback_is_private() -> None:
    assert not ServerSettings().public and not ServerSettings(host="::1").public
    assert ServerSettings(host="0.0.0.0").public


def test_defaults_are_those_of_the_command() -> None:
    given = {name: parameter.default for name, parameter in inspect.signature(serve).parameters.items()}
    settings = ServerSettings()
    for name in ("p99", "timeout", "drain"):
        assert getattr(settings, name) == read_duration(given[name], f"--{name}")
    for name in ("host", "port", "workers", "truncate", "log_requests"):
        assert getattr(settings, name) == given[name]
    assert settings.most_texts == given["max_texts"]
    assert settings.most_bytes == given["max_mb"] * 1e6
