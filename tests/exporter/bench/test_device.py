"""`headway bench --device adb`: a device is cleaned up whatever happens; bad states are named.

The stand-in for `adb` below answers as Debian's adb 34.0.5 was seen to answer with its daemon behind it, and without one.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from headway.bundle import Bundle
from headway.errors import HeadwayError, TargetError, UsageError
from headway.exporter.bench import device as adb
from headway.exporter.export import Exported
from headway.manifest import Manifest

from tests.support.perf_outputs import BENCHMARK_MODEL, EXECUTOR_RUNNER, EXECUTOR_RUNNER_OLDER, PERF_TEST, RESULTS

ADB = r"""#!/bin/sh
home=$(dirname "$0")/..
echo "$*" >> "$home/calls"
if [ "$1" = devices ]; then echo "List of devices attached"; cat "$home/devices"; echo; exit 0; fi
[ "$1" = -s ] || { echo "adb: more than one device/emulator" >&2; exit 1; }
serial=$2; shift 2
grep -q "^$serial" "$home/devices" || { echo "adb: device '$serial' not found" >&2; exit 1; }
case $1 in
push)
  to=$home/device$3
  if [ ! -d "$(dirname "$to")" ]; then
    echo "adb: error: failed to copy '$2' to '$3': remote couldn't create file: No such file or directory" >&2; exit 1
  fi
  cp "$2" "$to"; echo "$2: 1 file pushed, 0 skipped. 0.1 MB/s (3 bytes in 0.000s)";;
shell)
  shift
  PATH=$home/device/bin:$PATH sh -c "$(echo "$*" | sed "s#/data/local/tmp#$home/device/data/local/tmp#g")";;
esac
"""

GETPROP = """#!/bin/sh
cat <<'EOF'
[ro.build.version.release]: [14]
[ro.build.version.sdk]: [34]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 7]
[ro.soc.manufacturer]: [Google]
[ro.soc.model]: [GS201]
EOF
"""
ONE = "2A061JEGR09042         device usb:1-2 product:panther model:Pixel_7 device:panther transport_id:1\n"


class Phone:
    """A directory that plays a phone behind the stand-in for `adb`."""

    def __init__(self, home: Path):
        self.home = home
        self.files = home / "device" / "data" / "local" / "tmp"
        self.files.mkdir(parents=True)
        self.program(home / "bin" / "adb", ADB)
        self.program(home / "device" / "bin" / "getprop", GETPROP)
        self.plug(ONE)

    @staticmethod
    def program(path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def plug(self, devices: str) -> None:
        (self.home / "devices").write_text(devices)

    def tool(self, printed: str, *more: str) -> Path:
        """Return a perf tool that prints `printed`, after the shell commands `more`; it keeps what it was given in `seen`."""
        seen = self.home / "seen"
        script = ["#!/bin/sh", f'mkdir -p {seen}; cp -r . {seen}; echo "$@" > {seen}/arguments', *more]
        return self.program(self.home / "perf", "\n".join([*script, "cat <<'EOF'", printed + "EOF", ""]))

    def clean(self) -> bool:
        return not any(self.files.iterdir())


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Phone:
    made = Phone(tmp_path / "phone")
    monkeypatch.setenv("PATH", f"{made.home / 'bin'}:{os.environ['PATH']}")
    return made


def bundle_for(exported: Exported, out: Path, artifact: str = "model.onnx", **options: object) -> Path:
    """Return a copy of a bundle whose artifact has another name: no tool here looks into it."""
    shutil.copytree(exported.path, out)
    manifest = Manifest.read(out)
    (out / "model.onnx").rename(out / artifact)
    manifest.artifact = artifact
    manifest.session_options |= options
    manifest.files[artifact] = manifest.files.pop("model.onnx")
    (out / "headway.json").write_text(manifest.to_json(), encoding="utf-8")
    return out


def test_a_bundle_is_measured_and_the_record_kept(phone: Phone, bert_bundle: Exported, tmp_path: Path) -> None:
    import onnx

    bundle = bundle_for(bert_bundle, tmp_path / "bundle")
    results = "\n".join(RESULTS.splitlines()[:5])
    tool = phone.tool(PERF_TEST, f"printf '%s\\n' '{results}' > results.csv")
    record = adb.bench_on_device(bundle, serial=None, tool=[tool], shapes=[(2, 16)], runs=5)
    assert phone.clean()
    (name,), (case,) = record["contestants"], record["cases"]
    assert name == "onnxruntime_perf_test, model.onnx"
    assert (case["label"], case["batch"], case["tokens"], case["runs"]) == ("2x16", 2, 32, 5)
    assert case["p50_ms"][name] == pytest.approx(99.5086)
    assert len(case["milliseconds"][name]) == 5
    machine = record["machine"]
    assert (machine["model"], machine["cpu"]) == ("Google Pixel 7", "Google GS201")
    assert (machine["system"], machine["api"]) == ("Android 14 arm64-v8a", "34")

    seen = phone.home / "seen"
    arguments = (seen / "arguments").read_text().split()
    assert arguments[-2:] == ["model.onnx", "results.csv"]
    assert {"-r", "5", "-x", "1"} <= set(arguments)
    assert "optimization.disable_specified_optimizers|SkipLayerNormFusion;BiasGeluFusion" in arguments
    given = [onnx.load_tensor(str(seen / "test_data_set_0" / f"input_{i}.pb")) for i in range(3)]
    assert [t.name for t in given] == [i.name for i in Manifest.read(bundle).inputs]
    assert all(list(t.dims) == [2, 16] for t in given)
    feeds = {t.name: onnx.numpy_helper.to_array(t) for t in given}
    assert feeds["attention_mask"].all()
    assert (seen / "model.onnx").read_bytes() == (bundle / "model.onnx").read_bytes()
    assert Bundle.open(bundle).runner.run(feeds)

    for _ in range(2):  # a second record of the same device takes the first one's place
        adb.keep_device_record(record, bundle, None, save=True)
        opened = Bundle.open(bundle)
        opened.check_files()
        assert opened.manifest.devices == [json.loads(json.dumps(record))]
    assert "Latency on Google Pixel 7" in (bundle / "README.md").read_text(encoding="utf-8")
    (file,) = adb.keep_device_record(record, bundle, tmp_path / "elsewhere", save=False)
    assert json.loads(file.read_text()) == record


def test_only_what_the_tool_tells_is_recorded(phone: Phone, bert_bundle: Exported, tmp_path: Path) -> None:
    bundle = bundle_for(bert_bundle, tmp_path / "bundle", "model.pte")
    longest = Manifest.read(bundle).tokenizer.max_length  # type: ignore[union-attr]
    record = adb.bench_on_device(bundle, serial=None, tool=[phone.tool(EXECUTOR_RUNNER_OLDER)], shapes=[(1, longest)])
    (case,) = record["cases"]
    assert case["mean_ms"] == {"executor_runner, model.pte": 15.013292}
    assert not {"p50_ms", "p90_ms", "p99_ms"} & set(case) and case["milliseconds"] == {}
    assert "input_shapes" not in (phone.home / "seen" / "arguments").read_text()
    adb.keep_device_record(record, bundle, None, save=True)
    assert "| 1 | 15.01 |" in (bundle / "README.md").read_text(encoding="utf-8")


def test_a_runner_that_logs_to_the_device(phone: Phone, bert_bundle: Exported, tmp_path: Path) -> None:
    """ExecuTorch's Android preset logs bare messages with the tag ExecuTorch; inputs keep the program's full length."""
    bundle = bundle_for(bert_bundle, tmp_path / "bundle", "model.pte")
    bare = "\n".join(
        "11-25 04:46:06.370 1 1 I ExecuTorch: " + line.partition("] ")[2] for line in EXECUTOR_RUNNER.splitlines()
    )
    log = Phone.program(
        phone.home / "device" / "bin" / "logcat",
        f"#!/bin/sh\necho \"$@\" > {phone.home}/log\ncat <<'EOF'\n{bare}\nEOF\n",
    )
    record = adb.bench_on_device(bundle, serial=None, tool=[phone.tool("")], shapes=[(1, 8)], runs=2)
    assert record["cases"][0]["milliseconds"] == {"executor_runner, model.pte": [1.62, 1.58]}
    assert log.is_file() and "-s ExecuTorch" in (phone.home / "log").read_text()
    seen = phone.home / "seen"
    assert "--input_shapes=1x8,1x8,1x8" in (seen / "arguments").read_text()
    longest = Manifest.read(bundle).tokenizer.max_length  # type: ignore[union-attr]
    ids = np.frombuffer((seen / "0.bin").read_bytes(), np.int64)
    assert len(ids) == longest and ids[:8].any() and not ids[8:].any()


def test_the_least_signature_that_fits(
    phone: Phone, bert_bundle: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = {"length_16": 16, "length_48": 48, "length_32": 32}

    class Interpreter:
        def __init__(self, path: str):
            assert path.endswith("model.tflite")

        def get_signature_list(self) -> dict:
            return dict.fromkeys(lengths)

        def get_signature_runner(self, key: str) -> SimpleNamespace:
            detail = {"shape": np.array([1, lengths[key]]), "dtype": np.int32}
            return SimpleNamespace(
                get_input_details=lambda: {n: detail for n in ("attention_mask", "input_ids", "token_type_ids")}
            )

    module = SimpleNamespace(Interpreter=Interpreter)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", SimpleNamespace(interpreter=module))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", module)
    bundle = bundle_for(bert_bundle, tmp_path / "bundle", "model.tflite")
    record = adb.bench_on_device(bundle, serial=None, tool=[phone.tool(BENCHMARK_MODEL)], shapes=[(1, 20)])
    assert record["cases"][0]["p95_ms"] == {"benchmark_model, model.tflite": pytest.approx(187.533)}
    assert (record["cases"][0]["tokens"], record["cases"][0]["padding"]) == (20, pytest.approx(12 / 32))
    arguments = (phone.home / "seen" / "arguments").read_text()
    assert "--signature_to_run_for=length_32" in arguments
    assert "--input_layer_shape=1,32:1,32:1,32" in arguments
    assert "--input_layer_value_files=attention_mask:0.bin,input_ids:1.bin,token_type_ids:2.bin" in arguments
    mask = np.frombuffer((phone.home / "seen" / "0.bin").read_bytes(), np.int32)
    np.testing.assert_array_equal(mask, [1] * 20 + [0] * 12)
    with pytest.raises(UsageError, match=r"2x20: model\.tflite takes one text at a time"):
        adb.bench_on_device(bundle, serial=None, tool=[phone.tool(BENCHMARK_MODEL)], shapes=[(2, 20)])
    with pytest.raises(UsageError, match="no signature takes 1x49"):
        adb.bench_on_device(bundle, serial=None, tool=[phone.tool(BENCHMARK_MODEL)], shapes=[(1, 49)])


@pytest.mark.parametrize(
    ("devices", "serial", "kind", "words"),
    [
        ("", None, TargetError, "no device is connected"),
        (
            ONE + "emulator-5554          device\n",
            None,
            UsageError,
            r"several.*2A061JEGR09042.*Pixel_7.*emulator-5554.*--serial",
        ),
        (ONE, "nosuch", UsageError, "no device has the serial number 'nosuch'; connected: 2A061JEGR09042"),
        (
            "62dadc91               unauthorized usb:1-2 transport_id:3\n",
            None,
            TargetError,
            "unauthorized.*allow USB debugging",
        ),
        ("62dadc91               offline usb:1-2\n", None, TargetError, "is offline.*connect it again"),
        (
            "ABCDEF1234             no permissions (user in plugdev group; are your udev rules wrong?); see [x]\n",
            None,
            TargetError,
            "no permissions.*udev rules",
        ),
        ("62dadc91               recovery usb:1-2\n", None, TargetError, "is recovery"),
    ],
)
def test_devices_that_cannot_be_used(
    phone: Phone, bert_bundle: Exported, devices: str, serial: str | None, kind: type[HeadwayError], words: str
) -> None:
    phone.plug(devices)
    with pytest.raises(kind, match=words):
        adb.bench_on_device(bert_bundle.path, serial=serial, tool=[phone.tool(PERF_TEST)])


def test_one_of_several(phone: Phone, bert_bundle: Exported) -> None:
    phone.plug("emulator-5554          device\n" + ONE)
    record = adb.bench_on_device(
        bert_bundle.path, serial="2A061JEGR09042", tool=[phone.tool(PERF_TEST)], shapes=[(1, 4)]
    )
    assert record["cases"][0]["p99_ms"] == {"onnxruntime_perf_test, model.onnx": pytest.approx(101.519)}
    calls = (phone.home / "calls").read_text().splitlines()
    assert all(call.startswith(("devices", "-s 2A061JEGR09042 ")) or "EOF" in call for call in calls if call)


def test_a_tool_that_is_no_program_here_is_one_on_the_device(phone: Phone, bert_bundle: Exported) -> None:
    """A file that was downloaded may not be run, and a push keeps its mode."""
    tool = phone.tool(PERF_TEST)
    tool.chmod(0o644)
    record = adb.bench_on_device(bert_bundle.path, serial=None, tool=[tool], shapes=[(1, 4)])
    assert record["cases"][0]["p99_ms"] == {"onnxruntime_perf_test, model.onnx": pytest.approx(101.519)}


def test_without_adb(bert_bundle: Exported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match=r"adb is not installed.*platform tools") as caught:
        adb.bench_on_device(bert_bundle.path, serial=None, tool=[])
    assert caught.value.exit_code == 4


def test_a_tool_that_fails(phone: Phone, bert_bundle: Exported) -> None:
    failing = phone.program(
        phone.home / "perf", "#!/bin/sh\necho first\necho 'Load model failed: no such op' >&2\nexit 255\n"
    )
    with pytest.raises(TargetError, match=r"(?s)exit code 255.*Load model failed: no such op"):
        adb.bench_on_device(bert_bundle.path, serial=None, tool=[failing])
    assert phone.clean()
    with pytest.raises(TargetError, match=r"(?s)gave no times.*all is well"):
        adb.bench_on_device(bert_bundle.path, serial=None, tool=[phone.tool("all is well\n")])
    assert phone.clean()


def test_what_is_wrong_with_the_tool_is_said(phone: Phone, bert_bundle: Exported, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"give --tool.*onnxruntime_perf_test.*build\.sh --android"):
        adb.bench_on_device(bert_bundle.path, serial=None, tool=[])
    with pytest.raises(UsageError, match="no such file"):
        adb.bench_on_device(bert_bundle.path, serial=None, tool=[tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="built for x86_64, but the device runs arm64-v8a, armeabi-v7a"):
        adb.bench_on_device(bert_bundle.path, serial=None, tool=[Path("/proc/self/exe").resolve()])
    with pytest.raises(UsageError, match="at most"):
        adb.bench_on_device(bert_bundle.path, serial=None, tool=[phone.tool("")], shapes=[(1, 100_000)])
    with pytest.raises(TargetError, match=r"own operators.*--kernels stock"):
        adb.bench_on_device(bundle_for(bert_bundle, tmp_path / "a", kernels=True), serial=None, tool=[phone.tool("")])
    with pytest.raises(UsageError, match=r"no perf tool for \.engine"):
        adb.bench_on_device(bundle_for(bert_bundle, tmp_path / "b", "model.engine"), serial=None, tool=[phone.tool("")])
    assert phone.clean()


def test_an_interruption_leaves_nothing_behind(phone: Phone, bert_bundle: Exported, tmp_path: Path) -> None:
    waits = "i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i+1)); done"
    tool = phone.program(phone.home / "perf", f"#!/bin/sh\necho $$ > {phone.home}/running\n{waits}\n")
    command = [
        sys.executable,
        "-c",
        "from headway.exporter.cli.app import main; main()",
        "bench",
        str(bert_bundle.path),
    ]
    process = subprocess.Popen([*command, "--device", "adb", "--tool", str(tool)], stderr=subprocess.PIPE, text=True)
    running = phone.home / "running"
    deadline = time.monotonic() + 60
    while not running.is_file() or not running.read_text().strip():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 5
    assert process.stderr is not None and "interrupted" in process.stderr.read()
    assert phone.clean()
    while psutil.pid_exists(int(running.read_text())):  # the tool on the device is ended too
        assert time.monotonic() < deadline
        time.sleep(0.05)
