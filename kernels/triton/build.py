"""Compile each kernel ahead of time to PTX and cubin for an architecture, without a GPU, with what is needed to launch it.

Triton compiles to PTX and appends scratch pointers to the parameters of every kernel, which these kernels never read. They are
dropped, so that the parameters are those of the source. The assembler that Triton ships makes the cubin of that text and so
checks it. From sm_90 on Triton writes PTX for the architecture-specific target (sm_90a), which runs on that architecture alone.
"""

import hashlib
import json
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

from .attention import attention_kernel
from .configs import (
    ARCHITECTURES,
    HEAD_DIMS,
    LONGEST_TILE,
    SHARED_BYTES,
    SHORT,
    AttentionConfig,
    SoftmaxConfig,
    attention_config,
    padded_dim,
    power_of_two,
    softmax_config,
)
from .softmax import long_softmax_kernel, masked_softmax_kernel

DTYPES = {"fp16": 2, "bf16": 2, "fp32": 4}
"""Bytes per element, by Triton's names of dtypes."""

SOFTMAX_COLUMNS = (128, 256, 512, 1024, 4096, 2 * LONGEST_TILE)
"""A row takes the first of these that it fits into; rows that fit into none before the last take the last."""

MANIFEST = "kernels.json"


class BuildError(RuntimeError):
    """The compiler or the assembler refused a kernel, or its result is not what a launch expects."""


@dataclass(frozen=True)
class Variant:
    """A kernel with everything that is fixed when it is compiled.

    `signature` has every parameter of the function in order: a Triton type (`*fp16`, `i32`, `fp32`), or `constexpr` with a value
    in `constants`. Pointers must be aligned to 16 bytes; integers named in `multiples` must be multiples of 16. `grid` are
    expressions in the parameters, with `/` rounding down.
    """

    name: str
    op: str
    function: Any
    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    multiples: frozenset[str]
    grid: tuple[str, str, str]
    warps: int
    stages: int
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """Return what a launch passes, in order."""
        passed = {n: t for n, t in self.signature.items() if t != "constexpr"}
        return [{"name": n, "type": t, "multiple_of_16": n in self.multiples or t[0] == "*"} for n, t in passed.items()]


@dataclass(frozen=True)
class Compiled:
    """A compiled kernel. `target` is as in the PTX (sm_90a), `shared_bytes` dynamic shared memory, `registers` per thread."""

    entry: str
    ptx: str
    cubin: bytes
    target: str
    threads: int
    shared_bytes: int
    registers: int
    spill_bytes: int


def attention_variant(
    arch: int,
    dtype: str,
    head_dim: int,
    *,
    padded: bool = False,
    bias: bool = False,
    causal: bool = False,
    scale: float | None = None,
    config: AttentionConfig | None = None,
) -> Variant:
    """Return a variant of attention; without `scale` it is a parameter of the launch.

    Raises ValueError for a dtype or head_dim that is not supported.
    """
    _check_dtype(dtype)
    low, high = HEAD_DIMS
    if not low <= head_dim <= high:
        raise ValueError(f"head_dim {head_dim} is not supported, {low} to {high} are")
    chosen = config or attention_config(arch, head_dim, DTYPES[dtype], SHORT + 1, bias)
    pointer, missing = f"*{dtype}", {} if bias else {"bias": None}
    signature = {
        "q": pointer, "k": pointer, "v": pointer, "lengths": "*i32", "bias": pointer, "tokens": "i32", "sequences": "i32",
        "padded": "i32", "stride_q": "i32", "stride_k": "i32", "stride_v": "i32", "stride_bias_head": "i32",
        "stride_bias": "i32", "scale": "fp32", "out": pointer,
    }  # fmt: skip
    fixed = {
        "HEAD_DIM": head_dim, "PADDED": padded, "CAUSAL": causal,
        "BLOCK_M": chosen.block_m, "BLOCK_N": chosen.block_n, "BLOCK_D": padded_dim(head_dim),
    }  # fmt: skip
    constants = missing | ({} if scale is None else {"scale": scale}) | fixed
    multiples = {"stride_bias_head", "stride_bias"} if bias else set()
    multiples |= {"stride_q", "stride_k", "stride_v"} if head_dim % 16 == 0 else set()
    block = chosen.block_m
    blocks = f"sequences * ((padded + {block - 1}) / {block})" if padded else f"tokens / {block} + sequences"
    form = "padded" if padded else "packed"
    extras = ("-bias" if bias else "") + ("-causal" if causal else "")
    return Variant(
        name=f"{form}_attention-{dtype}-d{head_dim}{extras}",
        op="PaddedAttention" if padded else "PackedAttention",
        function=attention_kernel,
        signature=signature | dict.fromkeys(constants, "constexpr"),
        constants=constants,
        multiples=frozenset(multiples),
        grid=(blocks, "heads", "1"),
        warps=chosen.warps,
        stages=chosen.stages,
        about={"dtype": dtype, "head_dim": head_dim, "bias": bias, "causal": causal},
    )


def softmax_variant(
    arch: int,
    dtype: str,
    columns: int,
    *,
    bias: bool = True,
    aligned: bool = False,
    bias_of_columns: bool = True,
    scale: float | None = None,
    config: SoftmaxConfig | None = None,
) -> Variant:
    """Return a softmax for rows of up to the next power of two of `columns`, or of any length beyond `LONGEST_TILE`.

    `aligned`: the number of columns and the strides of the bias are multiples of 16, so several elements are read at a time.
    `bias_of_columns`: the bias has one number per column in its last axis, else one for all columns.
    """
    _check_dtype(dtype)
    chosen = config or softmax_config(arch, columns)
    tile, long = min(power_of_two(columns), LONGEST_TILE), columns > LONGEST_TILE
    pointer, missing = f"*{dtype}", {} if bias else {"bias": None}
    integers = ("rows", "columns", "size1", "size2", "stride0", "stride1", "stride2", "stride3")
    signature = {"x": pointer, "bias": pointer} | dict.fromkeys(integers, "i32") | {"scale": "fp32", "out": pointer}
    constants = missing | {"stride3": int(bias_of_columns)} | ({} if scale is None else {"scale": scale})
    constants |= {"ROWS": chosen.rows, "BLOCK": tile}
    extras = ("-bias" if bias else "") + ("-aligned" if aligned else "")
    return Variant(
        name=f"masked_softmax-{dtype}-{'long' if long else tile}{extras}",
        op="MaskedSoftmax",
        function=long_softmax_kernel if long else masked_softmax_kernel,
        signature=signature | dict.fromkeys(constants, "constexpr"),
        constants=constants,
        multiples=frozenset({"columns", "stride0", "stride1", "stride2"} if aligned else ()),
        grid=(f"(rows + {chosen.rows - 1}) / {chosen.rows}", "1", "1"),
        warps=chosen.warps,
        stages=1,
        about={"dtype": dtype, "longest_row": None if long else tile, "bias": bias},
    )


def compile_variant(variant: Variant, arch: int) -> Compiled:
    """Compile and assemble for compute capability `arch` (90 for sm_90). Raises BuildError."""
    if not hasattr(variant.function, "cache_key"):
        raise BuildError("the kernels were imported for the interpreter: unset TRITON_INTERPRET to compile them")
    names = list(variant.signature)
    attributes = {
        (names.index(p["name"]),): [["tt.divisibility", 16]] for p in variant.parameters if p["multiple_of_16"]
    }
    source = ASTSource(variant.function, dict(variant.signature), dict(variant.constants), attributes)
    line_info, knobs.compilation.disable_line_info = knobs.compilation.disable_line_info, True  # it contains paths
    try:
        options = {"num_warps": variant.warps, "num_stages": variant.stages}
        kernel = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    except Exception as error:
        raise BuildError(f"{variant.name} for sm_{arch}: {error}") from error
    finally:
        knobs.compilation.disable_line_info = line_info
    if kernel.metadata.shared > SHARED_BYTES[arch]:
        raise BuildError(
            f"{variant.name} for sm_{arch}: {kernel.metadata.shared} bytes of shared memory are needed, "
            f"{SHARED_BYTES[arch]} are available: take smaller blocks or fewer stages"
        )
    ptx = drop_scratch(kernel.asm["ptx"], len(variant.parameters))
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE)
    assert target is not None
    cubin, log = assemble(ptx, target[1])
    return Compiled(
        entry=kernel.metadata.name,
        ptx=ptx,
        cubin=cubin,
        target=target[1],
        threads=32 * kernel.metadata.num_warps,
        shared_bytes=kernel.metadata.shared,
        registers=_number(r"Used (\d+) registers", log),
        spill_bytes=_number(r"(\d+) bytes spill stores", log) + _number(r"(\d+) bytes spill loads", log),
    )


def drop_scratch(ptx: str, parameters: int) -> str:
    """Return the kernel with its first `parameters` parameters only. Raises BuildError where a later one is used."""
    entry = re.search(r"\.visible \.entry (\w+)\(\n(.*?)\n\)", ptx, re.DOTALL)
    if entry is None:
        raise BuildError("the PTX has no entry point")
    declared = entry[2].split(",\n")
    if len(declared) < parameters:
        raise BuildError(f"{entry[1]} has {len(declared)} parameters in PTX, {parameters} are expected")
    for line in declared[parameters:]:
        name = line.split()[-1]
        if len(re.findall(rf"\b{name}\b", ptx)) > 1:
            raise BuildError(f"{entry[1]} reads {name}, a scratch pointer that Triton {triton.__version__} appended")
    return ptx[: entry.start(2)] + ",\n".join(declared[:parameters]) + ptx[entry.end(2) :]


def assemble(ptx: str, target: str) -> tuple[bytes, str]:
    """Return the cubin and the assembler's log of registers. Raises BuildError with its message."""
    number = re.match(r"sm_(\d+)", target)
    assert number is not None
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        command = [get_ptxas(int(number[1])).path, "-v", f"--gpu-name={target}", str(source), "-o", str(cubin)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"the assembler refuses the PTX for {target}: {done.stderr.strip()}")
        return cubin.read_bytes(), done.stderr


def variants(
    arch: int, head_dims: Sequence[int] = (32, 64), dtypes: Sequence[str] = ("fp16", "bf16")
) -> Iterator[Variant]:
    """Yield what `build` compiles for an architecture: both forms of attention with and without bias, and every softmax."""
    for dtype in dtypes:
        for head_dim in head_dims:
            for padded in (False, True):
                for bias in (False, True):
                    yield attention_variant(arch, dtype, head_dim, padded=padded, bias=bias)
        for columns in SOFTMAX_COLUMNS:
            for bias in (False, True):
                for aligned in (False, True):
                    yield softmax_variant(arch, dtype, columns, bias=bias, aligned=aligned)


def build(
    out: Path,
    architectures: Sequence[int] = ARCHITECTURES,
    head_dims: Sequence[int] = (32, 64),
    dtypes: Sequence[str] = ("fp16", "bf16"),
    on_step: Callable[..., None] = lambda *_, **__: None,
) -> dict[str, Any]:
    """Write `out/sm_*/*.ptx`, `*.cubin` and `out/kernels.json`, and return the content of the last. `out` exists and is empty.

    `on_step(name, of=total)` is called before each kernel. Raises ValueError for an unknown architecture, dtype or head_dim, and
    BuildError where a kernel is refused.
    """
    for arch in architectures:
        if arch not in ARCHITECTURES:
            raise ValueError(f"sm_{arch} is not supported: {', '.join(f'sm_{a}' for a in ARCHITECTURES)} are")
    todo = [(arch, variant) for arch in architectures for variant in variants(arch, head_dims, dtypes)]
    rows = []
    for arch, variant in todo:
        on_step(f"compile, sm_{arch} {variant.name}", of=len(todo))
        compiled = compile_variant(variant, arch)
        folder = out / f"sm_{arch}"
        folder.mkdir(exist_ok=True)
        files = {}
        for kind, content in (("ptx", compiled.ptx.encode()), ("cubin", compiled.cubin)):
            path = folder / f"{variant.name}.{kind}"
            path.write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            files[kind] = {"file": path.relative_to(out).as_posix(), "bytes": len(content), "sha256": sha256}
        rows.append(
            {"name": variant.name, "op": variant.op, "architecture": f"sm_{arch}"} | launch(variant, compiled) | files
        )
    manifest = {"version": 1, "triton": triton.__version__, "assembler": _assemblers(architectures), "kernels": rows}
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return manifest


def launch(variant: Variant, compiled: Compiled) -> dict[str, Any]:
    """Return how a kernel is launched, as JSON."""
    return {
        "target": compiled.target,
        "entry": compiled.entry,
        "parameters": variant.parameters,
        "constants": dict(variant.constants),
        "grid": variant.grid,
        "block": [compiled.threads, 1, 1],
        "shared_bytes": compiled.shared_bytes,
        "registers": compiled.registers,
        "spill_bytes": compiled.spill_bytes,
    } | dict(variant.about)


def _assemblers(architectures: Sequence[int]) -> dict[str, str]:
    return {f"sm_{arch}": str(get_ptxas(arch).version) for arch in architectures}


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"{dtype} is not supported: {', '.join(DTYPES)} are")


def _number(pattern: str, text: str) -> int:
    match = re.search(pattern, text)
    return int(match[1]) if match else 0
