"""The build of the CPU kernels says what is missing; a library is replaced, never overwritten."""

import ctypes
import subprocess
from pathlib import Path

import pytest

from headway.kernels.cpu import build


def test_without_a_compiler_one_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(build.shutil, "which", lambda _name: None)
    assert build.compiler() is None
    with pytest.raises(RuntimeError, match=r"no C\+\+ compiler found .*set CXX"):
        build.build(tmp_path / build.LIBRARY)


def test_the_compiler_that_is_named_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("CXX", "clang++ -m64")
    assert build.compiler() == "clang++ -m64"
    monkeypatch.setenv("CXX", "")
    assert build.compiler() == "g++"


def test_another_processor_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compiler", lambda: "g++")
    with pytest.raises(RuntimeError, match="no kernels for processors of type riscv64"):
        build.build(tmp_path / build.LIBRARY, machine="riscv64")


def test_each_file_is_compiled_for_its_instruction_sets_and_the_library_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a stand-in for the compiler, which writes down what it is asked for."""
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        assert check
        commands.append(command)
        Path(command[command.index("-o") + 1]).write_bytes(b"object")

    monkeypatch.setattr(build, "compiler", lambda: "g++")
    monkeypatch.setattr(build.subprocess, "run", run)
    out = tmp_path / "folder" / build.LIBRARY
    out.parent.mkdir()
    out.write_bytes(b"in use")
    before = out.stat().st_ino
    assert build.build(out, machine="x86_64") == out
    assert out.read_bytes() == b"object" and out.stat().st_ino != before
    assert [path.name for path in out.parent.iterdir()] == [build.LIBRARY]
    *compiled, linked = commands
    assert "-shared" in linked
    sets: dict[str, set[str]] = {}
    for command in compiled:
        name = Path(command[command.index("-c") + 1]).name
        sets.setdefault(name, set()).update(c.removeprefix("-DHEADWAY_ISA=") for c in command if "HEADWAY_ISA" in c)
    assert sets["attention.cc"] == set()
    assert sets["attention.simd.cc"] == {"baseline", "avx2", "avx512"}
    dot = {"baseline", "avx2", "avx512", "avx2_dot", "avx512_dot"}
    assert sets["quantized_linear.dot.simd.cc"] == dot
    assert sets["bfloat16_linear.bf16.simd.cc"] == {"baseline", "avx2", "avx512", "avx512_bf16", "avx512_amx"}
    assert set(sets) == {path.name for path in Path(build.__file__).parent.glob("*.cc")}


def test_a_source_that_does_not_compile_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if build.compiler() is None:
        pytest.skip("no C++ compiler")
    (tmp_path / "wrong.cc").write_text("int f( {", encoding="utf-8")
    monkeypatch.setattr(build, "HERE", tmp_path)
    with pytest.raises(subprocess.CalledProcessError):
        build.build(tmp_path / "out" / build.LIBRARY)
    assert not (tmp_path / "out" / build.LIBRARY).exists()


def test_a_library_of_one_source_can_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if build.compiler() is None:
        pytest.skip("no C++ compiler")
    code = '#define SHOWN __attribute__((visibility("default")))\nextern "C" SHOWN int seven() { return 7; }\n'
    (tmp_path / "seven.cc").write_text(code, encoding="utf-8")
    monkeypatch.setattr(build, "HERE", tmp_path)
    assert ctypes.CDLL(str(build.build(tmp_path / build.LIBRARY))).seven() == 7
