"""Trials that are small enough to train completely in a test; as a program, resumes one of each trainer."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nasproxy.data.dataset import ImageSplit
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.json_records import write_record
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trainers import image_classifier, plain_pytorch
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Check, Request
from nasproxy.trials.spec import Recipe, Split, TrialSpec

TRAINERS = {"lightning": image_classifier.train, "plain": plain_pytorch.train}
SETTINGS = {
    "batch_size": 16,
    "learning_rate": 0.05,
    "weight_decay": 0.01,
    "momentum": 0.9,
    "optimizer": "sgd",
    "schedule": "cosine",
    "warmup_fraction": 0.12,
    "label_smoothing": 0.1,
    "shift_px": 1,
}


class TinyTrial(TrialContext):
    """A trial with 50 images of 8 pixels, so that an epoch ends inside a batch, and a network with dropout."""

    def load_data(self) -> ImageSplit:
        random = np.random.default_rng(0)
        labels = np.arange(110) % 3
        images = random.normal(size=(110, 1, 8, 8)).astype(np.float32)
        images[np.arange(110), 0, 2 * labels] += 1.0
        return ImageSplit(images[:50], labels[:50], images[50:], labels[50:], num_classes=3)

    def build_model(self, data: ImageSplit) -> nn.Module:
        torch.manual_seed(self.seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(144, 3),
        )


class DivergedTrial(TinyTrial):
    """A trial whose model always outputs NaN."""

    def build_model(self, data: ImageSplit) -> nn.Module:
        model = super().build_model(data)
        with torch.no_grad():
            next(model.parameters()).fill_(torch.nan)
        return model


def tiny_trial(
    folder: Path, *, kind: type[TinyTrial] = TinyTrial, task: ProxyTask | None = None, **recipe: Any
) -> TinyTrial:
    """Make a trial of 25 steps with checks at 4, 8, ... 24 and 25."""
    common = Recipe(model={}, trainer={}, data={}, data_fingerprint="", total_steps=25, check_every_steps=4)
    return kind(folder, TrialSpec({}, task or ProxyTask(), Split.SEARCH, 7, replace(common, **recipe)))


def train(trial: TinyTrial, trainer: str, until: int | None = None, **settings: object) -> tuple[Check, ...]:
    """Train until a step, or to the end, and return all checks."""
    write_record(TrialFolder(trial.model_dir).request, Request(until_step=until))
    torch.manual_seed(int.from_bytes(trial.model_dir.name.encode()[:4], "big"))  # any previous state
    TRAINERS[trainer](replace(trial), **{**SETTINGS, **settings})  # a new attempt has a new context
    return read_checks(TrialFolder(trial.model_dir).metrics)


def curve(checks: tuple[Check, ...]) -> list[tuple[int, float]]:
    """Return steps and scores."""
    return [(check.step, check.score) for check in checks]


def weights(trial: TinyTrial) -> list[torch.Tensor]:
    """Return the weights of the last checkpoint."""
    (path,) = TrialFolder(trial.model_dir).checkpoints.glob("last.*")
    saved = torch.load(path, weights_only=True)
    return list(saved.get("state_dict", saved.get("model")).values())


def kept(trial: TinyTrial) -> list[torch.Tensor]:
    """Return the weights saved at the end of a training."""
    return list(torch.load(TrialFolder(trial.model_dir).weights, weights_only=True).values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in TRAINERS:
        train(tiny_trial(Path(sys.argv[1]) / name), name)
