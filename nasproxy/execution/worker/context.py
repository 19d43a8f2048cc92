"""The trial context, through which a trainer gets its trial, data and model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasproxy.data.dataset import ImageSplit, TrialImages, take_split
from nasproxy.data.image_folder import FileSplit
from nasproxy.data.loading import Datasets, load_dataset
from nasproxy.errors import DataError
from nasproxy.targets import build_target
from nasproxy.trials.identity import list_arguments
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture, TrialSpec, to_canonical_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrialContext:
    """The argument `trial` of a trainer: specification, folder and devices of the trial.

    Attributes:
        model_dir: The trial's folder, for the hooks.
        spec: The trial's specification.
        device: Torch's name of the device.
        threads: CPU threads this process may use.
        rank: Rank of this process; only rank 0 writes files and calls the hooks.
        world_size: Processes of the trial: one per device if the trainer has `runs_as_ranks`, else 1.
        datasets: Cache of loaded datasets, by their node as canonical JSON.
    """

    model_dir: Path
    spec: TrialSpec
    device: str = "cpu"
    threads: int = 1
    rank: int = 0
    world_size: int = 1
    datasets: Datasets = field(default_factory=dict, compare=False, repr=False)

    @property
    def architecture(self) -> Architecture:
        """The architecture to train."""
        return self.spec.architecture

    @property
    def proxy_task(self) -> ProxyTask:
        """The proxy task to train under; its overrides are applied already."""
        return self.spec.proxy_task

    @property
    def seed(self) -> int:
        """Seed of weights, batches and augmentation."""
        return self.spec.seed

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole training."""
        return self.spec.total_steps

    @property
    def check_steps(self) -> tuple[int, ...]:
        """Steps after which the controller asks for a validation; the last is `total_steps`, which must be reported."""
        return self.spec.check_steps

    def load_data(self) -> ImageSplit | FileSplit:
        """Load the training and validation images, at this trial's data fraction and image size.

        Returns:
            Arrays for a dataset in memory, lists of files for an image folder.

        Raises:
            DataError: The dataset differs from the one that the study was created with.
        """
        node = to_canonical_json(self.spec.recipe.data)
        if node not in self.datasets:
            self.datasets[node] = load_dataset(self.spec.recipe.data)
        dataset = self.datasets[node]
        if dataset.fingerprint != self.spec.recipe.data_fingerprint:
            raise DataError(
                f"the dataset's fingerprint must be {self.spec.recipe.data_fingerprint[:12]}, as when the study was "
                f"created, got {dataset.fingerprint[:12]}: restore the dataset, or create another study with study=NAME"
            )
        data, task = self.spec.recipe.data, self.proxy_task
        split = take_split(
            dataset,
            split=self.spec.split,
            data_fraction=task.data_fraction,
            holdout_fraction=data["holdout_fraction"],
            order_seed=data["order_seed"],
            balance=data["balance"],
        )
        return split if task.image_size == 1.0 else split.resized(task.image_size, task.image_mode)

    def build_model(self, data: TrialImages) -> "torch.nn.Module":
        """Build the architecture as a module, at this trial's width and depth, with weights drawn from its seed."""
        import torch

        channels, *sides = data.image_shape
        torch.manual_seed(self.seed)
        model: torch.nn.Module = build_target(
            "search_space.model",
            list_arguments(self.spec.recipe.model),
            architecture=dict(self.architecture),
            width=self.proxy_task.width,
            depth=self.proxy_task.depth,
            num_classes=data.num_classes,
            channels=channels,
            image_size_px=max(sides),
        )
        return model


def get_trainer_arguments(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a trainer besides its trial."""
    return {key: value for key, value in list_arguments(trainer).items() if key != "_target_"}
