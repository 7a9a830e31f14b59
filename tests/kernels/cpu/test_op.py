"""What all operators share: the same bits on any number of threads, errors that name op and tensor, no memory kept."""

import subprocess
import sys

import numpy as np
import psutil
import pytest

from headway.kernels import cpu

from tests.support.cpu_kernels import needs_library

pytestmark = needs_library


def test_every_number_of_threads_gives_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    lengths = [300, 1, 0, 77, 512]
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    q, k, v = (rng.standard_normal((ends[-1], 4 * 32)).astype(np.float32) for _ in range(3))
    x = rng.standard_normal((64, 5000)).astype(np.float32)
    attended = [cpu.run("PackedAttention", [q, k, v, ends], heads=4, threads=t)[0] for t in (1, 2, 3, 4)]
    softened = [cpu.run("MaskedSoftmax", [x, x[:1]], threads=t)[0] for t in (1, 2, 3, 4)]
    normed = [cpu.run("SkipLayerNormalization", [x, -x, x[0], None, x[1]], threads=t)[0] for t in (1, 2, 3, 4)]
    activated = [cpu.run("BiasActivation", [x, x[1]], activation="gelu", threads=t)[0] for t in (1, 2, 3, 4)]
    for results in (attended, softened, normed, activated):
        for other in results[1:]:
            np.testing.assert_array_equal(results[0], other)


def test_wrong_dtypes_and_shapes_elsewhere() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    with pytest.raises(Exception, match=r"(?s)double.*MaskedSoftmax"):
        cpu.run("MaskedSoftmax", [x.astype(np.float64)])
    with pytest.raises(Exception, match=r"MaskedSoftmax.*'bias'"):
        cpu.run("MaskedSoftmax", [x, x[:, :2]])
    with pytest.raises(Exception, match=r"PaddedAttention.*'lengths' has 4"):
        cpu.run("PaddedAttention", [x, x, x, np.array([4, 1], np.int32)], heads=1)
    with pytest.raises(Exception, match=r"RemovePadding.*'x'"):
        cpu.run("RemovePadding", [x, np.ones((2, 2), np.int64)], outputs=[np.float32, np.int32])
    with pytest.raises(Exception, match=r"RemovePadding.*row 1"):
        cpu.run("RemovePadding", [x, np.array([[1, 1, 0], [0, 1, 1]])], outputs=[np.float32, np.int32], ordered=1)
    with pytest.raises(Exception, match=r"RestorePadding.*'packed'"):
        cpu.run("RestorePadding", [x[0], np.ones((2, 2), np.int64)])
    vector = np.zeros(4, np.float32)
    with pytest.raises(Exception, match=r"SkipLayerNormalization.*'skip'"):
        cpu.run("SkipLayerNormalization", [x, x[:1], vector])
    with pytest.raises(Exception, match=r"SkipLayerNormalization.*'gamma'"):
        cpu.run("SkipLayerNormalization", [x, x, vector[:3]])
    with pytest.raises(Exception, match=r"SkipLayerNormalization.*'bias'"):
        cpu.run("SkipLayerNormalization", [x, None, vector, None, x])
    with pytest.raises(Exception, match=r"BiasActivation.*'bias'"):
        cpu.run("BiasActivation", [x, vector[:1]], activation="gelu")
    with pytest.raises(Exception, match=r"BiasActivation.*'silu'"):
        cpu.run("BiasActivation", [x, vector], activation="silu")
    with pytest.raises(Exception, match=r"PoolTokens.*'mode'"):
        cpu.run("PoolTokens", [x[0], np.array([0, 3], np.int32)], mode="median")


def test_calls_leave_no_memory_behind() -> None:
    rng = np.random.default_rng(0)
    q = rng.standard_normal((50, 32)).astype(np.float32)
    session = cpu.open_session("PackedAttention", [q, q, q, np.zeros(2, np.int32)], heads=2)
    bad = np.array([0, 9, 3, 50], np.int32)

    def calls(count: int) -> int:
        for i in range(count):
            session([q, q, q, np.array([0, i % 51, 50], np.int32)])
            if i % 10 == 0:
                with pytest.raises(Exception, match="falls"):
                    session([q, q, q, bad])
        return psutil.Process().memory_info().rss

    before = calls(500)
    assert calls(5000) - before < 4e6


OUT_OF_MEMORY = """
import resource
import subprocess
import sys

import numpy as np
from headway.kernels import cpu
wide, rng = 60000, np.random.default_rng(0)
weights = [rng.integers(-9, 9, shape).astype(np.int8) for shape in ((8, wide), (wide, 8))]
up, down = ([w, np.full(w.shape[1], 0.01, np.float32), np.zeros(w.shape[1], np.float32)] for w in weights)
inputs = [rng.standard_normal((768, 8)).astype(np.float32), *up, *down]  # eight blocks, each with 23 MB of scratch
session = cpu.open_session("QuantizedFeedForward", inputs, constants=range(1, 7), threads=2)
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (taken + (8 << 20), limits[1]))
try:
    session(inputs)
except Exception as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limits)
print(session(inputs)[0].shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_a_kernel_without_memory_raises_and_works_again_with_it() -> None:
    done = subprocess.run([sys.executable, "-c", OUT_OF_MEMORY], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "headway: not enough memory" in done.stdout and done.stdout.endswith("(768, 8)\n")
