"""Figures for Prometheus, of one process and of several."""

import subprocess
import sys
from pathlib import Path

from headway.serving.service_metrics import Metrics


def test_figures_of_one_process() -> None:
    metrics = Metrics()
    metrics.answered("/embed", "a", 200, 0.003)
    metrics.answered("/embed", "", 429, 0.001)
    metrics.used("a", 2, 17, 0.0004)
    metrics.batches("a")(2, 17, 0.002)
    metrics.queue("a", 5, 0.25)
    text, media_type = metrics.text()
    lines = text.decode().splitlines()
    assert media_type.startswith("text/plain")
    for line in (
        'headway_requests_total{endpoint="/embed",model="",status="429"} 1.0',
        'headway_request_seconds_count{endpoint="/embed"} 2.0',
        'headway_tokens_total{model="a"} 17.0',
        'headway_batch_texts_sum{model="a"} 2.0',
        'headway_queue_tokens{model="a"} 5.0',
        'headway_queue_expected_seconds{model="a"} 0.25',
    ):
        assert line in lines


def test_any_process_tells_the_figures_of_all(tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
from headway.serving.service_metrics import Metrics, forget_process, share_metrics
share_metrics(Path({str(tmp_path)!r}))
def count():
    metrics = Metrics()
    metrics.answered("/embed", "a", 200, 0.01)
    metrics.queue("a", 5, 0.1)
    return metrics
for _ in range(2):
    process = os.fork()
    if process == 0:
        count()
        os._exit(0)
    os.waitpid(process, 0)
    forget_process(process)
print(count().text()[0].decode())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert 'headway_requests_total{endpoint="/embed",model="a",status="200"} 3.0' in done.stdout
    assert 'headway_queue_tokens{model="a"} 5.0' in done.stdout  # of the living alone
