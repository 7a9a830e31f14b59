"""`headway bench BUNDLE --device adb`: measure a bundle's latency on an Android device, with the perf tool of its runtime.

The artifact, the tool and real token ids go into a new folder below `/data/local/tmp`. The tool runs there, and what it prints or
writes is read. The folder is removed whatever happens. Only what the tool reports is recorded: no percentile is made up from a
mean. Needs `adb`, and nothing of Headway on the device.
"""

import json
import re
import secrets
import shlex
import shutil
import struct
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...calibration.corpus import lines_or_builtin
from ...errors import SourceError, TargetError, UsageError
from ...manifest import MANIFEST, Manifest
from ...scratch import scratch
from ...text import TextEncoder
from ..publish.staging import output_folder
from ..publish.writing import written
from .bench_bundle import RESULT_FILE, revised
from .measure import Case, feeds_for
from .perf_tools import RESULTS, TOOLS, ExecutorRunner, Timing, Tool, ToolCase

RUNS = 200
CASES = (Case(1, 32), Case(1, 128))
ONE_TEXT = (".tflite", ".pte")
FOLDER = "/data/local/tmp"
LAST_LINES = 12
_EXIT = "headway-exit:"
_MACHINES = {"arm64-v8a": 183, "armeabi-v7a": 40, "x86_64": 62, "x86": 3}
"""`e_machine` of programs by Android's names of processors (ELF specification)."""


class Device:
    """One Android device behind `adb`."""

    def __init__(self, serial: str):
        self.serial = serial

    def adb(self, *words: str) -> str:
        """Return what one command of `adb` printed. Raises TargetError with its last lines where it failed."""
        done = _adb("-s", self.serial, *words)
        if done.returncode:
            raise TargetError(f"device {self.serial}: adb {words[0]} failed: {_last(done.stdout + done.stderr)}")
        return done.stdout

    def shell(self, command: str) -> tuple[int, str]:
        """Return the exit code and the output of a command, both streams in one.

        Devices before Android 7 do not pass the exit code on, so the shell prints it as well.
        """
        printed = self.adb("shell", f"{{ {command} ; }} 2>&1; echo {_EXIT}$?").replace("\r\n", "\n")
        output, marker, code = printed.rpartition(_EXIT)
        if not marker:
            raise TargetError(
                f"device {self.serial}: the shell ended early: {_last(printed)}; check the cable, and try again"
            )
        return int(code), output

    def about(self) -> dict[str, Any]:
        """Return model, processor, its instruction flags, Android's version and the programs it runs (ABIs)."""
        properties = dict(re.findall(r"^\[([^\]]+)\]: \[([^\]]*)\]", self.shell("getprop")[1], re.MULTILINE))
        info = self.shell("cat /proc/cpuinfo")[1]
        flags = re.search(r"^Features\s*:\s*(.*)$", info, re.MULTILINE)

        def first(*names: str) -> str:
            return next((properties[n] for n in names if properties.get(n)), "unknown")

        chip = first("ro.soc.model", "ro.board.platform", "ro.hardware")
        abis = first("ro.product.cpu.abilist", "ro.product.cpu.abi")
        return {
            "cpu": " ".join(dict.fromkeys([properties.get("ro.soc.manufacturer", ""), chip])).strip(),
            "cores": len(re.findall(r"^processor\s*:", info, re.MULTILINE)) or None,
            "features": [f for f in ("asimddp", "i8mm", "sve", "sve2") if flags and f in flags[1].split()],
            "system": f"Android {first('ro.build.version.release')} {abis.split(',')[0]}",
            "model": f"{first('ro.product.manufacturer')} {first('ro.product.model')}",
            "abis": abis.split(","),
            "api": first("ro.build.version.sdk"),
        }


def open_device(serial: str | None) -> Device:
    """Return the device of that serial number, or the only one.

    Raises TargetError where none answers, UsageError where there are several.
    """
    if shutil.which("adb") is None:
        raise TargetError(
            "adb is not installed: install Android's platform tools (Debian: apt-get install adb), put adb on the PATH, "
            "and switch on USB debugging on the device"
        )
    done = _adb("devices", "-l")
    if done.returncode:
        raise TargetError(f"adb devices failed: {_last(done.stdout + done.stderr)}; run adb kill-server, and try again")
    rows = [line.split(None, 1) for line in done.stdout.splitlines() if line and not line.startswith(("List of", "*"))]
    states = {row[0]: row[1] if len(row) > 1 else "" for row in rows}
    listed = ", ".join(f"{name} ({state.strip()})" for name, state in states.items())
    if not states:
        raise TargetError("no device is connected: adb devices lists none; connect one and switch on USB debugging")
    if serial is None and len(states) > 1:
        raise UsageError(f"several devices are connected: {listed}; choose one with --serial")
    chosen = serial or next(iter(states))
    if chosen not in states:
        raise UsageError(f"no device has the serial number {chosen!r}; connected: {listed}; choose one with --serial")
    advice = {
        "unauthorized": "allow USB debugging on its screen",
        "authorizing": "allow USB debugging on its screen",
        "offline": "connect it again, or run adb reconnect",
        "no permissions": "this user may not use it: on Linux install the udev rules (Debian: android-sdk-platform-tools-common)",
    }
    for state, remedy in advice.items():
        if states[chosen].startswith(state):
            raise TargetError(f"device {chosen} is {states[chosen].split(';')[0].strip()}: {remedy}, then try again")
    if not states[chosen].startswith("device"):
        raise TargetError(f"device {chosen} is {states[chosen].strip()}: start Android on it, then try again")
    return Device(chosen)


def bench_on_device(
    path: Path,
    *,
    serial: str | None,
    tool: Sequence[Path],
    shapes: Sequence[tuple[int, int]] = (),
    runs: int = RUNS,
    threads: int = 1,
    data: Path | None = None,
    column: str | None = None,
    on_step: Callable[..., None] = lambda *_, **__: None,
) -> dict[str, Any]:
    """Measure a bundle's artifact on a device; return the record of one contestant, as `BenchResult.to_json` gives it.

    `tool` is the perf tool's build for the device, and the libraries that it needs; `shapes` are (texts, tokens), filled with real
    text. A statistic that the tool does not report is missing. Raises TargetError where the device or the tool fails, UsageError
    where an option does not fit the artifact.
    """
    manifest = Manifest.read(path)
    artifact = path / manifest.artifact
    device = open_device(serial)
    program = _tool_for(artifact, manifest, tool)
    about = device.about()
    _check_machine(tool[0], about)
    remote = f"{FOLDER}/headway-{secrets.token_hex(4)}"
    name = f"{program.name}, {artifact.name}"
    rows = []
    cases = _cases(path, artifact, manifest, shapes, runs, threads, lines_or_builtin(data, column))
    try:
        _expect(*device.shell(f"mkdir -p {remote}/test_data_set_0"), what="no folder for the files")
        for file in (*sorted(artifact.parent.glob(f"{artifact.name}*")), *tool):
            on_step(f"push, {file.name}", of=0)
            device.adb("push", str(file), f"{remote}/{file.name}")
        _expect(
            *device.shell(f"chmod 755 {remote}/{shlex.quote(tool[0].name)}"), what="the tool cannot be made a program"
        )
        for case, tool_case in cases:
            on_step(f"run, {case.label}", of=0)
            timing = _run(device, remote, tool[0].name, program, tool_case)
            rows.append(_row(case, tool_case, name, timing))
    finally:
        with suppress(
            TargetError
        ):  # after an interruption the tool may still run; brackets keep the pattern from matching itself
            device.shell(f"pkill -f '[h]{remote.rpartition('/h')[2]}'")
            device.shell(f"rm -rf {remote}")
    return {"contestants": [name], "threads": threads, "cases": rows, "geometric_mean": {}, "machine": about}


def keep_device_record(record: dict[str, Any], path: Path, out: Path | None, *, save: bool) -> list[Path]:
    """Write a record to `out` where given, and with `save` into the bundle, beside those of other devices. Return the files."""
    files = []
    if out is not None:
        files.append(output_folder(out) / RESULT_FILE)
        with written(out):
            files[0].write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    if not save:
        return files
    manifest = Manifest.read(path)
    same = [r for r in manifest.devices if (r["machine"], r["threads"]) == (record["machine"], record["threads"])]
    manifest.devices = [r for r in manifest.devices if r not in same] + [record]
    with revised(path, manifest):
        pass
    return [*files, path / MANIFEST]


def _tool_for(artifact: Path, manifest: Manifest, tool: Sequence[Path]) -> Tool:
    known = TOOLS.get(artifact.suffix)
    if known is None:
        raise UsageError(
            f"{artifact}: no perf tool for {artifact.suffix or 'such'} artifacts on Android; known: {', '.join(TOOLS)}: "
            "export with --target ort-mobile, litert or executorch"
        )
    if manifest.session_options.get("kernels"):
        raise TargetError(
            f"{artifact}: it needs Headway's own operators, which are not built for Android; make it with --kernels stock"
        )
    if not tool:
        raise UsageError(
            f"give --tool, the {known.name} built for the device; Headway does not bring it along. {known.source}"
        )
    for file in tool:
        if not file.is_file():
            raise UsageError(f"{file}: no such file; --tool is the {known.name} built for the device. {known.source}")
    return known


def _check_machine(tool: Path, about: Mapping[str, Any]) -> None:
    """Raise UsageError where the tool is a program for other processors than the device's."""
    with tool.open("rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF":
        return  # a script, perhaps: the device refuses it otherwise
    machine = struct.unpack("<H", head[18:20])[0]
    if all(_MACHINES.get(abi, machine) != machine for abi in about["abis"]):
        built = next((abi for abi, number in _MACHINES.items() if number == machine), f"machine {machine}")
        raise UsageError(
            f"{tool}: built for {built}, but the device runs {', '.join(about['abis'])}: build it for one of these"
        )


def _cases(
    path: Path,
    artifact: Path,
    manifest: Manifest,
    shapes: Sequence[tuple[int, int]],
    runs: int,
    threads: int,
    lines: Sequence[str],
) -> list[tuple[Case, ToolCase]]:
    """Return each case, and the same for the tool: inputs of real text as the artifact takes them."""
    info = manifest.tokenizer
    encoder = TextEncoder(path / info.file, info)
    cases = [Case(*shape) for shape in shapes] or [c for c in CASES if (c.length or 0) <= info.max_length]
    tool_cases = []
    for case in cases:
        if (case.length or 0) > info.max_length:
            raise UsageError(
                f"--shape {case.label}: the model takes at most {info.max_length} tokens: give a shorter one"
            )
        if artifact.suffix in ONE_TEXT and case.batch > 1:
            raise UsageError(f"--shape {case.label}: {artifact.name} takes one text at a time: give 1x{case.length}")
        feeds = feeds_for(case, encoder, lines, info.max_length, seed=0)
        unknown = [i.name for i in manifest.inputs if i.name not in feeds]
        if unknown:
            raise SourceError(
                f"{path}: input {unknown[0]!r} is none of {', '.join(feeds)}, which text gives: it cannot be measured here"
            )
        inputs = {i.name: feeds[i.name].astype(i.dtype) for i in manifest.inputs}
        options = manifest.session_options
        if artifact.suffix == ".tflite":
            signature, inputs = _bucket(artifact, inputs)
            options = {**options, "signature": signature}
        tool_cases.append((case, ToolCase(artifact.name, inputs, runs, threads, options, info.max_length)))
    return tool_cases


def _bucket(artifact: Path, inputs: Mapping[str, np.ndarray]) -> tuple[str | None, dict[str, np.ndarray]]:
    """Return the signature with the least length that takes the batch, and the inputs as it names them, padded to it."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ModuleNotFoundError as error:
        raise TargetError(
            f"{artifact}: reading its signatures needs {error.name}: pip install 'headway[litert]'"
        ) from error
    interpreter = Interpreter(str(artifact))
    given_batch, given_length = next(iter(inputs.values())).shape
    best: tuple[int, str, dict[str, Any]] | None = None
    for key in interpreter.get_signature_list():
        details = interpreter.get_signature_runner(key).get_input_details()
        batch, length = (int(n) for n in next(iter(details.values()))["shape"][:2])
        if batch == given_batch and length >= given_length and (best is None or length < best[0]):
            best = (length, key, details)
    if best is None:
        raise UsageError(f"{artifact}: no signature takes {given_batch}x{given_length}; choose another --shape")
    length, signature, details = best
    padded = {}
    for name, detail in details.items():
        source = next(
            (array for key, array in inputs.items() if name in (key, f"args_{list(inputs).index(key)}")), None
        )
        if source is None:
            raise SourceError(
                f"{artifact}: input {name!r} of signature {signature!r} is none of {', '.join(inputs)}: export the bundle again"
            )
        padded[name] = np.zeros((given_batch, length), detail["dtype"])
        padded[name][:, :given_length] = source
    return signature, padded


def _run(device: Device, remote: str, program: str, tool: Tool, case: ToolCase) -> Timing:
    """Run one case. Raises TargetError with the tool's last lines where it fails or prints nothing that can be read."""
    with scratch() as folder:
        for number, (name, content) in enumerate(tool.files(case).items()):
            local = Path(folder) / str(number)
            local.write_bytes(content)
            device.adb("push", str(local), f"{remote}/{name}")
    began = device.shell("date '+%m-%d %H:%M:%S.000'")[1].strip()
    words = " ".join(map(shlex.quote, tool.arguments(case)))
    command = f"cd {remote} && rm -f {RESULTS} && LD_LIBRARY_PATH={remote} {remote}/{shlex.quote(program)} {words}"
    code, printed = device.shell(command)
    results = device.shell(f"cat {remote}/{RESULTS} 2>/dev/null")[1]
    timing = tool.read(printed, results) if code == 0 else None
    if timing is None and isinstance(tool, ExecutorRunner):
        printed += device.shell(f"logcat -d -T {shlex.quote(began)} -s ExecuTorch")[1]
        timing = tool.read(printed, results) if code == 0 else None
    if timing is None:
        failed = f"failed with exit code {code}" if code else "gave no times that Headway can read"
        older = "; this build runs full length only" if "unknown command line flag 'input_shapes'" in printed else ""
        raise TargetError(f"{tool.name} on {device.serial} {failed}{older}; its last lines: {_last(printed)}")
    return timing


def _row(case: Case, tool_case: ToolCase, name: str, timing: Timing) -> dict[str, Any]:
    mask = tool_case.inputs.get("attention_mask")
    size = next(iter(tool_case.inputs.values())).size
    tokens = int(mask.sum()) if mask is not None else size
    statistics = dict(timing.statistics)
    if timing.each:
        statistics |= {f"p{q}": float(np.percentile(timing.each, q)) for q in (50, 90, 95, 99)}
        statistics |= {"mean": float(np.mean(timing.each)), "min": min(timing.each), "max": max(timing.each)}
    row: dict[str, Any] = {"label": case.label, "batch": case.batch, "tokens": tokens, "padding": 1 - tokens / size}
    row |= {"runs": timing.runs, "milliseconds": {name: timing.each} if timing.each else {}}
    row |= {f"{statistic}_ms": {name: value} for statistic, value in statistics.items()}
    typical = statistics.get("p50", statistics.get("mean"))
    return row | {"tokens_per_second": {name: tokens / typical * 1e3} if typical else {}, "ratio_to_first": {}}


def _adb(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["adb", *words], capture_output=True, text=True, errors="replace", check=False)


def _expect(code: int, printed: str, *, what: str) -> None:
    if code:
        raise TargetError(f"{what}: {_last(printed)}")


def _last(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-LAST_LINES:]) or "(nothing)"
