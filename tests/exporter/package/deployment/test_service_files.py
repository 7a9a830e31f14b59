"""Folders for a container and a function: their text is what its readers expect, and the function answers."""

import importlib.util
import json
import re
import shutil
import subprocess
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import headway
from headway.errors import UsageError
from headway.exporter.export import Exported
from headway.exporter.package.deployment import service_files
from headway.exporter.package.deployment.footprint import Footprint
from headway.exporter.package.deployment.service_files import write_container, write_function
from headway.serving.endpoints import ENDPOINTS

OPEN = ("/health", "/v2/health/live", "/v2/health/ready", "/metrics")


@pytest.fixture(scope="module")
def container(sentence_bundle: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("container")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_files, "of_serving", lambda bundle, p99: Footprint(1.5, 200 << 20, 512))
        write_container(sentence_bundle.path, out)
    return out


def test_the_container_has_two_stages_and_no_root(container: Path) -> None:
    lines = (container / "Containerfile").read_text().splitlines()
    stages = [i for i, line in enumerate(lines) if line.startswith("FROM ")]
    assert len(stages) == 2 and all(":3." in lines[i] for i in stages)
    last = "\n".join(lines[stages[1] :])
    assert "USER 10001:10001" in last and "pip" not in last.replace("no pip", "") and "apt" not in last
    commands = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith(("ENTRYPOINT", "CMD"))]
    assert commands[0] == ["/venv/bin/headway", "serve"] and commands[1][0] == "/models/sentence-bundle"
    sources = [line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    assert all((container / source).exists() for source in sources)
    headway.open(container / "bundle").check_files()
    assert all("==" in line for line in (container / "requirements.txt").read_text().splitlines()[1:])


def test_the_options_are_those_of_the_command(container: Path) -> None:
    from typer.main import get_command

    from headway.exporter.cli import app

    serve: Any = get_command(app.app)
    known = {option for p in serve.commands["serve"].params for option in p.opts}
    for file in ("Containerfile", "headway.service"):
        text = (container / file).read_text()
        used = {word.strip('",') for word in text.split() if word.strip('",').startswith("--")}
        assert {u for u in used if u in ("--host", "--port", "--p99", "--drain")} <= known and "--p99" in used


def test_kubernetes_asks_paths_that_there_are(container: Path) -> None:
    deployment, service, scaler = yaml.safe_load_all((container / "kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert server[probe]["httpGet"]["path"] in OPEN
    assert server["resources"]["requests"]["memory"] == "320Mi" and server["securityContext"]["readOnlyRootFilesystem"]
    assert pod["terminationGracePeriodSeconds"] > service_files.DRAIN
    assert {d["metadata"]["name"] for d in (deployment, service, scaler)} == {"sentence-bundle"}
    assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == "headway_queue_expected_seconds"
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"]
    assert ENDPOINTS
    command = re.search(r"^CMD (.*)$", (container / "Containerfile").read_text(), re.MULTILINE)
    assert command and server["args"] == [*json.loads(command[1]), "--threads", "1"]


def test_compose_and_systemd(container: Path) -> None:
    (service,) = yaml.safe_load((container / "compose.yaml").read_text())["services"].values()
    assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["ports"] == ["127.0.0.1:8000:8000"]
    unit = ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(container / "headway.service")
    assert unit["Service"]["ExecStart"].startswith("/srv/headway/venv/bin/headway serve /srv/headway/sentence-bundle")
    assert int(unit["Service"]["TimeoutStopSec"]) > service_files.DRAIN


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_reads_the_unit(container: Path, tmp_path: Path) -> None:
    text = (container / "headway.service").read_text().replace("/srv/headway/venv/bin/headway", "/bin/true")
    (tmp_path / "headway.service").write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", tmp_path / "headway.service"], capture_output=True, text=True
    )
    assert "headway.service:" not in done.stderr, done.stderr


def test_a_function_answers_as_the_bundle(
    sentence_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_files, "of_cold_start", lambda bundle: Footprint(0.5, 150 << 20, 0))
    write_function(sentence_bundle.path, tmp_path)
    spec = importlib.util.spec_from_file_location("function_handler", tmp_path / "handler.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    texts = ["the price of bread", "rain"]
    expected = headway.open(sentence_bundle.path)(texts)["sentence_embedding"].tolist()
    for event in ({"texts": texts}, {"body": json.dumps({"texts": texts})}):
        reply = module.handler(event)
        assert reply["statusCode"] == 200 and json.loads(reply["body"])["answers"] == expected
    for event in ({}, {"texts": []}, {"texts": [1]}, {"body": "{"}, {"texts": ["x"] * 65}, None):
        assert module.handler(event)["statusCode"] == 400
    assert "0.5 s" in (tmp_path / "README.md").read_text()


def test_queries_and_documents_are_no_function(
    sentence_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = replace(sentence_bundle.manifest, task="multi-vector")
    monkeypatch.setattr(service_files, "_copied", lambda *_: several)
    with pytest.raises(UsageError, match="queries and documents in two ways"):
        write_function(sentence_bundle.path, tmp_path)


@pytest.mark.parametrize(
    "task", ["text-classification", "token-classification", "multiple-choice", "question-answering"]
)
def test_each_task_has_its_method(task: str) -> None:
    method = service_files._METHODS[task]
    text = service_files._render("handler.py.j2", task=task, method=method)
    compile(text, "handler.py", "exec")
    assert f"bundle.{method}(" in text


def test_other_targets_are_refused(sentence_bundle: Exported, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sentence_bundle.path, tmp_path / "copy"))
    raw = json.loads((copy / "headway.json").read_text())
    (copy / "headway.json").write_text(json.dumps(raw | {"target": "web"}))
    with pytest.raises(UsageError, match="not for a server's CPU"):
        write_container(copy, tmp_path / "out")
