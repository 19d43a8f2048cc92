"""Models and data for tests on several devices, used as targets; outputs do not depend on the rest of the batch."""

import os
from typing import Any

import numpy as np

from nasproxy.data.dataset import ImageDataset


def dataset() -> ImageDataset:
    """Make a dataset of 3 classes whose size is not a multiple of the batch size."""
    random = np.random.default_rng(0)
    labels = np.arange(171) % 3
    images = random.normal(size=(171, 1, 8, 8)).astype(np.float32)
    images[np.arange(171), 0, 2 * labels] += 1.0
    return ImageDataset(images[:120], labels[:120], images[120:], labels[120:])


def plain(**_: Any) -> Any:
    """Build a model without batch norm and dropout."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def colours(**_: Any) -> Any:
    """Build a model for colour images."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


def normed(**_: Any) -> Any:
    """Build a model with batch norm and dropout."""
    from torch import nn

    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(144, 3)]
    return nn.Sequential(*layers)


def faulty(*, rank: str, fault: str, **_: Any) -> Any:
    """Build a model that fails on one rank from the fourth step on."""
    import torch
    from torch import nn

    class Faulty(nn.Sequential):
        steps = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.steps += 1
            if self.training and self.steps > 3 and os.environ.get("RANK") == rank:
                if fault == "die":
                    os._exit(9)
                raise MemoryError("no room") if fault == "oom" else RuntimeError("no luck")
            return super().forward(images)

    return Faulty(*plain())
