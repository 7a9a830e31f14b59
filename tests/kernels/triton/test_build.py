"""Kernels compiled ahead of time, without a GPU: what the assembler and Triton's own disassembler say of them. Nothing is executed."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton is published for Linux only")

from triton import knobs

from headway.exporter.cli import app as cli
from headway.kernels.triton import build as builder
from headway.kernels.triton import configs

TENSOR_CORE = {80: "mma.sync", 90: "wgmma.mma_async"}


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing that another run compiled is taken for ours."""
    before, knobs.cache.dir = knobs.cache.dir, str(tmp_path_factory.mktemp("triton"))
    yield
    knobs.cache.dir = before


@pytest.fixture(scope="module")
def attention() -> dict[int, tuple[builder.Variant, builder.Compiled]]:
    """By architecture, head_dim 32 and no bias."""
    compiled = {}
    for arch in TENSOR_CORE:
        variant = builder.attention_variant(arch, "fp16", 32)
        compiled[arch] = variant, builder.compile_variant(variant, arch)
    return compiled


def cuobjdump(cubin: bytes, option: str, folder: Path) -> str:
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    tool = Path(sys.modules["triton"].__file__ or "").parent / "backends/nvidia/bin/cuobjdump"
    return subprocess.run([tool, option, path], capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.parametrize("arch", sorted(TENSOR_CORE))
def test_attention_uses_tensor_cores_and_wide_loads(arch: int, attention: dict[int, Any], tmp_path: Path) -> None:
    _, compiled = attention[arch]
    assert TENSOR_CORE[arch] in compiled.ptx
    assert re.search(r"cp\.async\.cg\.shared\.global \[ ?%\w+ ?\+ ?0 ?\], \[ ?%\w+ ?\+ ?0 ?\], 0x10", compiled.ptx)
    assert compiled.spill_bytes == 0
    assert 0 < compiled.shared_bytes <= configs.SHARED_BYTES[arch]
    assert compiled.target == {80: "sm_80", 90: "sm_90a"}[arch]
    told = cuobjdump(compiled.cubin, "-res-usage", tmp_path)
    assert re.search(rf"REG:{compiled.registers} STACK:0 ", told), told
    assert f" sm={compiled.target.removeprefix('sm_')}," in cuobjdump(compiled.cubin, "-elf", tmp_path)
    assert str(Path(__file__).parents[3]) not in compiled.ptx


@pytest.mark.parametrize("arch", sorted(TENSOR_CORE))
def test_parameters_are_those_of_the_source(arch: int, attention: dict[int, Any]) -> None:
    variant, compiled = attention[arch]
    entry = re.search(r"\.entry attention_kernel\((.*?)\)\n", compiled.ptx, re.DOTALL)
    assert entry is not None
    types = re.findall(r"\.param \.(\w+) ", entry[1])
    width = {"*": "u64", "i": "u32", "f": "f32"}
    assert types == [width[p["type"][0]] for p in variant.parameters]
    assert [p["name"] for p in variant.parameters][-1] == "out"
    assert "bias" not in [p["name"] for p in variant.parameters]


def test_a_scale_that_is_known_is_no_parameter() -> None:
    free = builder.softmax_variant(80, "fp16", 64, bias=False)
    fixed = builder.softmax_variant(80, "fp16", 64, bias=False, scale=0.125)
    assert {p["name"] for p in free.parameters} - {p["name"] for p in fixed.parameters} == {"scale"}
    compiled = builder.compile_variant(fixed, 80)
    assert compiled.ptx.count("masked_softmax_kernel_param_") >= len(fixed.parameters)
    assert ".param .f32" not in compiled.ptx
    assert "0f3E000000" in compiled.ptx or "0.125" in compiled.ptx  # 0.125 as a constant of the code


def test_the_same_source_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = builder.softmax_variant(90, "bf16", 128)
    first = builder.compile_variant(variant, 90)
    monkeypatch.setattr(knobs.cache, "dir", str(tmp_path))
    second = builder.compile_variant(variant, 90)
    assert first.ptx == second.ptx
    assert first.cubin == second.cubin


PTX = """.version 8.7
.target sm_80
.address_size 64
.visible .entry copy(
\t.param .u64 .ptr .global .align 1 copy_param_0,
\t.param .u32 copy_param_1,
\t.param .u64 .ptr .global .align 1 copy_param_2,
\t.param .u64 .ptr .global .align 1 copy_param_3
)
{
\t.reg .b64 %rd<2>;
\tld.param.b64 %rd1, [copy_param_0];
\tret;
}
"""


def test_scratch_pointers_are_dropped_only_where_nothing_reads_them() -> None:
    short = builder.drop_scratch(PTX, 2)
    assert "copy_param_1\n)" in short
    assert "copy_param_2" not in short
    cubin, _ = builder.assemble(short, "sm_80")
    assert cubin[:4] == b"\x7fELF"
    used = PTX.replace("[copy_param_0]", "[copy_param_3]")
    with pytest.raises(builder.BuildError, match="reads copy_param_3"):
        builder.drop_scratch(used, 2)
    with pytest.raises(builder.BuildError, match="4 parameters in PTX, 5 are expected"):
        builder.drop_scratch(PTX, 5)
    with pytest.raises(builder.BuildError, match="no entry point"):
        builder.drop_scratch("", 1)


def test_the_assembler_refuses_what_is_no_ptx() -> None:
    with pytest.raises(builder.BuildError, match=r"(?s)refuses the PTX for sm_80: .*copy_param_9"):
        builder.assemble(PTX.replace("[copy_param_0]", "[copy_param_9]"), "sm_80")


def test_what_cannot_be_built_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = builder.softmax_variant(86, "fp16", 64)
    monkeypatch.setitem(configs.SHARED_BYTES, 86, 16)
    with pytest.raises(builder.BuildError, match="bytes of shared memory are needed, 16 are available"):
        builder.compile_variant(variant, 86)
    with pytest.raises(builder.BuildError, match="unset TRITON_INTERPRET"):
        builder.compile_variant(replace(variant, function=object()), 86)
    with pytest.raises(ValueError, match="head_dim 129 is not supported"):
        builder.attention_variant(80, "fp16", 129)
    with pytest.raises(ValueError, match="fp8 is not supported"):
        builder.softmax_variant(80, "fp8", 64)


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["headway", "kernels", "build", *map(str, arguments)])
    return cli._run()


def test_the_command_writes_what_its_manifest_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def two(arch: int, head_dims: object, dtypes: object) -> Iterator[builder.Variant]:
        assert head_dims == [16]
        yield builder.attention_variant(arch, "bf16", 16, padded=True, bias=True)
        yield builder.softmax_variant(arch, "fp16", 2 * configs.LONGEST_TILE)

    monkeypatch.setattr(builder, "variants", two)
    out = tmp_path / "made"
    assert command(monkeypatch, "--arch", "sm_89,120", "--head-dim", 16, "--out", out) == 0
    assert "padded_attention-bf16-d16-bias" in capsys.readouterr().out
    manifest = json.loads((out / "kernels.json").read_text())
    assert manifest["triton"] == "3.6.0"
    assert [k["architecture"] for k in manifest["kernels"]] == ["sm_89", "sm_89", "sm_120", "sm_120"]
    written = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} - {"kernels.json"}
    assert written == {k[kind]["file"] for k in manifest["kernels"] for kind in ("ptx", "cubin")}
    for kernel in manifest["kernels"]:
        for kind in ("ptx", "cubin"):
            content = (out / kernel[kind]["file"]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == kernel[kind]["sha256"]
        assert kernel["block"][0] % 32 == 0
        names = {p["name"] for p in kernel["parameters"]} | {"heads"}
        assert set(re.findall(r"[a-z]\w*", " ".join(kernel["grid"]))) <= names
    assert command(monkeypatch, "--out", out) == 2
    assert "exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--arch", "sm_75"), "sm_75 is not supported"), (("--arch", "hopper"), "compute capabilities are expected"),
     (("--arch", ""), "compute capabilities are expected"),
     (("--arch", "80", "--head-dim", "8"), "head_dim 8 is not supported")],
)  # fmt: skip
def test_wrong_options_are_refused(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    assert command(monkeypatch, *arguments, "--out", tmp_path / "made") == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_triton_the_extra_is_named(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['triton'] = None; import headway.exporter.cli.app as c; "
        f"sys.argv = ['headway', 'kernels', 'build', '--out', {str(tmp_path / 'made')!r}]; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 4
    assert "pip install 'headway[gpu]'" in done.stderr
