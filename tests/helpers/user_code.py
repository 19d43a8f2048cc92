"""User code for tests of the command line, used as targets."""

import bdb
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nasproxy.data.dataset import ImageDataset
from nasproxy.execution.worker.context import TrialContext
from nasproxy.stages.references.random_selection import RandomSelection
from nasproxy.statistics.acceptance import Evidence, Verdict, decide_acceptance
from nasproxy.statistics.deviation import tau_lower_limit
from nasproxy.testing import synthetic


def one_class() -> ImageDataset:
    """Make a dataset with a single class."""
    images, labels = np.zeros((4, 1, 8, 8), dtype=np.float32), np.zeros(4, dtype=np.int64)
    return ImageDataset(images, labels, images, labels)


COUNT = [0]
"""Number of calls of `counted` in this process."""


def counted() -> ImageDataset:
    """Make a dataset and count the call."""
    COUNT[0] += 1
    images = np.random.default_rng(0).normal(size=(40, 1, 12, 12)).astype(np.float32)
    labels = np.arange(40) % 10
    return ImageDataset(images, labels, images, labels)


def three_outputs(**_: object) -> object:
    """Build a model that ignores the number of classes."""
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


def list_tasks() -> list[dict[str, object]]:
    """Make proxy tasks."""
    return [{"name": "narrow", "width": 0.5}]


def hang(**_: object) -> None:
    """A model that is never built."""
    time.sleep(3600.0)


def mortal(**_: object) -> object:
    """Build a model that exits its process in double precision."""
    import torch
    from torch import nn

    class Mortal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(1, 10)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if images.dtype is torch.float64:
                os._exit(9)
            return self.head(images.mean(dim=(2, 3)))

    return Mortal()


def advised(trial: TrialContext, **arguments: float | None) -> None:
    """Train nothing; `check` returns a warning."""
    synthetic.train(trial, **arguments)  # type: ignore[arg-type]


advised.check = lambda **_: ["choose warmer colours"]  # type: ignore[attr-defined]


def long_cycle(trial: TrialContext, *, seconds: float, sign: str) -> None:
    """Report heartbeats only, until the single check at the end."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.1)
        if sign == "alive":
            trial.report_alive()
        if sign == "output":
            print("still here", flush=True)
    trial.report(trial.total_steps, {"accuracy": 0.5}, seconds)


def no_dataset() -> tuple[int, int]:
    """Return an object that is not a dataset."""
    return (1, 2)


def broken() -> list[object]:
    """Raise an error, as a faulty loader does."""
    raise RuntimeError("no luck")


class LessOfMore:
    """Criterion whose threshold depends on the number of models only."""

    def __init__(self, needs: Mapping[int, float]) -> None:
        self.target = 0.65
        self.needs = {str(models): tau for models, tau in needs.items()}
        self.alpha = 0.2

    def judge(self, evidence: Evidence) -> Verdict:
        limit = None if evidence.correlation is None else tau_lower_limit(evidence.correlation.tau, 10)
        return decide_acceptance(evidence, lambda n: self.needs.get(str(n)), target=self.target, lower_limit=limit)


def leave(**_: object) -> None:
    """End the program; for use as any target."""
    sys.exit(0)


def hurried(trial: TrialContext, **arguments: float | None) -> None:
    """Train nothing; `check` ends the program."""


hurried.check = leave  # type: ignore[attr-defined]


class ImpatientJudge(LessOfMore):
    """Criterion that can be built, and ends the program when it judges."""

    min_models = 5

    def __init__(self, **_: object) -> None:
        super().__init__({})

    def judge(self, evidence: Evidence) -> Verdict:
        sys.exit(0)


@dataclass(kw_only=True)
class FixedSelection(RandomSelection):
    """Selection with an argument that has no default."""

    first: int


def versioned(trial: TrialContext, *, version: str = "1.0") -> None:
    """Train nothing; has an argument with the name of a key of the identity."""


def smoothed(trial: TrialContext, *, smoothing: str | None = "ema") -> None:
    """Train nothing; has an argument that may be null, with another default."""


def careful(trial: TrialContext, **arguments: float | None) -> None:
    """Train synthetically; `check` takes two seconds."""
    synthetic.train(trial, **arguments)  # type: ignore[arg-type]


def check_slowly(**_: object) -> str:
    time.sleep(2.0)
    return "checked"


careful.check = check_slowly  # type: ignore[attr-defined]


def answering(*, architecture: Mapping[str, object], num_classes: int, channels: int, **_: object) -> object:
    """Build a model whose outputs are those that the name `answer` of its architecture says."""
    import torch
    from torch import nn

    answers = {
        "pair": lambda logits, _: (logits, logits),
        "pair in training": lambda logits, is_training: (logits, logits) if is_training else logits,
        "mapping": lambda logits, _: {"logits": logits, "aux": logits},
        "nothing": lambda _, __: None,
        "squeezed": lambda logits, _: logits.squeeze(0),
        "narrow in training": lambda logits, is_training: logits[:, :3] if is_training else logits,
        "detached": lambda logits, _: logits.detach(),
        "error": lambda logits, _: logits @ torch.zeros(3, 3),
        "error in evaluation": lambda logits, is_training: logits if is_training else logits @ torch.zeros(3, 3),
        "exit": lambda _, __: sys.exit(0),
        "large": lambda logits, _: logits,
    }

    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(channels, num_classes)
            self.more = nn.Linear(64, 64) if architecture["answer"] == "large" else None

        def forward(self, images: torch.Tensor) -> object:
            logits = self.head(images.mean(dim=(2, 3)))
            return answers.get(str(architecture["answer"]), lambda logits, _: logits)(logits, self.training)

    if architecture["answer"] == "unbuilt":
        raise ValueError("no such layer")
    return Answering()


def normalizing(*, num_classes: int, channels: int, **_: object) -> object:
    """Build a model that normalizes one value of each channel and image."""
    from torch import nn

    body = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4), nn.BatchNorm1d(4)]
    return nn.Sequential(*body, nn.Linear(4, num_classes))


def note_process(trial: TrialContext) -> None:
    """Note the process that trains."""
    (trial.model_dir / "process").write_text(str(os.getpid()))
    trial.report(trial.total_steps, {"accuracy": 0.5})


def exit_at_once(trial: TrialContext) -> None:
    """End the process that trains."""
    sys.exit(0)


def quit_debugger(trial: TrialContext) -> None:
    """Do what the debugger does when its user quits."""
    raise bdb.BdbQuit


def ranked(trial: TrialContext) -> None:
    """Train nothing; it runs as one process per device."""


ranked.runs_as_ranks = True  # type: ignore[attr-defined]


def stop_in_debugger(trial: TrialContext, **arguments: float | None) -> None:
    """Stop in the debugger at the start of a training."""
    breakpoint()
    synthetic.train(trial, **arguments)  # type: ignore[arg-type]


def print_much(trial: TrialContext, *, megabytes: int) -> None:
    """Print lines, the last of them by another process."""
    print("the first line", flush=True)
    for _ in range(megabytes):
        os.write(1, (b"x" * 1023 + b"\n") * 1024)
    subprocess.run(["sh", "-c", "echo the last line"], check=True)
    trial.report(trial.total_steps, {"accuracy": 0.5})


def segfault(trial: TrialContext) -> None:
    """Read from address 0."""
    ctypes.string_at(0)


def use_scratch(trial: TrialContext, dies: bool) -> None:
    """Leave a file in the scratch folder, write where it is, and end or be killed."""
    file = trial.scratch_dir / "shard"
    file.write_text("text")
    (trial.model_dir / "scratch_file").write_text(str(file))
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    for step in trial.check_steps:
        trial.report(step, {"accuracy": 0.5}, 1.0)
