"""What the perf tools of phone runtimes printed, as published."""

# onnxruntime_perf_test -e cpu -r 5 -m times -s -x 1, ResNet-50 on a VIVO X300 (Dimensity 9500), as published in
# Arm's learning path on ONNX Runtime with KleidiAI and SME2.
PERF_TEST = """\
Setting intra_op_num_threads to 1
Disabling intra-op thread spinning between runs
Session creation time cost: 0.217932 s
First inference time cost: 196 ms
Total inference time cost: 0.49481 s
Total inference requests: 5
Average inference time cost total: 98.961997 ms
Total inference run time: 0.494854 s
Number of inferences per second: 10.104
Avg CPU usage: 11 %
Peak working set size: 271122432 bytes
Avg CPU usage:11
Peak working set size:271122432
Runs:5
Min Latency: 0.0958204 s
Max Latency: 0.101519 s
P50 Latency: 0.0995086 s
P90 Latency: 0.101519 s
P95 Latency: 0.101519 s
P99 Latency: 0.101519 s
P999 Latency: 0.101519 s
"""

# Its result file, by `DumpToFile` of performance_runner.cc: folder of the model, seconds, bytes, percent, number of the run. The
# sample above came without one: the seconds are chosen so that they have its mean, least and largest.
RESULTS = """\
headway-1,0.0958204,271122432,11,0
headway-1,0.0995086,271122432,11,1
headway-1,0.101519,271122432,11,2
headway-1,0.0980000,271122432,11,3
headway-1,0.0999620,271122432,11,4

Min Latency: 0.0958204 s
"""

# benchmark_model of TensorFlow Lite on an Android phone, int8 detector, four threads, as its log was published; newer versions
# tell percentiles.
BENCHMARK_MODEL = """\
Log parameter values verbosely: [0]
Min num runs: [25]
Num threads: [4]
Graph: [/data/local/tmp/best_int8.tflite]
#threads used for CPU inference: [4]
Loaded model /data/local/tmp/best_int8.tflite
Created TensorFlow Lite XNNPACK delegate for CPU.
Replacing 539 out of 548 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 19 partitions for subgraph 0.
The input model file size (MB): 3.06409
Initialized session in 92.318ms.
count=3 first=235158 curr=200386 min=199462 max=235158 avg=211669 std=16613 p5=199462 median=200386 p95=235158

count=25 first=187533 curr=140990 min=140071 max=195121 avg=145528 std=13583 p5=140545 median=141253 p95=187533

Inference timings in us: Init: 92318, First inference: 187533, Warmup (avg): 211669, Inference (avg): 145528
Memory footprint delta from the start of the tool (MB): init=54.2852 overall=73.4102
"""

# The same tool of TensorFlow 2.x, MobileNet in QEMU's riscv64 (meta-tensorflow-lite's read-me): a warm-up of one run, and
# numbers in scientific notation.
BENCHMARK_MODEL_OLDER = """\
STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [./mobilenet_v1_1.0_224.tflite]
Loaded model ./mobilenet_v1_1.0_224.tflite
Initialized session in 17.187ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=1 curr=3512391

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=2990275 curr=2913402 min=2727568 max=3189954 avg=2.95034e+06 std=109798

Inference timings in us: Init: 17187, First inference: 3512391, Warmup (avg): 3.51239e+06, Inference (avg): 2.95034e+06
"""

# executor_runner of ExecuTorch's main branch, its add_mul example built for WebAssembly, as published; there it ran once: the line
# of a run stands three times here, with other numbers, and the sum accordingly.
EXECUTOR_RUNNER = """\
I executorch:executor_runner.cpp:565] Model file add_mul.pte is loaded.
I executorch:executor_runner.cpp:575] Using method forward
I executorch:executor_runner.cpp:718] Model loaded in 7.85 ms.
I executorch:executor_runner.cpp:880] Iteration 1 of 3: 2.62 ms
I executorch:executor_runner.cpp:880] Iteration 2 of 3: 1.62 ms
I executorch:executor_runner.cpp:880] Iteration 3 of 3: 1.58 ms
I executorch:executor_runner.cpp:889] Model executed successfully 3 time(s) in 5.82 ms.
I executorch:executor_runner.cpp:893] 1 outputs:
OutputX 0: tensor(sizes=[2, 2], [3., 3., 3., 3.])
"""

# The same, from ExecuTorch's guide to building from source: no line for each run.
EXECUTOR_RUNNER_OLDER = """\
I 00:00:00.043703 executorch:executor_runner.cpp:379] Model executed successfully 1 time(s) in 15.013292 ms.
I 00:00:00.043720 executorch:executor_runner.cpp:383] 1 outputs:
OutputX 0: tensor(sizes=[1, 1000], [
  -0.509859, 0.300644, 0.0953884, 0.147724, 0.231202, 0.338554, 0.206888, -0.0575762, -0.389273, -0.0606864,
])
"""
