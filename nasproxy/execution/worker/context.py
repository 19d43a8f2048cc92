"""The trial context, through which a trainer gets its trial, data and model."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasproxy.data.dataset import ImageSplit, TrialImages, take_split
from nasproxy.data.image_folder import FileSplit
from nasproxy.data.loading import Datasets, load_dataset
from nasproxy.errors import ConfigError, DataError, ModelError
from nasproxy.storage.scratch import make_scratch
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.targets import build_target
from nasproxy.training.reporting import CheckReporter, is_stop_requested, make_checkpoint_dir, report_alive
from nasproxy.trials.clock import Clock, SystemClock
from nasproxy.trials.identity import list_arguments
from nasproxy.trials.objective import Objective
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.spec import Architecture, TrialSpec, to_canonical_json

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TrialContext:
    """The argument `trial` of a trainer: what to train, and where to report.

    A training loop is

        data = trial.load_data()
        model = trial.build_model(data)
        ... load the last checkpoint in trial.checkpoint_dir, if there is one ...
        while not trial.should_stop(step):
            ... train until one of trial.check_steps; validate ...
            trial.report(step, {"accuracy": accuracy}, train_seconds)
            ... save a checkpoint into trial.checkpoint_dir ...

    Save the checkpoint last: a process that is killed before it repeats the cycle, and reporting a check again has no
    effect.

    Attributes:
        model_dir: The trial's folder.
        spec: The trial's specification.
        device: Torch's name of the device.
        threads: CPU threads this process may use.
        rank: Rank of this process; only rank 0 writes files.
        world_size: Processes of the trial: one per device if the trainer has `runs_as_ranks`, else 1.
        datasets: Cache of loaded datasets, by their node as canonical JSON.
        clock: Source of the time that `report` measures.
    """

    model_dir: Path
    spec: TrialSpec
    device: str = "cpu"
    threads: int = 1
    rank: int = 0
    world_size: int = 1
    datasets: Datasets = field(default_factory=dict, compare=False, repr=False)
    clock: Clock = field(default_factory=SystemClock, compare=False, repr=False)

    def __post_init__(self) -> None:
        _ = self._reporter  # its training time starts now

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

    @property
    def objective(self) -> Objective:
        """The study's metric, which every report must hold."""
        return self.spec.recipe.objective

    @property
    def checkpoint_dir(self) -> Path:
        """Folder for the trial's checkpoints; it exists, and is empty for a new trial."""
        return make_checkpoint_dir(TrialFolder(self.model_dir))

    @property
    def scratch_dir(self) -> Path:
        """Folder on this machine's own disk for temporary files of this attempt; removed once its worker has ended."""
        return make_scratch(TrialFolder(self.model_dir))

    def report(self, step: int, metrics: Mapping[str, float], train_seconds: float | None = None) -> None:
        """Report one check; a step that was reported before, by an earlier attempt too, is not recorded again.

        Only rank 0 records; the other ranks of a training on several devices may call this too.

        Args:
            step: Finished optimizer steps.
            metrics: Validation metrics by name, the study's metric (`trial.objective.name`) among them.
            train_seconds: Seconds of training since the trainer was called, validation excluded; None for all the time
                since then, validation included.

        Raises:
            NonFiniteScoreError: The study's metric is NaN or infinite.
            ConfigError: The step, a metric or the time is invalid.
        """
        if self.rank == 0:
            self._reporter.report(step, metrics, train_seconds)

    def should_stop(self, step: int) -> bool:
        """Return whether to stop after `step` finished steps, at the end or because the controller requested it.

        Ranks of a training on several devices may get different answers: let rank 0 decide.
        """
        return is_stop_requested(TrialFolder(self.model_dir), step, self.total_steps)

    def report_alive(self) -> bool:
        """Write a heartbeat if the last one is old enough, in rank 0; cheap enough to call after every batch.

        Returns:
            Whether a heartbeat was written: an occasion for work that is too expensive for every batch.
        """
        return self.rank == 0 and report_alive(self.model_dir)

    @cached_property
    def _reporter(self) -> CheckReporter:
        return CheckReporter(
            TrialFolder(self.model_dir), metric=self.objective.name, total_steps=self.total_steps, clock=self.clock
        )

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
        """Build the architecture as a module, at this trial's width and depth, with weights drawn from its seed.

        Raises:
            NasproxyError: The code of the model cannot build this architecture: `ModelError`, or an error of its own
                that is no `ConfigError`.
        """
        import torch

        channels, *sides = data.image_shape
        torch.manual_seed(self.seed)
        try:
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
        except ConfigError as error:
            raise ModelError(str(error)) from error
        return model


def get_trainer_arguments(trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a trainer besides its trial."""
    return {key: value for key, value in list_arguments(trainer).items() if key != "_target_"}
