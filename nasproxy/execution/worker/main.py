"""Runs one trial in a process of its own: sets the process up, calls the trainer, writes down how it ended.

Torch is imported where it is used: the controller's process imports this module to start workers, and stays light.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasproxy.data.dataset import Dataset, ImageDataset, ImageSplit, TrialImages, take
from nasproxy.data.image_folder import FileSplit, ImageFolder
from nasproxy.errors import ConfigError, DataError, UntrustedTrialError
from nasproxy.execution.devices import Pool
from nasproxy.execution.distributed import Ranks
from nasproxy.execution.failure_causes import Failure, bound_memory, failure_of
from nasproxy.storage.files import Lease, config_digest, last_step, read_record, read_spec, settle, write_record
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.targets import build, check_arguments, load, targets
from nasproxy.training.hooks import get_stop_training
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, Request, State, Status, TrialFolder
from nasproxy.trials.spec import Architecture, TrialSpec, canonical

if TYPE_CHECKING:
    import torch

Datasets = dict[str, Dataset[ImageSplit | FileSplit]]
EXIT_ENDED = 0
"""The worker wrote its own end."""
EXIT_BUSY = 75
"""Another living worker has the trial; nothing was touched."""


@dataclass(frozen=True)
class WorkOrder:
    """One trial to run, as submitted.

    Attributes:
        folder: The trial's folder.
        digest: Digest of the config that was submitted; a folder with another is not run.
        trusted_modules: Top-level modules that the config may name as targets.
        threads: Threads of the trial, on each of its devices.
        pool: Where to lease what the trial runs on.
        max_attempts: Failures after which the trial is given up.
        environment: Variables to set before anything starts.
        memory_gib: CPU memory that the worker may take; None for no limit.
    """

    folder: Path
    digest: str
    trusted_modules: tuple[str, ...]
    pool: Pool
    threads: int = 1
    max_attempts: int = 2
    environment: Mapping[str, str] = field(default_factory=dict)
    memory_gib: float | None = None


@dataclass(frozen=True)
class TrialContext:
    """What a trainer gets: which trial it trains, where, and with what.

    Attributes:
        model_dir: The trial's folder, for the hooks.
        spec: What the trial is.
        device: Torch's name of the device.
        threads: CPU threads this process may use.
        rank: Which process of the trial this is; only rank 0 writes files and calls the hooks.
        world_size: Processes of the trial: one for each of its devices where the trainer has `runs_as_ranks`, else 1.
        datasets: Those that are loaded already, by their node as canonical JSON.
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
        """The fidelity to train at; its overrides are applied already."""
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
        """Steps after which to validate; the last is `total_steps`."""
        return self.spec.check_steps

    def load_data(self) -> ImageSplit | FileSplit:
        """The images to train on and to be scored on, at this trial's data fraction and image size.

        Returns:
            Arrays where the dataset lies in memory, lists of files where it is an image folder.

        Raises:
            DataError: The dataset is not the one that the study was begun with.
        """
        node = canonical(self.spec.recipe.data)
        if node not in self.datasets:
            self.datasets[node] = load_dataset(self.spec.recipe.data)
        dataset = self.datasets[node]
        if dataset.fingerprint != self.spec.recipe.data_fingerprint:
            raise DataError(
                f"the dataset was {self.spec.recipe.data_fingerprint[:12]} when the study began and is "
                f"{dataset.fingerprint[:12]} now: restore it, or begin another study"
            )
        data, task = self.spec.recipe.data, self.proxy_task
        split = take(
            dataset,
            split=self.spec.split,
            data_fraction=task.data_fraction,
            holdout_fraction=data["holdout_fraction"],
            order_seed=data["order_seed"],
            balance=data["balance"],
        )
        return split if task.image_size == 1.0 else split.resized(task.image_size, task.image_mode)

    def build_model(self, data: TrialImages) -> "torch.nn.Module":
        """The architecture as a module, at this trial's width and depth, its weights drawn from the seed."""
        import torch

        channels, *sides = data.image_shape
        torch.manual_seed(self.seed)
        model: torch.nn.Module = build(
            "search_space.model",
            self.spec.recipe.model,
            architecture=dict(self.architecture),
            width=self.proxy_task.width,
            depth=self.proxy_task.depth,
            num_classes=data.num_classes,
            channels=channels,
            image_size_px=max(sides),
        )
        return model


def load_dataset(data: Mapping[str, Any]) -> Dataset[ImageSplit | FileSplit]:
    """Load the dataset of a `data` node."""
    dataset = build("data.loader", data["loader"])
    if not isinstance(dataset, ImageDataset | ImageFolder):
        raise DataError(
            f"data.loader must return a nasproxy.data.dataset.ImageDataset, or an ImageFolder of "
            f"nasproxy.data.image_folder, got {type(dataset).__name__}: wrap it"
        )
    return dataset


def run(order: WorkOrder) -> None:
    """Run one trial in this process and exit; the status tells the rest."""
    os.setsid()  # the terminal's Ctrl-C is for the controller, and killing this group ends all it started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(order.environment)
    folder = TrialFolder(order.folder)
    lock = Lease(folder.lock)
    if not lock.acquire(wait_seconds=1.0):
        sys.exit(EXIT_BUSY)
    with folder.log.open("ab", buffering=0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _train(order, folder)
    sys.stdout.flush()
    os._exit(EXIT_ENDED)  # nothing is left to tidy, and the interpreter's own tidying costs tens of milliseconds


def _train(order: WorkOrder, folder: TrialFolder) -> None:
    status = settle(folder, max_attempts=order.max_attempts)
    if status.state is State.FAILED:
        write_record(folder.status, status)
        return
    attempt = _Attempt(order, folder, replace(status, threads=status.threads or order.threads))
    with ExitStack() as held:
        try:
            spec = _trusted_spec(order, folder)
            device = held.enter_context(order.pool.lease(spec.devices))
            attempt.begin()
            attempt.end(_call_trainer(attempt, spec, device))
        except Exception as error:  # whatever a trainer raises ends its own trial, with the reason on record
            failure = failure_of(error)
            if failure.cause is not Cause.NAN:
                traceback.print_exc()
            attempt.fail(failure)


class _Attempt:
    """One worker's try at a trial, and how it goes into the trial's status."""

    def __init__(self, order: WorkOrder, folder: TrialFolder, status: Status) -> None:
        self.order = order
        self.folder = folder
        self.threads = status.threads or 1
        self._status = status
        self._started = time.time()

    def begin(self) -> None:
        """It has its devices."""
        self._started = time.time()
        write_record(self.folder.status, replace(self._status, state=State.RUNNING, started_at=self._started))

    def end(self, state: State) -> None:
        """It has come as far as it was asked to."""
        self._write(replace(self._status, state=state))

    def fail(self, failure: Failure) -> None:
        """It has failed."""
        step, attempts = last_step(self.folder), self.order.max_attempts
        self._write(self._status.failed(failure.cause, failure.message, step=step, max_attempts=attempts))

    def fail_at_once(self, failure: Failure) -> None:
        """It has failed while this process waits, perhaps for ever."""
        self.fail(failure)
        sys.stdout.flush()
        os._exit(EXIT_ENDED)

    def _write(self, ended: Status) -> None:
        seconds = self._status.wall_seconds + time.time() - self._started
        write_record(self.folder.status, replace(ended, wall_seconds=seconds, started_at=None))


def _call_trainer(attempt: _Attempt, spec: TrialSpec, device: str) -> State:
    folder = attempt.folder
    if attempt.order.memory_gib is not None:
        bound_memory(attempt.order.memory_gib)  # for the ranks that are forked too, each of them
    before = last_step(folder)
    if before < spec.total_steps and get_stop_training(folder.path, before - 1, spec.total_steps):
        return State.PAUSED  # asked to stop, or left by its controller, before it began

    trainer = load("trainer", spec.recipe.trainer)
    # One that does not know of ranks has all devices to itself, as a program that starts its own processes needs them.
    world_size = spec.devices if getattr(trainer, "runs_as_ranks", False) else 1

    def train(rank: int) -> None:
        import torch

        torch.set_num_threads(attempt.threads)
        name = f"{device}:{rank}" if device == "cuda" and world_size > 1 else device
        context = TrialContext(folder.path, spec, name, attempt.threads, rank, world_size)
        trainer(trial=context, **_arguments(spec.recipe.trainer))

    # Ranks are forked before Torch has started threads or a GPU, neither of which a fork survives.
    with Ranks(world_size, train, failure_of, attempt.fail_at_once) if world_size > 1 else nullcontext():
        train(0)
    step = last_step(folder)
    if step >= spec.total_steps:
        return State.DONE
    # A request may be extended after the trainer has obeyed it, so only a trainer that did nothing is at fault.
    if step == before and not get_stop_training(folder.path, step - 1, spec.total_steps):
        request = read_record(folder.request, Request) or Request()
        raise ConfigError(
            f"the trainer must train until step {request.until_step or spec.total_steps}, and returned after step "
            f"{step}: stop only where get_stop_training says so"
        )
    return State.PAUSED


def _arguments(trainer: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in trainer.items() if key not in ("_target_", "version")}


def rehearse(spec: TrialSpec, datasets: Datasets | None = None) -> tuple[str, ...]:
    """Put together all that a trial needs, without training it.

    A trainer may bring a check of its own: a function at its attribute `check`, with the same arguments, that raises
    what is wrong, and may return sentences on what is right but perhaps not meant.

    Args:
        spec: The trial.
        datasets: As in `TrialContext`, to load each once for many trials.

    Returns:
        The trainer's sentences.

    Raises:
        NasproxyError: Something cannot be found, does not fit its type, or does not fit together.
    """
    import torch

    spec = spec.applied()
    trainer = spec.recipe.trainer
    check_arguments("trainer", {"_target_": trainer.get("_target_"), **_arguments(trainer)}, given={"trial": None})
    context = TrialContext(Path(), spec, datasets={} if datasets is None else datasets)
    notes = _checked(load("trainer", trainer), context, _arguments(trainer))
    if spec.recipe.data.get("loader") is None:
        return notes  # a trainer with data of its own
    data = context.load_data()
    model = context.build_model(data)
    if not isinstance(model, torch.nn.Module):
        raise ConfigError(f"search_space.model must return a torch.nn.Module, got {type(model).__name__}")
    model.eval()
    with torch.no_grad():
        shape = tuple(model(torch.zeros(1, *data.image_shape)).shape)
    if shape != (1, data.num_classes):
        raise ConfigError(
            f"search_space.model must give scores of shape (images, {data.num_classes}), got (images, "
            f"{', '.join(map(str, shape[1:]))}): build its head with num_classes outputs"
        )
    return notes


def _checked(train: Any, trial: TrialContext, arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """What a trainer that knows more of its arguments than their types says of them."""
    check = getattr(train, "check", None)
    said = None if check is None else check(trial=trial, **arguments)
    if said is None or isinstance(said, str):
        return (said,) if said else ()
    if not isinstance(said, Sequence) or not all(isinstance(note, str) for note in said):
        raise ConfigError(
            f"a trainer's check must return sentences or None, got {said!r}: see docs/your_own_trainer.md"
        )
    return tuple(said)


def zero_costs(specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
    """Score the models of trials without training them; None where the trainer brings its own, or one cannot be built.

    Raises:
        NasproxyError: The data cannot be loaded.
    """
    import torch

    torch.set_num_threads(1)  # single images are too little work to share
    splits: dict[str, TrialImages] = {}
    return [_zero_cost(spec.applied(), splits) for spec in specs]


def _zero_cost(spec: TrialSpec, splits: dict[str, TrialImages]) -> ZeroCost | None:
    from nasproxy.models.complexity import measure

    if spec.recipe.data.get("loader") is None:
        return None
    context, task = TrialContext(Path(), spec), spec.proxy_task
    shape = canonical([spec.recipe.data, task.image_size, task.image_mode])
    if shape not in splits:
        splits[shape] = context.load_data()
    try:
        return measure(context.build_model(splits[shape]), splits[shape].image_shape)
    except Exception:  # the model is the user's code: one that cannot be built fails as a trial, with its reason
        return None


def _trusted_spec(order: WorkOrder, folder: TrialFolder) -> TrialSpec:
    text = folder.config.read_text(encoding="utf-8")
    if config_digest(text) != order.digest:
        raise UntrustedTrialError(
            f"{folder.config} is not the config that was submitted (digest {config_digest(text)[:12]}, submitted "
            f"{order.digest[:12]}): remove the folder, and the study will make it again"
        )
    spec = read_spec(folder.config)
    for target in targets(asdict(spec.recipe)):
        if target.partition(".")[0] not in order.trusted_modules:
            raise UntrustedTrialError(
                f"{folder.config} names {target}, which the study's configuration does not: trusted are "
                f"{', '.join(order.trusted_modules)}"
            )
    return spec
