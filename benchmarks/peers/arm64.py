"""An arm64 Linux beside this one: emulation of single programs, Python with its wheels, a cross-compiler. All under `.cache/arm`.

Debian packages are resolved and downloaded by apt from the sources that the system has configured, into lists and folders of
their own, and unpacked: nothing is installed, and the system's apt is left as it is. Wheels have the versions of `constraints.txt`.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from headway.kernels.cpu import build

from ..arm_worker import PTE_LIBRARY

REPOSITORY = Path(__file__).resolve().parents[2]
ROOT = REPOSITORY / ".cache" / "arm"

ARM_PACKAGES = ["python3", "libstdc++6"]
HOST_PACKAGES = ["qemu-user-static", "g++-aarch64-linux-gnu"]
RUNTIME = [
    "onnxruntime",
    "executorch",
    "numpy",
    "tokenizers",
    "flatbuffers",
    "protobuf",
    "packaging",
    "typing_extensions",
]
TESTS = ["onnx", "ml_dtypes", "hypothesis", "sortedcontainers", "pytest", "iniconfig", "pluggy", "Pygments", "psutil"]
OTHERS = ["ai-edge-litert==2.3.0", "tqdm==4.70.1", "backports.strenum==1.2.8"]

_BASE = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
_ARM82 = f"{_BASE} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"


@dataclass(frozen=True)
class Processor:
    """A model of QEMU's (`-cpu`), with the part number and the features by which programs know it in `/proc/cpuinfo`."""

    name: str
    part: str
    features: str


PROCESSORS = (
    Processor("cortex-a53", "0xd03", _BASE),
    Processor("cortex-a76", "0xd0b", f"{_ARM82} ssbs"),
    Processor("neoverse-n1", "0xd0c", f"{_ARM82} ssbs"),
)
"""Armv8.0 without products of bytes; a phone's large core and a server's, both with them (`asimddp`)."""


@dataclass(frozen=True)
class Machine:
    """What was set up: run programs of it with `python`."""

    processor: Processor

    def python(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> list[str]:
        """Return the command that runs Python, with `headway` and the kernels built for it."""
        settings = {"PYTHONPATH": f"{ROOT / 'package'}:{ROOT / 'site'}", "PYTHONDONTWRITEBYTECODE": "1"}
        settings[PTE_LIBRARY] = str(pte())
        handed = [a for k, v in (settings | dict(environment or {})).items() for a in ("-E", f"{k}={v}")]
        interpreter = ROOT / "arm64" / "usr" / "bin" / "python3"
        emulator = [str(ROOT / "host" / "usr" / "bin" / "qemu-aarch64-static"), "-cpu", self.processor.name]
        root = ROOT / "roots" / self.processor.name
        return [*emulator, "-L", str(root), *handed, str(interpreter.resolve()), "-P", *map(str, arguments)]


def machines(names: Sequence[str] = ()) -> list[Machine]:
    """Emulated machines by the names of their processors (default: all), set up on first use, with today's `headway` in them."""
    if platform.machine() != "x86_64":
        raise SystemExit("arm64 is emulated on x86-64 here; elsewhere run the bundles themselves")
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise SystemExit(
                f"{tool} not found: the arm64 programs come as Debian packages; run this on Debian or Ubuntu"
            )
    _set_up()
    _put_headway()
    chosen = [p for p in PROCESSORS if not names or p.name in names]
    for processor in chosen:
        _root(processor)
    return [Machine(p) for p in chosen]


def versions() -> dict[str, str]:
    """Of the packages that matter, as they were downloaded."""
    archives = [p.name.split("_") for p in ROOT.glob("apt-*/archives/*.deb")]
    wanted = ("qemu-user-static", "libc6", "g++-12-aarch64-linux-gnu", "python3-minimal")
    found = {name[0]: name[1].replace("%3a", ":") for name in archives if name[0] in wanted}
    return found | {p.split("==")[0]: p.split("==")[1] for p in _wheels()}


def _wheels() -> list[str]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").split()
    pinned = {line.split("==")[0]: line for line in lines if "==" in line}
    return [pinned[name] for name in RUNTIME + TESTS] + OTHERS


def _set_up() -> None:
    wanted = hashlib.sha256(repr((ARM_PACKAGES, HOST_PACKAGES, _wheels())).encode()).hexdigest()
    ready = ROOT / "ready"
    if ready.is_file() and ready.read_text() == wanted:
        return
    for part in ("arm64", "host", "site"):
        shutil.rmtree(ROOT / part, ignore_errors=True)
    for package in _debian("arm64", ARM_PACKAGES):
        subprocess.run(["dpkg-deb", "-x", package, ROOT / "arm64"], check=True)
    for package in _debian("amd64", HOST_PACKAGES):
        subprocess.run(["dpkg-deb", "-x", package, ROOT / "host"], check=True)
    for other in (ROOT / "host" / "usr" / "bin").glob(
        "qemu-*-static"
    ):  # there is one for every processor, half a gigabyte
        if other.name != "qemu-aarch64-static":
            other.unlink()
    python = (ROOT / "arm64" / "usr" / "bin" / "python3").resolve().name.removeprefix("python")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    platforms = [f"--platform=manylinux{glibc}_aarch64" for glibc in ("_2_28", "_2_27", "_2_26", "_2_17", "2014")]
    command += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms]
    subprocess.run([*command, "--dest", ROOT / "wheels", *_wheels()], check=True)
    for wheel in (ROOT / "wheels").glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(ROOT / "site")
    ready.write_text(wanted)


def _debian(architecture: str, packages: Sequence[str]) -> list[Path]:
    """Return the packages and all that they need, as files. The state is empty, so that nothing counts as installed."""
    home = ROOT / f"apt-{architecture}"
    for folder in ("lists/partial", "archives/partial"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    (home / "status").write_text("")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "0",
        "APT::Sandbox::User": "",
        "APT::Get::Download-Only": "1",
        "Debug::NoLocking": "1",
        "Dir::State": home,
        "Dir::State::status": home / "status",
        "Dir::Cache": home,
    }
    apt = ["apt-get", "-qq", "-y", *(a for k, v in settings.items() for a in ("-o", f"{k}={v}"))]
    for words in (["update"], ["install", *packages]):
        subprocess.run([*apt, *words], check=True, stdout=subprocess.DEVNULL)
    return sorted((home / "archives").glob("*.deb"))


def _root(processor: Processor) -> None:
    """Return the root that a processor's programs see: everything of the common one, and the system's files that describe the processor.

    Without them, ONNX Runtime reads the host's and ends itself while it is imported.
    """
    root = ROOT / "roots" / processor.name
    shutil.rmtree(root, ignore_errors=True)
    cpus = root / "sys" / "devices" / "system" / "cpu"
    cpus.mkdir(parents=True)
    for name in ("possible", "present", "online", "kernel_max"):
        (cpus / name).write_text("0\n")
    (root / "proc").mkdir()
    lines = {
        "processor": "0",
        "BogoMIPS": "50.00",
        "Features": processor.features,
        "CPU implementer": "0x41",
        "CPU architecture": "8",
        "CPU variant": "0x0",
        "CPU part": processor.part,
        "CPU revision": "1",
    }
    (root / "proc" / "cpuinfo").write_text("".join(f"{k}\t: {v}\n" for k, v in lines.items()) + "\n")
    for entry in (ROOT / "arm64").iterdir():
        (root / entry.name).symlink_to(os.path.relpath(entry, root))


def _put_headway() -> None:
    """`headway` as it is in the working tree, with kernels cross-compiled where their sources have changed."""
    package = ROOT / "package" / "headway"
    shutil.rmtree(package, ignore_errors=True)
    shutil.copytree(REPOSITORY / "headway", package, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("exporter", "calibration", "kernels"):
        shutil.copytree(
            REPOSITORY / part, package / part, ignore=shutil.ignore_patterns("__pycache__", ".*", build.LIBRARY)
        )
    shutil.copy(kernels(), package / "kernels" / "cpu" / build.LIBRARY)


def kernels() -> Path:
    """Return the operators' library for arm64, by the cross-compiler."""
    sources = sorted(p for p in build.HERE.iterdir() if p.suffix in (".cc", ".h", ".py"))
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()[:16]
    library = ROOT / "kernels" / digest / build.LIBRARY
    if not library.is_file():
        with _cross_compiler():
            build.build(library, machine="aarch64")
    return library


def pte() -> Path:
    """`pte.cc` for arm64, linked to the libraries of ExecuTorch's wheel."""
    source = Path(__file__).with_name("pte.cc")
    library = ROOT / "kernels" / hashlib.sha256(source.read_bytes()).hexdigest()[:16] / "libpte.so"
    if not library.is_file():
        library.parent.mkdir(parents=True, exist_ok=True)
        wheel = ROOT / "site" / "executorch"
        flags = ["-std=c++17", "-O2", "-shared", "-fPIC", "-w", "-DC10_USING_CUSTOM_GENERATED_MACROS"]
        include = wheel / "include"
        flags += [f"-I{include}", f"-I{include / 'executorch' / 'runtime' / 'core' / 'portable_type' / 'c10'}"]
        names = ("", "_kernels_optimized", "_kernels_quantized", "_backend_xnnpack", "_threadpool")
        link = [f"-L{wheel / 'lib'}", f"-Wl,-rpath,{wheel / 'lib'}", "-Wl,--no-as-needed"]
        with _cross_compiler() as compiler:
            command = [*compiler.split(), *flags, str(source), "-o", str(library), *link]
            subprocess.run([*command, *(f"-lexecutorch{n}" for n in names)], check=True)
    return library


@contextmanager
def _cross_compiler() -> Iterator[str]:
    host = ROOT / "host"
    compiler = f"{host / 'usr' / 'bin' / 'aarch64-linux-gnu-g++'} --sysroot={host}"
    libraries = str(host / "usr" / "lib" / "x86_64-linux-gnu")  # the assembler's and the linker's own
    with patch.dict(os.environ, CXX=compiler, LD_LIBRARY_PATH=libraries):
        yield compiler
