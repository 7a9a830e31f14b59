"""Bad input and bad machines, through the command line's own entry: a message, an exit code, nothing left behind."""

import shutil
import subprocess
import sys
from pathlib import Path

import onnx_ir as ir
import pytest

from headway.errors import UsageError
from headway.exporter.recipe.recipe import read_recipe

from tests.support.refusals import refused
from tests.support.variants import canonical


@pytest.mark.parametrize(
    "text", ["- a\n", "source: x\nspeed: 2\n", "source: x\nversion: 9\n", "a: [", "source: x\nmax_mb: -1\n"]
)
def test_bad_recipes_name_the_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"recipe\.yaml"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_gate_on_size(bert: Path, tmp_path: Path) -> None:
    error = refused(bert, tmp_path / "out", max_mb=0.01)
    assert error.exit_code == 1
    assert "MB" in str(error)


def test_a_wrong_artifact_is_never_left(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lowering that changes what is computed: refused with the first module that differs, nothing written."""
    from headway.exporter.targets.ort import target as ort

    right = ort._AttentionLowering.lower

    def wrong(self: object, node: object) -> bool:
        if "encoder.layer.2." in node.inputs[0].name:  # type: ignore[attr-defined]
            node.attributes["scale"] = type(node.attributes["scale"])("scale", node.attributes["scale"].type, 0.01)  # type: ignore[attr-defined]
        return right(self, node)  # type: ignore[arg-type]

    monkeypatch.setattr(ort._AttentionLowering, "lower", wrong)
    error = refused(bert, tmp_path / "out")
    assert error.exit_code == 1
    assert "encoder.layer.2" in str(error) and "lowering" in str(error)


def test_a_full_disk(bert: Path, tmp_path: Path) -> None:
    """On a file system of 200 kB in a mount namespace of its own, where the machine allows one. No trace: the source is an ONNX file."""
    source, disk = tmp_path / "source", tmp_path / "disk"
    shutil.copytree(bert, source)
    (source / "model.safetensors").unlink()
    ir.save(canonical(bert), source / "model.onnx")
    disk.mkdir()
    headway = f"{sys.executable} -m headway.exporter.cli.app export {source}/model.onnx --out {disk}/out -q"
    script = f"mount -t tmpfs -o size=200k tmpfs {disk} && {headway}; code=$?; ls -A {disk}; exit $code"
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", script], capture_output=True, text=True, timeout=300
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no private mount here: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert "disk is full" in done.stderr
    assert done.stdout.strip() == ""
