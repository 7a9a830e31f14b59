"""How the benchmark of the CPU kernels measures: in turns, and against a limit. Its figures are not tested."""

import numpy as np

from headway.kernels.cpu import bench
from headway.kernels.cpu.bench import Measured


def test_shares_and_ratios_are_those_of_medians() -> None:
    milliseconds = {"headway": [2.0, 4.0, 3.0], "ONNX Runtime": [6.0, 5.0, 7.0]}
    measured = Measured("attention", "1x128", "matmul", milliseconds, limit_ms=1.5)
    assert (measured.median("headway"), measured.share("headway"), measured.ratio("ONNX Runtime")) == (3.0, 0.5, 2.0)
    content = measured.to_json()
    assert content["p50_ms"] == {"headway": 3.0, "ONNX Runtime": 6.0}
    assert content["times_as_long"] == {"headway": 1.0, "ONNX Runtime": 2.0} and content["limit"] == "matmul"


def test_each_round_starts_with_the_next_one() -> None:
    calls: list[str] = []

    def contestant(name: str):
        def run() -> None:
            if not calls or calls[-1] != name:
                calls.append(name)
            np.zeros(1000)

        return run

    runs = {name: contestant(name) for name in ("headway", "ONNX Runtime", "limit")}
    measured = bench._paired(Measured("softmax", "tiny", "copy"), runs, rounds=3, seconds=60, threads=1)
    assert calls[:3] == ["headway", "ONNX Runtime", "limit"]
    assert calls[3:6] == ["ONNX Runtime", "limit", "headway"]
    assert sorted(measured.milliseconds) == ["ONNX Runtime", "headway"]
    assert all(len(times) == 3 for times in measured.milliseconds.values()) and measured.limit_ms > 0
