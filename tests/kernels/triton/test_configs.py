"""Tiles fit every architecture, and a launch takes what a device measured as the fastest."""

import json
from pathlib import Path

import pytest

from headway.kernels.triton import configs
from headway.kernels.triton.configs import AttentionConfig, SoftmaxConfig


def test_tiles_fit_every_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bytes of queries, keys and values, which is what the candidates are chosen by."""
    for arch, most in configs.SHARED_BYTES.items():
        for head_dim in (16, 26, 32, 48, 64, 80, 96, 128):
            for itemsize in (2, 4):
                assert list(configs.attention_candidates(arch, head_dim, itemsize))
                for mean in (20, 200):
                    for bias in (False, True):
                        c = configs.attention_config(arch, head_dim, itemsize, mean, bias)
                        width = configs.padded_dim(head_dim) * itemsize
                        assert (c.block_m + 2 * c.block_n * c.stages) * width <= most
    for columns in (1, 2, 31, 128, 1000, 4096, 16_384, 100_000):
        assert list(configs.softmax_candidates(columns))
        assert configs.softmax_config(80, columns).rows >= 1


def test_what_a_device_measured_is_what_a_launch_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "configs.json"
    table.write_text(configs.TABLE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(configs, "TABLE", table)
    best, other = AttentionConfig(128, 16, 8, 4), configs.attention_config(90, 26, 2, 20.0, True)
    configs.record("attention", configs.attention_key(90, 26, 2, 20.0, False), best, "NVIDIA H100", 12.345)
    configs.record("softmax", configs.softmax_key(90, 100), SoftmaxConfig(2, 8), "NVIDIA H100", 1.0)
    try:
        assert configs.attention_config(90, 32, 2, 48.0, False) == best
        assert configs.attention_config(90, 32, 2, 20.0, True) == other
        assert configs.softmax_config(90, 128) == SoftmaxConfig(2, 8)
        assert json.loads(table.read_text())["attention"]["sm_90 head_dim 32 bytes 2 short"]["microseconds"] == 12.35
    finally:
        configs._table.cache_clear()
