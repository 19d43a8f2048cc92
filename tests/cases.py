"""Things that users bring, for the command line to find by their dotted paths."""

import numpy as np

from nasproxy.data.dataset import ImageDataset


def one_class() -> ImageDataset:
    """A dataset that nothing can be learnt from."""
    images, labels = np.zeros((4, 1, 8, 8), dtype=np.float32), np.zeros(4, dtype=np.int64)
    return ImageDataset(images, labels, images, labels)


def three_outputs(**_: object) -> object:
    """A model that forgot how many classes there are."""
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


def no_dataset() -> tuple[int, int]:
    """What a loader in a hurry returns."""
    return (1, 2)


def broken() -> list[object]:
    """A generator function with a mistake."""
    raise RuntimeError("no luck")
