"""Ahead-of-time compilation, without a GPU: what the assembler and Triton's own disassembler say of the kernels. Nothing is executed."""

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
from headway.kernels.triton.configs import AttentionConfig, SoftmaxConfig

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
    made = {}
    for arch in TENSOR_CORE:
        variant = builder.attention_variant(arch, "fp16", 32)
        made[arch] = variant, builder.compile_variant(variant, arch)
    return made


def cuobjdump(cubin: bytes, option: str, folder: Path) -> str:
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    tool = Path(sys.modules["triton"].__file__ or "").parent / "backends/nvidia/bin/cuobjdump"
    return subprocess.run([tool, option, path], capture_output=True, text=True, check=True, timeout=300).stdout


@pytest.mark.parametrize("arch", sorted(TENSOR_CORE))
def test_attention_uses_tensor_cores_and_wide_loads(arch: int, attention: dict[int, Any], tmp_path: Path) -> None:
    _, made = attention[arch]
    assert TENSOR_CORE[arch] in made.ptx
    assert re.search(r"cp\.async\.cg\.shared\.global \[ ?%\w+ ?\+ ?0 ?\], \[ ?%\w+ ?\+ ?0 ?\], 0x10", made.ptx)
    assert made.spill_bytes == 0
    assert 0 < made.shared_bytes <= configs.SHARED_BYTES[arch]
    assert made.target == {80: "sm_80", 90: "sm_90a"}[arch]
    told = cuobjdump(made.cubin, "-res-usage", tmp_path)
    assert re.search(rf"REG:{made.registers} STACK:0 ", told), told
    assert f" sm={made.target.removeprefix('sm_')}," in cuobjdump(made.cubin, "-elf", tmp_path)
    assert str(Path(__file__).parents[2]) not in made.ptx


@pytest.mark.parametrize("arch", sorted(TENSOR_CORE))
def test_parameters_are_those_of_the_source(arch: int, attention: dict[int, Any]) -> None:
    variant, made = attention[arch]
    entry = re.search(r"\.entry attention_kernel\((.*?)\)\n", made.ptx, re.DOTALL)
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
    made = builder.compile_variant(fixed, 80)
    assert made.ptx.count("masked_softmax_kernel_param_") >= len(fixed.parameters)
    assert ".param .f32" not in made.ptx
    assert "0f3E000000" in made.ptx or "0.125" in made.ptx  # 0.125 as a constant of the code


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


def test_tiles_fit_every_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bytes of queries, keys and values, which is what the candidates are chosen by."""
    for arch, most in configs.SHARED_BYTES.items():
        for head_dim in (16, 26, 32, 48, 64, 80, 96, 128):
            for itemsize in (2, 4):
                assert list(configs.attention_candidates(arch, head_dim, itemsize))
                for mean in (20, 200):
                    for bias in (False, True):
                        c = configs.attention_config(arch, head_dim, itemsize, mean, bias)
                        width = configs.padded_dim(head_dim) * itemsize
                        assert (c.block_m + 2 * c.block_n * c.stages) * width <= most
    for columns in (1, 2, 31, 128, 1000, 4096, 16_384, 100_000):
        assert list(configs.softmax_candidates(columns))
        assert configs.softmax_config(80, columns).rows >= 1


def test_what_a_device_measured_is_what_a_launch_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "configs.json"
    table.write_text(configs.TABLE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(configs, "TABLE", table)
    best, other = AttentionConfig(128, 16, 8, 4), configs.attention_config(90, 26, 2, 20.0, True)
    configs.record("attention", configs.attention_key(90, 26, 2, 20.0, False), best, "NVIDIA H100", 12.345)
    configs.record("softmax", configs.softmax_key(90, 100), SoftmaxConfig(2, 8), "NVIDIA H100", 1.0)
    try:
        assert configs.attention_config(90, 32, 2, 48.0, False) == best
        assert configs.attention_config(90, 32, 2, 20.0, True) == other
        assert configs.softmax_config(90, 128) == SoftmaxConfig(2, 8)
        assert json.loads(table.read_text())["attention"]["sm_90 head_dim 32 bytes 2 short"]["microseconds"] == 12.35
    finally:
        configs._table.cache_clear()


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


def test_the_gpu_benchmark_refuses_without_a_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    command = Path(__file__).parents[2] / "benchmarks" / "gpu" / "kernels.py"
    done = subprocess.run([sys.executable, command], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 4
    assert "torch finds no CUDA device" in done.stderr


def test_the_gpu_benchmark_needs_torch_and_triton_alone(tmp_path: Path) -> None:
    """Loaded by path, with Headway not installed and its dependencies hidden."""
    hidden = ["numpy", "onnx", "onnx_ir", "onnxruntime", "rich", "tokenizers", "transformers", "typer"]
    script = f"""
import sys
for name in {hidden}: sys.modules[name] = None
sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]
sys.path = [p for p in sys.path if p and 'headway' not in p]
import runpy
names = runpy.run_path({str(Path(__file__).parents[2] / "benchmarks/gpu/kernels.py")!r})
configs, softmax, attention = names['kernel_modules']()
print(configs.__name__, softmax.masked_softmax_kernel.__name__, attention.attention_kernel.__name__)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path
    )
    assert done.stdout.split() == ["headway.kernels.triton.configs", "masked_softmax_kernel", "attention_kernel"], (
        done.stderr
    )
