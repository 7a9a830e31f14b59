"""What is read of the processor, from files as Linux writes them on x86 and on Arm, and where there is no such file."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headway import processor

X86 = "processor\t: 0\nmodel name\t: Some CPU: 3 GHz\nflags\t\t: fpu avx2 avx512_vnni\n\nprocessor\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU part\t: 0xd0c\n"


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], None]]:
    """Make the text given stand for `/proc/cpuinfo`; None for a system without one."""

    def describe(text: str | None) -> None:
        file = tmp_path / "cpuinfo"
        if text is not None:
            file.write_text(text, encoding="utf-8")
        monkeypatch.setattr(processor, "Path", lambda _name: file)
        processor.about.cache_clear()

    yield describe
    processor.about.cache_clear()


def test_name_and_flags_are_those_the_system_lists(described: Callable[[str | None], None]) -> None:
    described(X86)
    assert processor.about() == ("Some CPU: 3 GHz", frozenset({"fpu", "avx2", "avx512_vnni"}))
    described(ARM)
    assert processor.about()[1] == {"fp", "asimd", "asimddp"}


def test_without_a_list_there_are_no_flags(described: Callable[[str | None], None]) -> None:
    described(None)
    assert processor.about()[1] == frozenset()


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "avx2", False), ("x86_64", "avx512_vnni", True), ("AMD64", "avx_vnni", True), ("AMD64", "", False),
        ("aarch64", "", True), ("arm64", "", True),
    ],
)  # fmt: skip
def test_int8_sums_are_exact_where_the_processor_is_known_not_to_saturate(
    machine: str, flags: str, exact: bool, described: Callable[[str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    described(f"flags: {flags}\n")
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    assert processor.adds_bytes_exactly() is exact
