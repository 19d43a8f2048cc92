"""Preflight: put each kind of trial together and take one optimizer step, before the first trial starts."""

import inspect
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nasproxy.data.dataset import TrialImages
from nasproxy.data.loading import Datasets
from nasproxy.errors import ConfigError, ModelError, NasproxyError, describe_error, forbid_exit
from nasproxy.execution.host.cores import count_cores
from nasproxy.execution.worker.context import TrialContext, get_trainer_arguments
from nasproxy.storage.scratch import remove_scratch
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.targets import check_arguments, load_target
from nasproxy.trials.identity import IDENTITY_KEYS
from nasproxy.trials.proxy_task import DIMENSIONS, ProxyTask
from nasproxy.trials.retry import read_smallest_batch
from nasproxy.trials.spec import Architecture, TrialSpec, to_canonical_json

if TYPE_CHECKING:
    import torch

UNKNOWN_BATCH = 2
"""Images of the step if the trainer has no `batch_size`."""
MOST_VALUES = 2**16
"""Largest number of pixel values of the step's images, unless two images have more: a step takes time and memory."""
COUNTING_SECONDS = 5.0
"""Time after which no further models are built to count their parameters; at least two are."""
ONE_VALUE = "Expected more than 1 value per channel"
"""Part of PyTorch's error of batch normalization with one value per channel."""


def preflight(
    specs: Sequence[TrialSpec], *, architectures: Sequence[Architecture] = (), seconds: float = 0.0
) -> list[str]:
    """Put one trial of each kind together and take one optimizer step with it.

    A trainer may have a check of its own: a function in its attribute `check`, with the same arguments, that raises
    an error for invalid settings, and may return notes on settings that are valid but perhaps not intended. A trainer
    with an attribute `preflight`, such as one that runs a program, runs until its first check.

    Args:
        specs: One trial of each kind.
        architectures: Architectures of which the smallest and the largest model are tried with each kind; none tries
            the model of each trial.
        seconds: Time limit of all calls of a trainer's `preflight` together; 0 skips them.

    Returns:
        Notes, without repetitions.

    Raises:
        NasproxyError: A part cannot be found, has the wrong type, or does not fit the others.
    """
    import torch

    torch.set_num_threads(1)  # more threads do not pay for so few images, and other programs may use the cores
    run = _Preflight(architectures, seconds)
    return list(dict.fromkeys(note for spec in specs for note in run.try_kind(spec)))


@dataclass(frozen=True)
class _Model:
    """An architecture to try, and how to call it in a message."""

    architecture: Architecture
    name: str


class _Preflight:
    """The preflight of a study in one process, which loads each dataset and counts the models' parameters once."""

    def __init__(self, architectures: Sequence[Architecture], seconds: float) -> None:
        self._architectures = architectures
        self._seconds = self._left = seconds
        self._datasets: Datasets = {}
        self._extremes: dict[str, list[_Model]] = {}
        self._trained: set[str] = set()
        self._programs: set[tuple[str, ...]] = set()

    def try_kind(self, spec: TrialSpec) -> list[str]:
        """Try one kind of trials and return its notes."""
        kind, changes = _name_kind(spec.proxy_task), _list_changes(spec.proxy_task)
        spec = spec.applied()
        node = spec.recipe.trainer
        arguments = get_trainer_arguments(node)
        check_arguments("trainer", {"_target_": node.get("_target_"), **arguments}, given={"trial": None})
        trainer = load_target("trainer", node)
        _check_identifiable("trainer", node)
        for path, other in (("data.loader", spec.recipe.data.get("loader")), ("search_space.model", spec.recipe.model)):
            if other:
                _check_identifiable(path, other)
        context = TrialContext(Path(), spec, datasets=self._datasets)
        notes = _call_check(trainer, context, arguments)
        if hasattr(trainer, "preflight"):
            notes += self._call_preflight(trainer.preflight, spec, kind, changes)
        if spec.recipe.data.get("loader") is None:
            return notes  # the trainer brings its own data
        data = context.load_data()
        if not spec.recipe.model:
            return notes  # the trainer brings its own models
        return [*notes, *self._train_models(context, data, kind)]

    def _train_models(self, trial: TrialContext, data: TrialImages, kind: str) -> list[str]:
        """Take a step with the smallest and the largest model; return notes on a model that fails alone.

        Raises:
            ModelError: All models failed.
            ConfigError: A model breaks its contract, which a change of its code or of the batch size keeps.
        """
        models, failures = self._find_extremes(trial, data), []
        images = _size_batch(trial.spec, data)
        for model in models:
            of_model = replace(trial, spec=replace(trial.spec, architecture=model.architecture))
            task = trial.proxy_task
            decisive = (trial.spec.recipe.model, model.architecture, task.width, task.depth, data.image_shape, images)
            key = to_canonical_json(decisive)
            if key in self._trained:
                continue
            self._trained.add(key)
            try:
                _take_step(of_model, data, images, place=", ".join(filter(None, (kind, model.name))))
            except ModelError as error:
                failures.append(error)
        if failures and len(failures) == len(models):
            raise failures[0]
        return [f"{failure}; the model's trials will fail" for failure in failures]

    def _find_extremes(self, trial: TrialContext, data: TrialImages) -> list[_Model]:
        """Find the smallest and the largest model by parameters; models that cannot be built are left out.

        Raises:
            NasproxyError: No model can be built.
        """
        if not self._architectures:
            return [_Model(trial.architecture, "")]
        node = to_canonical_json(trial.spec.recipe.model)
        if node not in self._extremes:
            counts: list[tuple[int, Architecture]] = []
            failures: list[NasproxyError] = []
            until = time.monotonic() + COUNTING_SECONDS
            for architecture in self._architectures:
                if len(counts) > 1 and time.monotonic() > until:
                    break
                of_model = replace(trial, spec=replace(trial.spec, architecture=architecture))
                try:
                    counts.append((_count_parameters(of_model.build_model(data)), architecture))
                except NasproxyError as error:
                    failures.append(error)
            if not counts:
                raise failures[0]
            smallest, largest = (choose(counts, key=lambda entry: entry[0]) for choose in (min, max))
            ends = {"smallest": smallest} if largest is smallest else {"smallest": smallest, "largest": largest}
            self._extremes[node] = [
                _Model(architecture, f"the {name} of {len(counts)} models, {count:,} parameters")
                for name, (count, architecture) in ends.items()
            ]
        return self._extremes[node]

    def _call_preflight(
        self, run: Callable[..., list[str]], spec: TrialSpec, kind: str, changes: tuple[str, ...]
    ) -> list[str]:
        """Call a trainer's `preflight` with the first check as the last step, once for the same changed dimensions.

        Raises:
            ConfigError: It failed.
        """
        if self._seconds == 0 or changes in self._programs:
            return []
        self._programs.add(changes)
        if self._left <= 0:
            return [f"{kind} was not tried, as preflight.seconds, {self._seconds:g}, were over: raise it to try all"]
        steps = spec.check_steps[0]
        short = replace(spec, recipe=replace(spec.recipe, total_steps=steps))
        with tempfile.TemporaryDirectory(prefix="nasproxy-preflight-") as folder, _log_to(Path(folder) / "worker.log"):
            trial = TrialContext(Path(folder), short, device=spec.recipe.device_type, threads=count_cores())
            place = f"({kind}, in the preflight with {steps} total_steps)"
            began = time.monotonic()
            try:
                notes = run(trial, seconds=self._left, **get_trainer_arguments(spec.recipe.trainer))
            except NasproxyError as error:
                raise ConfigError(f"{error} {place}") from error
            finally:
                remove_scratch(TrialFolder(Path(folder)))
            self._left -= time.monotonic() - began
            return [f"{note} {place}" for note in notes]


def _check_identifiable(path: str, node: Mapping[str, Any]) -> None:
    """Refuse arguments of code that the identity of a trial does not tell apart.

    Raises:
        ConfigError: An argument has the name of a key of the identity, or null replaces a default, as if it were not
            set.
    """
    try:
        parameters = inspect.signature(load_target(path, node)).parameters
    except ValueError:
        return  # a builtin
    for name in sorted(set(IDENTITY_KEYS) & set(parameters)):
        raise ConfigError(
            f"{path} must take no argument {name!r}, a key of a trial's identity, got {node['_target_']}: rename the "
            f"argument, or wrap the function"
        )
    for name, value in node.items():
        default = parameters[name].default if name in parameters else None
        if value is None and default not in (None, inspect.Parameter.empty):
            raise ConfigError(
                f"{path}.{name} must not be null, which is the same as its default {default!r} in a trial's identity: "
                f"leave it out, or give another value"
            )


def _call_check(train: Any, trial: TrialContext, arguments: Mapping[str, Any]) -> list[str]:
    """Call the trainer's `check`, if it has one, and return its notes."""
    check = getattr(train, "check", None)
    with forbid_exit("the trainer's check"):
        result = None if check is None else check(trial=trial, **arguments)
    if result is None or isinstance(result, str):
        return [result] if result else []
    if not isinstance(result, Sequence) or not all(isinstance(note, str) for note in result):
        raise ConfigError(
            f"a trainer's check must return a list of strings or None, got {result!r}: see docs/your_own_trainer.md"
        )
    return list(result)


def _name_kind(task: ProxyTask) -> str:
    name = task.default_name
    return "full training" if name == "full" else f"proxy task {name}"


def _list_changes(task: ProxyTask) -> tuple[str, ...]:
    """List the dimensions and overrides that differ from full training: a program reads each from one argument."""
    changed = [name for name in DIMENSIONS if getattr(task, name) != getattr(ProxyTask(), name)]
    return (*changed, *sorted(task.overrides))


def _size_batch(spec: TrialSpec, data: TrialImages) -> int:
    """Compute the images of the step: the smallest batch of a forward pass, or fewer large images, but at least 2."""
    smallest = read_smallest_batch(spec) or UNKNOWN_BATCH
    return min(smallest, max(2, MOST_VALUES // prod(data.image_shape)))


def _count_parameters(model: "torch.nn.Module") -> int:
    from torch.nn.parameter import UninitializedParameter

    return sum(each.numel() for each in model.parameters() if not isinstance(each, UninitializedParameter))


def _take_step(trial: TrialContext, data: TrialImages, images: int, *, place: str) -> None:
    """Take an optimizer step in training mode, then score one image in evaluation mode.

    Args:
        trial: Trial whose model takes the step.
        data: Its images, of which only the shape is used.
        images: Images of the step.
        place: Kind of the trial and name of the model, for messages.

    Raises:
        ModelError: The model's code raised an error.
        ConfigError: The model breaks its contract.
    """
    import torch

    try:
        model = trial.build_model(data)
    except NasproxyError as error:
        raise ModelError(f"{error} ({place})") from error
    if not isinstance(model, torch.nn.Module):
        raise ConfigError(f"search_space.model must return a torch.nn.Module, got {type(model).__name__}")
    for mode, count in (("training", images), ("evaluation", 1)):
        model.train(mode == "training")
        try:
            with forbid_exit("search_space.model"), nullcontext() if mode == "training" else torch.no_grad():
                logits = model(torch.randn(count, *data.image_shape))
                _check_logits(logits, count, data.num_classes, f"in {mode} mode ({place})")
                if mode == "training":
                    _update_weights(model, logits, place)
        except NasproxyError:
            raise
        except Exception as error:  # the model is user code and may raise anything
            if ONE_VALUE in str(error):
                raise ConfigError(_explain_one_value(trial.spec, place)) from error
            raise ModelError(
                f"search_space.model must take {count} images of shape {data.image_shape}, and failed in {mode} mode "
                f"({place}): {describe_error(error)}"
            ) from error


def _update_weights(model: "torch.nn.Module", logits: "torch.Tensor", place: str) -> None:
    import torch

    loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.int64))
    if not loss.requires_grad:
        raise ConfigError(
            f"search_space.model must have weights to train, got logits that depend on none ({place}): keep weights "
            f"trainable, and do not detach the logits"
        )
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.01).step()


def _check_logits(result: Any, count: int, classes: int, where: str) -> None:
    """Refuse a model that does not return logits.

    Raises:
        ConfigError: It returns something else.
    """
    import torch

    if not isinstance(result, torch.Tensor):
        what, advice = f"an object of type {type(result).__name__}", "return the logits alone"
        if result is None:
            what, advice = "None", "return the logits at the end of forward"
        elif isinstance(result, Mapping):
            what, advice = f"a {type(result).__name__} of {', '.join(map(str, result))}", "return its logits alone"
        elif isinstance(result, tuple | list):
            what = f"a {type(result).__name__} of {', '.join(type(each).__name__ for each in result) or 'nothing'}"
            advice = "return its logits alone, without auxiliary outputs"
        raise ConfigError(
            f"search_space.model must return a tensor of logits of shape (images, {classes}), got {what} {where}: "
            f"{advice}"
        )
    shape = tuple(result.shape)
    if shape == (count, classes):
        return
    has_images = len(shape) > 1 and shape[0] == count
    given = f"(images, {', '.join(map(str, shape[1:]))})" if has_images else f"{shape} of {count} images"
    advice = "build its head with num_classes outputs" if has_images else "keep the first dimension, that of the images"
    raise ConfigError(
        f"search_space.model must return logits of shape (images, {classes}), got {given} {where}: {advice}"
    )


def _explain_one_value(spec: TrialSpec, place: str) -> str:
    batch, recipe = spec.recipe.trainer.get("batch_size"), spec.recipe
    return (
        f"search_space.model normalizes over a batch, which takes more than one value of each channel in training, got "
        f"one image in a forward pass ({place}; trainer.batch_size {batch}, proxy.batch_size "
        f"{spec.proxy_task.batch_size:g}, training.micro_batch "
        f"{'null' if recipe.micro_batch is None else recipe.micro_batch}, devices {recipe.devices}): give each device "
        f"two images or more, or use a normalization that does not depend on the batch"
    )


@contextmanager
def _log_to(path: Path) -> Iterator[None]:
    """Write the output of this process and its children to a file during a block, as in a worker."""
    streams = (1, 2)
    saved = [os.dup(stream) for stream in streams]
    try:
        with path.open("ab", buffering=0) as log:
            for stream in streams:
                os.dup2(log.fileno(), stream)
        yield
        sys.stdout.flush()
    finally:
        for stream, before in zip(streams, saved, strict=True):
            os.dup2(before, stream)
            os.close(before)
