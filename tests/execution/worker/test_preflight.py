"""Preflight of trials, for every proxy task in `conf/proxy`, and classification of failures."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import user_code
from helpers.cli import ROOT, conf, digits_spec
from nasproxy.errors import (
    ConfigError,
    ContractError,
    CorruptFileError,
    DataError,
    MissingExtraError,
    ModelError,
    NasproxyError,
    NonFiniteScoreError,
    SpaceError,
    UntrustedTrialError,
)
from nasproxy.execution.failure_causes import find_cause
from nasproxy.execution.worker.context import TrialContext
from nasproxy.execution.worker.preflight import preflight
from nasproxy.trainers import plain_pytorch
from nasproxy.trainers.program_reports import ProgramError, ProgramExitError
from nasproxy.trials import grid, proxy_task
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause
from nasproxy.trials.spec import TrialSpec

FILES = sorted(path.stem for path in (ROOT / "conf" / "proxy").glob("*.yaml"))


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("custom", "generator", "table")])
def test_every_named_proxy_task_passes_the_preflight(name: str) -> None:
    for task in grid.span_grid(conf(f"proxy/{name}")).values():
        notes = preflight([digits_spec(task)])
        assert len(notes) == (task.augmentation != 1.0), (
            "only augmentation gives a note, because the trainer of the digits has none"
        )


def test_a_proxy_task_reduces_data_and_model() -> None:
    full, small = (
        digits_spec(proxy_task.ProxyTask()),
        digits_spec(proxy_task.ProxyTask(data_fraction=0.5, width=0.5, image_size=0.75)),
    )
    whole, half = (TrialContext(Path(), spec).load_data() for spec in (full, small))
    assert len(half.train_images) == len(whole.train_images) // 2
    assert len(half.valid_images) == len(whole.valid_images), "validation data is never reduced"
    assert half.train_images.shape[2:] == (18, 18)
    assert whole.train_images.shape[2:] == (24, 24)
    sizes = [
        sum(p.numel() for p in TrialContext(Path(), spec).build_model(data).parameters())
        for spec, data in ((full, whole), (small, half))
    ]
    assert sizes[1] < sizes[0]


def test_an_unknown_argument_of_the_trainer_is_refused() -> None:
    with pytest.raises(ConfigError, match="trainer has no 'colour'"):
        preflight([digits_spec(proxy_task.ProxyTask(), trainer={**conf("trainer/plain_pytorch"), "colour": 1})])


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"_target_": "helpers.user_code.versioned"},
            "trainer must take no argument 'version', a key of a trial's iden",
        ),
        ({"_target_": "helpers.user_code.smoothed", "smoothing": None}, "null, which is the same as its default 'ema'"),
    ],
)
def test_arguments_that_the_identity_does_not_tell_apart_are_refused(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        preflight([digits_spec(proxy_task.ProxyTask(), trainer=node)])
    preflight([digits_spec(proxy_task.ProxyTask(), trainer={"_target_": "helpers.user_code.smoothed"})])


@pytest.mark.parametrize(("said", "notes"), [(None, []), ("warm up", ["warm up"]), (["a", "b"], ["a", "b"])])
def test_the_notes_of_a_trainers_check_are_returned(said: object, notes: list[str], monkeypatch: Any) -> None:
    spec = digits_spec(proxy_task.ProxyTask())
    monkeypatch.setattr(plain_pytorch.train, "check", lambda **_: said)
    assert preflight([spec]) == notes


def test_a_trainers_check_that_returns_another_type_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(plain_pytorch.train, "check", lambda **_: True)
    with pytest.raises(ConfigError, match="a trainer's check must return a list of strings or None, got True"):
        preflight([digits_spec(proxy_task.ProxyTask())])


def test_a_changed_dataset_is_refused() -> None:
    with pytest.raises(DataError, match="the dataset's fingerprint must be other, as when the study was created"):
        preflight([digits_spec(proxy_task.ProxyTask(), data_fingerprint="other")])


def test_a_model_with_the_wrong_number_of_outputs_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"must return logits of shape \(images, 10\), got \(images, 3\)"):
        preflight([digits_spec(proxy_task.ProxyTask(), model={"_target_": "helpers.user_code.three_outputs"})])


def chain_errors(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), Cause.OOM),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), Cause.OOM),
        (RuntimeError("CUDA error: out of memory"), Cause.OOM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"), Cause.OOM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9"), Cause.OOM),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), Cause.OOM),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Cause.OOM),
        (RuntimeError("std::bad_alloc"), Cause.OOM),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), Cause.OOM),
        (
            chain_errors(ValueError("the step failed"), chain_errors(RuntimeError("in a rank"), MemoryError())),
            Cause.OOM,
        ),
        (NonFiniteScoreError("got nan"), Cause.NAN),
        (FloatingPointError("overflow"), Cause.NAN),
        (chain_errors(RuntimeError("a callback failed"), NonFiniteScoreError("got nan")), Cause.NAN),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Cause.CRASH),
        (chain_errors(RuntimeError("the loader failed"), KeyError("path")), Cause.CRASH),
        (ProgramExitError("sh ended with exit status 1: warning: not enough memory to cache, KeyError"), Cause.CRASH),
        (SpaceError("kernel must be odd"), Cause.CRASH),
        (chain_errors(ModelError("model cannot be built"), ConfigError("model cannot be built")), Cause.CRASH),
        (chain_errors(ModelError("model cannot be built"), MemoryError()), Cause.OOM),
        (CorruptFileError("last.pt must be a checkpoint"), Cause.CRASH),
        (UntrustedTrialError("config.yaml is not the config"), Cause.CRASH),
        (ConfigError("trainer.batch_size must be at least 1"), Cause.SETUP),
        (DataError("a.png must be a readable image"), Cause.SETUP),
        (chain_errors(DataError("a.png must be a readable image"), OSError("truncated")), Cause.SETUP),
        (chain_errors(RuntimeError("a callback failed"), DataError("a.png must be readable")), Cause.SETUP),
        (ContractError("the trainer must end after step 5"), Cause.SETUP),
        (ProgramError("the program must end after step 5"), Cause.SETUP),
        (MissingExtraError("wandb is not installed"), Cause.SETUP),
        (chain_errors(DataError("a.png: Cannot allocate"), OSError(errno.ENOMEM, "Cannot allocate memory")), Cause.OOM),
    ],
)
def test_the_cause_of_a_failure_is_found_from_its_error(error: Exception, cause: Cause) -> None:
    assert find_cause(error) is cause


def test_the_out_of_memory_message_of_the_cpu_is_recognised() -> None:
    with pytest.raises(RuntimeError, match="allocate") as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert find_cause(caught.value) is Cause.OOM


def test_a_preflight_of_many_kinds_loads_a_dataset_once() -> None:
    data = {**conf("data/digits"), "loader": {"_target_": "helpers.user_code.counted"}}
    before = user_code.COUNT[0]
    fingerprint = user_code.counted().fingerprint
    tasks = (ProxyTask(), ProxyTask(width=0.5), ProxyTask(data_fraction=0.5))
    preflight([digits_spec(task, data=data, data_fingerprint=fingerprint) for task in tasks])
    assert user_code.COUNT[0] - before == 2, "one load in this test, and one for all three trials"


def make_answering_spec(answer: str = "logits", task: ProxyTask | None = None, **recipe: Any) -> TrialSpec:
    """Make a trial of a model with this answer, on few images."""
    data = {**conf("data/digits"), "loader": {"_target_": "helpers.user_code.counted"}}
    settings = {"model": {"_target_": "helpers.user_code.answering"}, "data": data, **recipe}
    fingerprint = user_code.counted().fingerprint
    spec = digits_spec(task or ProxyTask(), data_fingerprint=fingerprint, **settings)
    return replace(spec, architecture={"answer": answer})


LOGITS = r"must return a tensor of logits of shape \(images, 10\), got"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("pair", rf"{LOGITS} a tuple of Tensor, Tensor in training mode \(full training\): return its logits alone"),
        ("pair in training", rf"{LOGITS} a tuple of Tensor, Tensor in training mode"),
        ("mapping", rf"{LOGITS} a dict of logits, aux in training mode \(full training\): return its logits alone"),
        ("nothing", rf"{LOGITS} None in training mode \(full training\): return the logits at the end of forward"),
        ("squeezed", r"got \(10,\) of 1 images in evaluation mode .*: keep the first dimension, that of the images"),
        (
            "narrow in training",
            r"\(images, 10\), got \(images, 3\) in training mode .*: build its head with num_classes",
        ),
        ("detached", r"must have weights to train, got logits that depend on none \(full training\)"),
        ("exit", "search_space.model must not end the program"),
        ("error", r"failed in training mode \(full training\): RuntimeError: mat1 and mat2.*user_code.py, line \d+\)"),
        ("error in evaluation", r"must take 1 images of shape \(1, 12, 12\), and failed in evaluation mode"),
        (
            "unbuilt",
            r"cannot be built from helpers.user_code.answering: ValueError: no such layer .*user_code.py, line",
        ),
    ],
)
def test_a_model_that_cannot_be_trained_is_refused_with_what_to_change(answer: str, message: str) -> None:
    with pytest.raises(NasproxyError, match=message) as refused:
        preflight([make_answering_spec(answer)])
    assert "Traceback" not in str(refused.value)


def make_normalizing_spec(task: ProxyTask | None = None, **recipe: Any) -> TrialSpec:
    trainer = {**conf("trainer/plain_pytorch"), "batch_size": recipe.pop("batch_size", 64)}
    model = {"_target_": "helpers.user_code.normalizing"}
    return make_answering_spec(task=task, model=model, trainer=trainer, **recipe)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        (
            ProxyTask(),
            {"batch_size": 1},
            r"\(full training; trainer.batch_size 1, proxy.batch_size 1, training.micro_batch null, devices 1",
        ),
        (ProxyTask(), {"batch_size": 3, "micro_batch": 1}, "proxy.batch_size 1, training.micro_batch 1, devices 1"),
        (ProxyTask(), {"batch_size": 3, "devices": 2}, "proxy.batch_size 1, training.micro_batch null, devices 2"),
        (
            ProxyTask(batch_size=0.5),
            {"batch_size": 2},
            r"one image in a forward pass \(proxy task batch50; trainer.batch_size 2, proxy.batch_size 0.5",
        ),
        (ProxyTask(overrides={"trainer.batch_size": 1}), {}, "proxy task batch_size-1; trainer.batch_size 1"),
    ],
)
def test_batch_normalization_over_one_image_is_refused(task: ProxyTask, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        preflight([make_normalizing_spec(task, **settings)])
    assert "give each device two images or more" in str(refused.value)


@pytest.mark.parametrize("settings", [{"batch_size": 2}, {"batch_size": 3, "micro_batch": 2}, {}])
def test_batch_normalization_over_two_images_passes(settings: dict[str, Any]) -> None:
    assert preflight([make_normalizing_spec(**settings)]) == []


def test_the_smallest_and_the_largest_model_are_tried_with_each_kind() -> None:
    kinds = [make_answering_spec("logits", task) for task in (ProxyTask(), ProxyTask(image_size=0.5))]
    names = ("logits", "large", "unbuilt", "none of them")
    assert preflight(kinds, architectures=[{"answer": name} for name in names]) == []
    with pytest.raises(ConfigError, match=r"a tuple .*\(full training, the smallest of 2 models, 20 parameters\)"):
        preflight(kinds, architectures=[{"answer": name} for name in ("large", "pair")])
    with pytest.raises(ModelError, match="no such layer"):
        preflight(kinds, architectures=[{"answer": "unbuilt"}])


def test_a_model_that_fails_alone_is_left_to_its_trials() -> None:
    (note,) = preflight([make_answering_spec()], architectures=[{"answer": name} for name in ("large", "error")])
    assert "the smallest of 2 models" in note
    assert note.endswith("; the model's trials will fail")
    with pytest.raises(ModelError, match="mat1 and mat2"):
        preflight([make_answering_spec()], architectures=[{"answer": "error"}])


def test_a_trainer_with_models_of_its_own_is_tried_without_one() -> None:
    assert preflight([make_answering_spec(model={})]) == []
