"""What a wheel installs, and what the command imports before it knows what to do."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from headway.kernels.cpu.build import compiler

ROOT = Path(__file__).parents[1]


def test_a_wheel_installs_headway_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    ignored = shutil.ignore_patterns(".*", "build", "tests", "benchmarks", "*.egg-info", "__pycache__", "*.so")
    shutil.copytree(ROOT, copy, ignore=ignored)
    kernels = sorted(path for kind in ("cc", "h") for path in (copy / "kernels" / "cpu").glob(f"*.{kind}"))
    for path in kernels:
        path.write_text("")  # what is in them, other tests compile
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names} == {"headway", "headway-0.1.0.dist-info"}
    modules = {f"headway/{p.relative_to(ROOT / 'headway')}" for p in (ROOT / "headway").rglob("*.py")}
    for folder in ("exporter", "calibration", "kernels"):
        modules |= {f"headway/{p.relative_to(ROOT)}" for p in (ROOT / folder).rglob("*.py")}
    assert modules <= set(names)
    assert "headway/py.typed" in names
    assert len(kernels) > 5 and {f"headway/{p.relative_to(copy)}" for p in kernels} <= set(names)
    assert compiler() is None or "headway/kernels/cpu/libheadway_cpu.so" in names
    licenses = {f"headway-0.1.0.dist-info/licenses/{name}" for name in ("LICENSE", "THIRD_PARTY_LICENSES.md")}
    assert licenses <= set(names)
    assert "headway/calibration/parity.txt" in names
    assert "headway/kernels/triton/configs.json" in names
    sources = ROOT / "exporter" / "tokenizer" / "reader" / "sources"
    phone = {f"headway/{p.relative_to(ROOT)}" for p in sources.iterdir()}
    assert len(phone) == 7 and phone <= set(names)
    folder = ROOT / "exporter" / "targets" / "web" / "page"
    page = {f"headway/{p.relative_to(ROOT)}" for p in folder.iterdir() if p.is_file()}
    assert len(page) == 9 and page <= set(names)
    for folder in (
        "exporter/publish/html_report/templates",
        "exporter/targets/tensorrt/templates",
        "exporter/package/snippets/templates",
    ):
        templates = {f"headway/{folder}/{p.name}" for p in (ROOT / folder).iterdir()}
        assert len(templates) > 1 and templates <= set(names)


def test_the_command_starts_light() -> None:
    heavy = {"numpy", "onnxruntime", "torch", "tokenizers", "onnx_ir"}
    script = f"import sys, headway.exporter.cli.app; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
