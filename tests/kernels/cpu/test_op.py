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
import sys

import ml_dtypes
import numpy as np
from headway.kernels import cpu

def layer(rows, columns, kind):
    if kind == "int8":
        return [np.ones((rows, columns), np.int8), np.ones(columns, np.float32), np.ones(columns, np.float32)]
    return [np.ones((rows, columns), ml_dtypes.bfloat16), np.ones(columns, np.float32)]

op, rows = sys.argv[1], int(sys.argv[2])
attributes = {"heads": 1} if "Attention" in op else {}
if op == "MaskedSoftmax":  # five rows of float32 are under way
    inputs, constants, attributes = [np.ones((rows, 8_000_000), np.float16)], [], {}
elif op == "PackedAttention":  # many sequences without a token
    ends = np.zeros(rows, np.int32)
    ends[-1] = 1
    inputs, constants = [np.ones((1, 8), np.float32)] * 3 + [ends], []
elif op == "PaddedAttention":
    inputs, constants = [np.ones((rows, 1, 1), np.float32)] * 3 + [np.zeros(rows, np.int32)], []
elif op == "QuantizedLinear":
    inputs = [np.ones((rows, 60_000), np.float32), *layer(60_000, 8, "int8")]
    constants = range(1, len(inputs))
else:
    kind = "int8" if op.startswith("Quantized") else "bfloat16"
    inputs = [np.ones((rows, 8), np.float32), *layer(8, 60_000, kind), *layer(60_000, 8, kind)]
    constants = range(1, len(inputs))
session = cpu.open_session(op, inputs, constants=constants, threads=2, **attributes)
with open("/proc/self/statm") as file:
    taken = int(file.read().split()[0]) * resource.getpagesize()
limits = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (taken + (int(sys.argv[3]) << 20), limits[1]))
try:
    session(inputs)
except Exception as error:
    print(error)
resource.setrlimit(resource.RLIMIT_AS, limits)
print(session(inputs)[0].shape)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
@pytest.mark.parametrize(
    ("op", "rows", "megabytes"),
    [
        ("QuantizedFeedForward", 768, 8),
        ("QuantizedLinear", 500, 8),
        ("QuantizedLinear", 800, 4),
        ("Bfloat16FeedForward", 2000, 4),
        ("Bfloat16FeedForward", 100, 8),
        ("MaskedSoftmax", 1, 64),
        ("PackedAttention", 2_000_000, 8),
        ("PaddedAttention", 2_000_000, 16),
    ],
)
def test_a_kernel_without_memory_raises_and_works_again_with_it(op: str, rows: int, megabytes: int) -> None:
    command = [sys.executable, "-c", OUT_OF_MEMORY, op, str(rows), str(megabytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "headway: not enough memory" in done.stdout, done.stdout
    assert done.stdout.endswith(")\n")
