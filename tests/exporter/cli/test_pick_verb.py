"""`headway pick`: the best bundle that meets limits, printed or copied."""

import json
import shutil
from pathlib import Path

from headway.exporter.export import Exported

from tests.exporter.search.test_front_file import THREE
from tests.support.command_line import Headway


def test_the_best_is_printed_or_copied(headway: Headway, bert_bundle: Exported, tmp_path: Path) -> None:
    front = tmp_path / "front"
    front.mkdir()
    THREE.write(front)
    done = headway("pick", front)
    assert done.returncode == 3 and "002: the bundle is not there any more" in done.stderr
    shutil.copytree(bert_bundle.path, front / "bundles" / "002")
    done = headway("pick", front, "--max-ms", 5, "--min-quality", 86)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "int8: 4.00 ms, 25.0 MB, 88.00 points of accuracy",
        str(front / "bundles" / "002"),
    ]
    out = tmp_path / "picked"
    done = headway("pick", front, "--max-ms", 5, "--out", out, "--json")
    assert json.loads(done.stdout)["path"] == str(out) and headway("inspect", out).returncode == 0
    done = headway("pick", front, "--max-ms", 5, "--out", out)
    assert done.returncode == 2 and "--force" in done.stderr


def test_nothing_that_meets_the_limits(headway: Headway, tmp_path: Path) -> None:
    done = headway("pick", tmp_path)
    assert done.returncode == 2 and "holds no front.json" in done.stderr
    THREE.write(tmp_path)
    done = headway("pick", tmp_path, "--max-ms", 1, "--max-mb", 1)
    assert done.returncode == 1 and "no bundle meets --max-ms 1 and --max-mb 1. The nearest: 003" in done.stderr
    done = headway("pick", tmp_path, "--max-ms", "nan")
    assert done.returncode == 2 and "--max-ms nan: a finite number is expected" in done.stderr
    done = headway("pick", tmp_path, "--max-memory", 100)
    assert done.returncode == 2 and "search with --memory" in done.stderr
    (tmp_path / "front.json").write_text("{")
    assert headway("pick", tmp_path).returncode == 3
