"""Loading of the dataset that a `data` node configures."""

from collections.abc import Mapping
from typing import Any

from nasproxy.data.dataset import Dataset, ImageDataset, ImageSplit
from nasproxy.data.image_folder import FileSplit, ImageFolder
from nasproxy.errors import DataError
from nasproxy.targets import build_target
from nasproxy.trials.identity import list_arguments

Datasets = dict[str, Dataset[ImageSplit | FileSplit]]


def load_dataset(data: Mapping[str, Any]) -> Dataset[ImageSplit | FileSplit]:
    """Load the dataset that a `data` node configures.

    Raises:
        DataError: The loader returns an object that is not a dataset.
    """
    dataset = build_target("data.loader", list_arguments(data["loader"]))
    if not isinstance(dataset, ImageDataset | ImageFolder):
        raise DataError(
            f"data.loader must return a nasproxy.data.dataset.ImageDataset, or an ImageFolder of "
            f"nasproxy.data.image_folder, got {type(dataset).__name__}: convert it"
        )
    return dataset
