"""The output of each perf tool is read rightly; tensors are written as ONNX writes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.exporter.bench import perf_tools

from tests.support.perf_outputs import (
    BENCHMARK_MODEL,
    BENCHMARK_MODEL_OLDER,
    EXECUTOR_RUNNER,
    EXECUTOR_RUNNER_OLDER,
    PERF_TEST,
    RESULTS,
)


def test_perf_test_is_read() -> None:
    timing = perf_tools.PerfTest().read(PERF_TEST, "")
    assert timing is not None
    assert (timing.runs, timing.each) == (5, [])
    assert timing.statistics == pytest.approx(
        {
            "mean": 98.961997,
            "min": 95.8204,
            "max": 101.519,
            "p50": 99.5086,
            "p90": 101.519,
            "p95": 101.519,
            "p99": 101.519,
        }
    )
    timing = perf_tools.PerfTest().read(PERF_TEST, RESULTS)
    assert timing is not None
    assert timing.each == pytest.approx([95.8204, 99.5086, 101.519, 98.0, 99.962])
    other_unit = RESULTS.replace(",0.", ",")
    timing = perf_tools.PerfTest().read(PERF_TEST, other_unit)
    assert timing is not None and timing.each == []
    assert perf_tools.PerfTest().read("there is no test data for model x\n", "") is None


def test_benchmark_model_is_read() -> None:
    timing = perf_tools.BenchmarkModel().read(BENCHMARK_MODEL, "")
    assert timing is not None
    assert timing.runs == 25
    assert timing.statistics == pytest.approx(
        {"mean": 145.528, "p50": 141.253, "p95": 187.533, "min": 140.071, "max": 195.121}
    )
    timing = perf_tools.BenchmarkModel().read(BENCHMARK_MODEL_OLDER, "")
    assert timing is not None
    assert timing.runs == 50
    assert timing.statistics == pytest.approx({"mean": 2950.34, "min": 2727.568, "max": 3189.954})
    only_warm_up = BENCHMARK_MODEL_OLDER.partition("Running benchmark for at least 50")[0]
    assert perf_tools.BenchmarkModel().read(only_warm_up, "") is None


def test_executor_runner_is_read() -> None:
    timing = perf_tools.ExecutorRunner().read(EXECUTOR_RUNNER, "")
    assert timing is not None
    assert (timing.runs, timing.each, timing.statistics) == (2, [1.62, 1.58], {})
    timing = perf_tools.ExecutorRunner().read(EXECUTOR_RUNNER_OLDER, "")
    assert timing is not None
    assert (timing.runs, timing.each, timing.statistics) == (1, [], {"mean": 15.013292})
    assert (
        perf_tools.ExecutorRunner().read("I executorch:executor_runner.cpp:195] Model executed successfully.\n", "")
        is None
    )


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([np.int64, np.int32, np.float32]),
    st.lists(st.integers(0, 300), max_size=3),
    st.text(max_size=200),
)
def test_a_tensor_in_protobuf(dtype: type, shape: list[int], name: str) -> None:
    import onnx

    shape = [n % 9 for n in shape[:-1]] + shape[-1:]
    array = np.random.default_rng(0).integers(-(2**20), 2**20, shape).astype(dtype)
    back = onnx.TensorProto.FromString(perf_tools.tensor_proto(name, array))
    assert back.name == name
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(back), array)
    assert onnx.numpy_helper.to_array(back).dtype == dtype
