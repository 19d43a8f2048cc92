"""The GPU benchmark, in a small version on CPU cores."""

import json
import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from benchmarks import gpu
from benchmarks.training import build_chain
from helpers import cli

CPU = torch.device("cpu")


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=cli.ROOT, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.slow
def test_the_benchmark_runs_completely_on_cpu_cores() -> None:
    lines = run("--device", "cpu").splitlines()
    found = json.loads(lines[-1])
    assert list(found["results"]) == ["large", "small", "seeds"]
    assert all(rate > 0 for rate in found["results"]["small"]["steps_per_second"].values())
    assert "5 batched seeds" in lines[-2]


@pytest.mark.gate
def test_without_a_gpu_the_benchmark_says_so_and_exits_normally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    said = run()
    assert said.startswith("This benchmark needs a GPU, got none, so nothing was measured")
    assert json.loads(said.splitlines()[-1])["results"] == {}


def test_batched_seeds_end_with_the_weights_of_separate_trainings() -> None:
    data, build = gpu.make_images(128, 16), partial(build_chain, 4, 2)
    together = gpu.BatchedSeeds(
        [gpu.build_seeded(build, seed) for seed in range(gpu.SEEDS)], gpu.make_batches(data, CPU), CPU
    )
    alone = [
        gpu.Training(gpu.build_seeded(build, seed), gpu.SETTINGS, batches, CPU)
        for seed, batches in enumerate(gpu.make_batches(data, CPU))
    ]
    for training in (together, *alone):
        for _ in range(5):
            training.step()
    stacked = {**together.parameters, **together.buffers}
    for seed, training in enumerate(alone):
        for name, tensor in training.model.state_dict().items():
            torch.testing.assert_close(stacked[name][seed], tensor, atol=1e-5, rtol=1e-4)
    assert any(isinstance(module, nn.BatchNorm2d) for module in together.model.modules())


def test_transferred_batches_equal_batches_stored_on_the_device() -> None:
    data = gpu.make_images(100, 16)
    transferred, stored = gpu.transfer_batches(data, 64, CPU), gpu.yield_device_batches(data, gpu.SETTINGS, CPU)
    for _ in range(3):
        for left, right in zip(next(transferred), next(stored), strict=True):
            assert torch.equal(left, right)
