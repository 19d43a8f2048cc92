"""What `benchmarks.gpu` measures on a GPU, run small on the processor; and that stacked seeds are real trainings."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

import study
from benchmarks.seeds import RATE, many_seeds

CPU = torch.device("cpu")


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def test_seeds_that_train_together_end_with_the_weights_that_each_would_have_alone() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randn(3, 8, 1, 6, 6, generator=random)
    labels = torch.randint(0, 3, (3, 8), generator=random)
    step, weights = many_seeds(build, 3, CPU)
    for _ in range(4):
        step(images, labels)
    for seed in range(3):
        torch.manual_seed(seed)
        alone = build().train()
        optimizer = torch.optim.SGD(alone.parameters(), lr=RATE)
        for _ in range(4):
            optimizer.zero_grad()
            nn.functional.cross_entropy(alone(images[seed]), labels[seed]).backward()
            optimizer.step()
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(weights[name][seed], parameter.detach(), rtol=1e-5, atol=1e-6)


def benchmark(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *arguments],
        cwd=study.ROOT,
        env={**study.environment(), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )


def test_without_a_gpu_the_benchmark_says_so() -> None:
    assert benchmark().stdout.startswith("no GPU here: nothing was measured")


@pytest.mark.gate
def test_the_benchmark_measures_loops_packing_and_seeds() -> None:
    run = benchmark("--device", "cpu", "--seconds", "1.5", "--steps", "20", "--model", "mobilenetv3_small_050")
    found = json.loads(run.stdout.splitlines()[-1])["results"]
    assert set(found["loops"]["over_plain"]) == {"plain", "bf16", "channels last", "images on the device", "all three"}
    assert found["loops"]["over_plain"]["plain"] == 1.0
    assert set(found["packing"]["steps_per_second"]) == {"1", "2"}
    assert found["packing"]["over_one"] >= 1.0
    assert found["seeds"]["time_over_one_seed"] > 0
