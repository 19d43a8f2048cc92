"""Guarantees of both trainers: equal checks with and without pauses, and in both trainers."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import nn

from nasproxy.data.dataset import ImageSplit
from nasproxy.errors import ConfigError, CorruptFileError, NonFiniteScoreError
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.trainers.weight_averaging import WeightAverage
from nasproxy.training import reporting
from nasproxy.trials.clock import SavingTimer
from nasproxy.trials.proxy_task import ProxyTask
from tests.trainers import tiny_trials
from tests.trainers.tiny_trials import TRAINERS, DivergedTrial, TinyTrial, curve, kept, tiny_trial, train, weights

both = pytest.mark.parametrize("trainer", list(TRAINERS))


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@both
@pytest.mark.parametrize("pauses", [(4,), (24,), (1, 9, 11), (4, 8, 12, 16, 20, 24)])
def test_a_resumed_trial_is_bit_equal_to_an_uninterrupted_one(
    tmp_path: Path, trainer: str, pauses: tuple[int, ...]
) -> None:
    whole, parts = tiny_trial(tmp_path / "whole"), tiny_trial(tmp_path / "parts")
    checks = train(whole, trainer)
    for until in (*pauses, None):
        paused = train(parts, trainer, until)
        assert paused[-1].step == min(step for step in whole.check_steps if step >= (until or 25))
    assert curve(paused) == curve(checks)
    assert same(weights(parts), weights(whole))


def test_a_trial_resumed_in_a_new_process_is_bit_equal_to_an_uninterrupted_one(tmp_path: Path) -> None:
    for trainer in TRAINERS:
        train(tiny_trial(tmp_path / trainer), trainer, until=9)
    subprocess.run([sys.executable, tiny_trials.__file__, str(tmp_path)], check=True, timeout=120)
    for trainer in TRAINERS:
        whole = tiny_trial(tmp_path / f"whole-{trainer}")
        checks = train(whole, trainer)
        assert curve(read_checks(TrialFolder(tmp_path / trainer).metrics)) == curve(checks)
        assert same(weights(tiny_trial(tmp_path / trainer)), weights(whole))


@pytest.mark.parametrize(
    ("settings", "recipe"),
    [
        ({}, {}),
        ({"optimizer": "adamw", "schedule": "constant", "learning_rate": 0.01}, {}),
        ({"clip_norm": 0.1, "shift_px": 0, "momentum": 0.0}, {}),
        ({}, {"precision": "bf16-mixed"}),
        ({}, {"micro_batch": 5}),
        ({"batch_size": 70}, {"total_steps": 9, "check_every_steps": 20}),
    ],
)
def test_lightning_and_the_plain_loop_are_bit_equal(
    tmp_path: Path, settings: dict[str, Any], recipe: dict[str, Any]
) -> None:
    trials = {name: tiny_trial(tmp_path / name, **recipe) for name in TRAINERS}
    curves = [curve(train(trial, name, **settings)) for name, trial in trials.items()]
    assert curves[0] == curves[1]
    assert len(curves[0]) == len(trials["plain"].check_steps)
    assert same(*(weights(trial) for trial in trials.values()))


def test_micro_batches_train_as_the_whole_batch_does(tmp_path: Path) -> None:
    class WithoutNorm(tiny_trials.TinyTrial):
        def build_model(self, data: Any) -> torch.nn.Module:
            torch.manual_seed(self.seed)
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))

    whole, parts = (tiny_trial(tmp_path / str(size), kind=WithoutNorm, micro_batch=size) for size in (None, 5))
    for trial in (whole, parts):
        train(trial, "lightning")
    for left, right in zip(weights(whole), weights(parts), strict=True):
        torch.testing.assert_close(left, right)


@both
def test_a_trial_learns(tmp_path: Path, trainer: str) -> None:
    assert train(tiny_trial(tmp_path, total_steps=100, check_every_steps=50), trainer)[-1].score > 0.6


@both
def test_a_stop_is_honoured_at_the_next_check(tmp_path: Path, trainer: str) -> None:
    assert [check.step for check in train(tiny_trial(tmp_path), trainer, until=5)] == [4, 8]
    assert [check.step for check in train(tiny_trial(tmp_path), trainer, until=8)] == [4, 8]


@both
@pytest.mark.parametrize(("every", "steps"), [(4, [4, 8, 10]), (5, [5, 10]), (10, [10]), (99, [10]), (9, [9, 10])])
def test_the_last_step_is_always_checked_once(tmp_path: Path, trainer: str, every: int, steps: list[int]) -> None:
    checks = train(tiny_trial(tmp_path, total_steps=10, check_every_steps=every), trainer)
    assert [check.step for check in checks] == steps


@both
def test_a_trial_killed_between_check_and_checkpoint_repeats_the_check_without_effect(
    tmp_path: Path, trainer: str
) -> None:
    whole = curve(train(tiny_trial(tmp_path / "whole"), trainer))
    trial = tiny_trial(tmp_path / "killed")
    train(trial, trainer, until=8)
    (checkpoint,) = TrialFolder(trial.model_dir).checkpoints.iterdir()
    old = checkpoint.read_bytes()
    before = train(trial, trainer, until=16)
    checkpoint.write_bytes(old)
    assert train(trial, trainer, until=16) == before
    assert curve(train(trial, trainer)) == whole


@both
@pytest.mark.parametrize("death", [1, 3, 10, 13, 25])
def test_a_trial_killed_between_checks_resumes_between_them_and_is_bit_equal(
    tmp_path: Path, trainer: str, death: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        """Simulates a kill by a signal."""

    trained: list[int] = []
    dies = [False]
    update = WeightAverage.update

    def take_in(self: WeightAverage, step: int) -> None:
        if dies[0] and step == death:
            raise KilledError
        trained.append(step)
        update(self, step)

    monkeypatch.setattr(SavingTimer, "is_due", lambda _: True)
    monkeypatch.setattr(WeightAverage, "update", take_in)
    settings = {"smoothing": "ema", "smoothing_decay": 0.9}
    whole, parts = tiny_trial(tmp_path / "whole"), tiny_trial(tmp_path / "parts")
    checks = train(whole, trainer, **settings)
    dies[0] = True
    with pytest.raises(KilledError):
        train(parts, trainer, **settings)
    dies[0] = False
    trained.clear()
    past, following = (4 * ((death - 1) // 4 + more) for more in (0, 1))
    assert [check.step for check in train(parts, trainer, until=past, **settings)] == list(range(4, past + 1, 4))
    assert not trained, "no further step was requested"
    train(parts, trainer, until=past + 1, **settings)
    assert trained == list(range(death, min(following, 25) + 1)), "a resumed trial trains up to a check"
    resumed = train(parts, trainer, **settings)
    assert trained == list(range(death, 26))
    assert curve(resumed) == curve(checks)
    assert same(weights(parts), weights(whole))
    assert same(kept(parts), kept(whole))


@both
def test_a_model_that_diverges_fails_at_its_first_check(
    tmp_path: Path, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporting.report_alive(tmp_path)
    monkeypatch.setattr(reporting, "HEARTBEAT_SECONDS", math.inf)  # no heartbeat is due before
    with pytest.raises(NonFiniteScoreError, match="got nan after step 4"):
        train(tiny_trial(tmp_path, kind=DivergedTrial), trainer)


@both
def test_a_diverged_model_fails_before_its_check(tmp_path: Path, trainer: str) -> None:
    with pytest.raises(NonFiniteScoreError, match="a training loss must be finite, got nan by step 1"):
        train(tiny_trial(tmp_path, kind=DivergedTrial), trainer)


@both
def test_an_unreadable_request_raises(tmp_path: Path, trainer: str) -> None:
    TrialFolder(tmp_path).request.write_text("{}")
    with pytest.raises(CorruptFileError, match=r"request.json cannot be read"):
        TRAINERS[trainer](tiny_trial(tmp_path), **tiny_trials.SETTINGS)


@both
def test_an_unreadable_checkpoint_raises_and_stays(tmp_path: Path, trainer: str) -> None:
    trial = tiny_trial(tmp_path)
    train(trial, trainer, until=4)
    (checkpoint,) = TrialFolder(tmp_path).checkpoints.iterdir()
    checkpoint.write_bytes(half := checkpoint.read_bytes()[:500])
    with pytest.raises(CorruptFileError, match="remove the file to train the trial from the start"):
        train(trial, trainer)
    assert checkpoint.read_bytes() == half


@both
def test_the_proxy_task_scales_decay_shift_and_dropout(tmp_path: Path, trainer: str) -> None:
    task = ProxyTask(augmentation=0.0, regularisation=0.0)
    scaled = train(tiny_trial(tmp_path / "scaled", task=task), trainer)

    class WithoutDropout(tiny_trials.TinyTrial):
        def build_model(self, data: Any) -> torch.nn.Module:
            model = super().build_model(data)
            model[4].p = 0.0
            return model

    by_hand = train(tiny_trial(tmp_path / "hand", kind=WithoutDropout), trainer, weight_decay=0.0, shift_px=0)
    assert curve(scaled) == curve(by_hand)


@both
def test_a_precision_that_the_device_lacks_is_refused_by_name(tmp_path: Path, trainer: str) -> None:
    with pytest.raises(ConfigError, match="precision=16-mixed needs a GPU, got the CPU"):
        train(tiny_trial(tmp_path, precision="16-mixed"), trainer)


MORE_SETTINGS = [
    {"smoothing": "ema", "smoothing_decay": 0.9, "smoothing_start_fraction": 0.2},
    {"smoothing": "swa", "smoothing_start_fraction": 0.5},
    {"mixup": 0.4, "cutmix": 1.0, "flip": True, "erase": 0.5, "label_smoothing": 0.1},
    {"optimizer": "rmsproptf", "schedule": "step", "decay_every_fraction": 0.1, "learning_rate": 0.01},
    {"channels_last": True},
]


@pytest.mark.parametrize("settings", MORE_SETTINGS, ids=lambda settings: next(iter(settings.values())))
def test_both_trainers_agree_under_every_setting_and_resume_exactly(tmp_path: Path, settings: dict[str, Any]) -> None:
    curves = []
    for trainer in TRAINERS:
        whole, parts = tiny_trial(tmp_path / f"whole-{trainer}"), tiny_trial(tmp_path / f"parts-{trainer}")
        curves.append(curve(train(whole, trainer, **settings)))
        for until in (4, 12, 20, None):
            paused = train(parts, trainer, until, **settings)
        assert curve(paused) == curves[-1]
        assert same(weights(parts), weights(whole))
        assert same(kept(parts), kept(whole))
    assert curves[0] == curves[1]
    assert curves[0] != curve(train(tiny_trial(tmp_path / "other"), "plain")) or "channels_last" in settings


@both
@pytest.mark.parametrize("smoothing", ["none", "ema", "swa"])
def test_the_saved_weights_are_those_of_the_last_check(tmp_path: Path, trainer: str, smoothing: str) -> None:
    trial = tiny_trial(tmp_path)
    train(trial, trainer, 24, smoothing=smoothing, smoothing_decay=0.8)
    assert not TrialFolder(tmp_path).weights.exists()
    checks = train(trial, trainer, smoothing=smoothing, smoothing_decay=0.8)
    data = trial.load_data()
    model = trial.build_model(data)
    model.load_state_dict(torch.load(TrialFolder(tmp_path).weights, weights_only=True))
    with torch.no_grad():
        right = model.eval()(torch.from_numpy(data.valid_images)).argmax(1) == torch.from_numpy(data.valid_labels)
    assert float(right.float().mean()) == pytest.approx(checks[-1].score)
    is_trained = same(list(model.state_dict().values()), weights(trial))
    assert is_trained == (smoothing == "none"), "averaged weights differ"


@both
def test_a_trial_can_be_checked_once_at_its_end_or_at_uneven_steps(tmp_path: Path, trainer: str) -> None:
    every = curve(train(tiny_trial(tmp_path / "every"), trainer))
    assert curve(train(tiny_trial(tmp_path / "once", check_every_steps=None), trainer)) == every[-1:]
    uneven = tiny_trial(tmp_path / "uneven", check_every_steps=None, check_at=(4, 12, 16, 25))
    train(uneven, trainer, until=5)
    assert curve(train(uneven, trainer)) == [check for check in every if check[0] in (4, 12, 16, 25)]


@both
def test_a_compiled_model_trains_and_resumes_exactly_and_keeps_parameter_names(
    tmp_path: Path, trainer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = nn.Module.compile
    # Everything except code generation, which needs a C++ compiler.
    monkeypatch.setattr(nn.Module, "compile", lambda model: real(model, backend="eager"))
    torch._dynamo.utils.counters.clear()

    class Net(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:  # torch skips its own forwards
            for layer in self:
                images = layer(images)
            return images

    class Compiled(tiny_trials.TinyTrial):
        def build_model(self, data: Any) -> nn.Module:
            return Net(*super().build_model(data))

    whole, parts = (tiny_trial(tmp_path / name, kind=Compiled) for name in ("whole", "parts"))
    checks = curve(train(whole, trainer, compile=True))
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    train(parts, trainer, 8, compile=True)
    assert curve(train(parts, trainer, compile=True)) == checks
    names = whole.build_model(whole.load_data()).state_dict().keys()
    assert list(torch.load(TrialFolder(whole.model_dir).weights, weights_only=True)) == list(names)


@pytest.mark.parametrize(("changes", "sizes"), [({}, {32, 28}), ({"micro_batch": 5}, {10}), ({"batch_size": 3}, {6})])
@both
def test_a_validation_batch_has_at_most_twice_the_images_of_a_training_step(
    tmp_path: Path, trainer: str, changes: dict[str, int], sizes: set[int]
) -> None:
    seen: set[int] = set()

    class WatchedTrial(TinyTrial):
        def build_model(self, data: ImageSplit) -> nn.Module:
            model = super().build_model(data)
            model.register_forward_pre_hook(lambda module, given: None if module.training else seen.add(len(given[0])))
            return model

    micro_batch, settings = changes.get("micro_batch"), {k: v for k, v in changes.items() if k != "micro_batch"}
    train(tiny_trial(tmp_path, kind=WatchedTrial, micro_batch=micro_batch), trainer, until=4, **settings)
    assert seen == sizes


@both
def test_a_training_writes_heartbeats_before_its_first_check(tmp_path: Path, trainer: str) -> None:
    def refuse_to_validate(module: nn.Module, _: object) -> None:
        if not module.training:
            raise RuntimeError("no check is reported")

    class UncheckedTrial(TinyTrial):
        def build_model(self, data: ImageSplit) -> nn.Module:
            model = super().build_model(data)
            model.register_forward_pre_hook(refuse_to_validate)
            return model

    with pytest.raises(RuntimeError, match="no check is reported"):
        train(tiny_trial(tmp_path, kind=UncheckedTrial), trainer)
    assert TrialFolder(tmp_path).heartbeat.exists()
