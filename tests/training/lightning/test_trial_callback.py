"""The callback in a typical Lightning training: automatic optimization, a scheduler, averaged weights."""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging
from torch import Tensor, nn

from helpers.cli import ROOT
from helpers.trial_contexts import make_trial
from nasproxy.errors import ConfigError, CorruptFileError, NonFiniteScoreError
from nasproxy.storage.json_records import write_record
from nasproxy.storage.trial_files import read_checks
from nasproxy.storage.trial_folder import TrialFolder
from nasproxy.training.lightning import TrialCallback, resume_path
from nasproxy.trials.clock import VirtualClock
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import Request

STEPS = 25


class Line(pl.LightningModule):
    """Linear regression with automatic optimization."""

    def __init__(self, poison_step: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)
        self.poison_step = poison_step
        self.trained: list[int] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.trained.append(self.global_step)
        loss = nn.functional.mse_loss(self.layer(batch[0])[:, 0], batch[1])
        return loss * torch.nan if self.global_step == self.poison_step else loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        error = nn.functional.mse_loss(self.layer(batch[0])[:, 0], batch[1])
        self.log("accuracy", torch.nan_to_num(-error, nan=-9.0))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), 0.05)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Batches:
    """Batches of the remaining steps; an epoch has 10."""

    def __init__(self, module: Line, epoch: int = 10) -> None:
        self.module = module
        self.epoch = epoch

    def __len__(self) -> int:
        return self.epoch

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first = self.module.trainer.global_step
        for step in range(first, first - first % self.epoch + self.epoch):
            inputs = torch.randn(8, 2, generator=torch.Generator().manual_seed(step))
            yield inputs, inputs @ torch.tensor([1.0, -2.0])

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def fit(
    folder: Path,
    *callbacks: pl.Callback,
    until: int | None = None,
    module: Line | None = None,
    callback: dict[str, Any] | None = None,
    **trainer: Any,
) -> Line:
    """Train until a step, or to the end, with checks every 4 steps."""
    write_record(TrialFolder(folder).request, Request(until_step=until))
    module = module or Line()
    arguments = dict(callback or {})
    trial = make_trial(folder, arguments.pop("total_steps", STEPS), arguments.pop("objective", None))
    settings: dict[str, Any] = {"max_steps": STEPS, "val_check_interval": 4, "num_sanity_val_steps": 1, **trainer}
    pl.Trainer(
        accelerator="cpu",
        devices=1,
        check_val_every_n_epoch=None,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, TrialCallback(trial, **arguments)],
        **settings,
    ).fit(module, Batches(module), Batches(module, 2), ckpt_path=resume_path(trial), weights_only=True)
    return module


def curve(folder: Path) -> list[tuple[int, float]]:
    return [(check.step, check.score) for check in read_checks(TrialFolder(folder).metrics)]


@pytest.mark.parametrize("averaging", [None, partial(EMAWeightAveraging, decay=0.9, update_starting_at_step=3)])
def test_a_training_paused_inside_an_epoch_has_the_checks_of_an_uninterrupted_one(
    tmp_path: Path, averaging: Any
) -> None:
    def callbacks() -> list[pl.Callback]:
        return [averaging()] if averaging else []

    whole = fit(tmp_path / "whole", *callbacks())
    trained = []
    for until in (1, 8, 11, 16, None):
        last = fit(tmp_path / "parts", *callbacks(), until=until)
        trained += last.trained
    assert [step for step, _ in curve(tmp_path / "whole")] == [4, 8, 12, 16, 20, 24, 25]
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert torch.equal(last.layer.weight, whole.layer.weight)
    assert trained == list(range(STEPS)), "each step is trained once"


def test_a_stop_is_honoured_at_the_next_check(tmp_path: Path) -> None:
    module = fit(tmp_path, until=5)
    assert [step for step, _ in curve(tmp_path)] == [4, 8]
    assert module.trained == list(range(8))


def test_a_trial_stopped_before_it_starts_trains_nothing(tmp_path: Path) -> None:
    fit(tmp_path, until=8)
    assert fit(tmp_path, until=8).trained == []
    assert [step for step, _ in curve(tmp_path)] == [4, 8]


def test_a_training_killed_between_check_and_checkpoint_repeats_the_check_without_effect(tmp_path: Path) -> None:
    fit(tmp_path / "whole")
    fit(tmp_path / "killed", until=8)
    checkpoint = resume_path(make_trial(tmp_path / "killed", STEPS))
    assert checkpoint is not None
    old = checkpoint.read_bytes()
    fit(tmp_path / "killed", until=16)
    checks = TrialFolder(tmp_path / "killed").metrics.read_bytes()
    checkpoint.write_bytes(old)
    module = fit(tmp_path / "killed", until=16)
    assert module.trained == list(range(8, 16))
    assert TrialFolder(tmp_path / "killed").metrics.read_bytes() == checks
    fit(tmp_path / "killed")
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")


def test_checkpoints_are_saved_after_checks_when_due_and_replaced(tmp_path: Path) -> None:
    clock = VirtualClock()

    class Slow(Line):
        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            clock.sleep(1.0)
            return super().training_step(batch, batch_idx)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            saved.append((checkpoint["global_step"], curve(tmp_path)[-1][0]))
            clock.sleep(0.1)

    saved: list[tuple[int, int]] = []
    fit(tmp_path, module=Slow(), callback={"clock": clock, "checkpoint_every_seconds": 7.0})
    assert saved == [(8, 8), (16, 16), (24, 24), (25, 25)]
    assert [path.name for path in TrialFolder(tmp_path).checkpoints.iterdir()] == ["last.ckpt"]
    assert read_checks(TrialFolder(tmp_path).metrics)[-1].train_seconds == STEPS, "training time excludes saving"


@pytest.mark.parametrize(("dies_at", "where", "last_saved"), [(9, "train", 8), (11, "train", 10), (12, "check", 10)])
def test_a_killed_training_resumes_between_checks_with_its_training_time(
    tmp_path: Path, dies_at: int, where: str, last_saved: int
) -> None:
    class KilledError(Exception):
        """Simulates a kill by a signal."""

    class Slow(Line):
        def __init__(self, *, dies: bool = False) -> None:
            super().__init__()
            self.dies = dies

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            self._die("train")
            clock.sleep(1.0)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            self._die("check")
            super().validation_step(batch, batch_idx)

        def _die(self, place: str) -> None:
            if self.dies and (self.global_step, place) == (dies_at, where):
                raise KilledError

    clock = VirtualClock()
    saving = {"clock": clock, "checkpoint_every_seconds": 2.0, "check_steps": (*range(4, STEPS, 4), STEPS)}
    fit(tmp_path / "whole", module=Slow(), callback=saving)
    with pytest.raises(KilledError):
        fit(tmp_path / "killed", module=Slow(dies=True), callback=saving)
    resumed = fit(tmp_path / "killed", module=Slow(), callback=saving)
    assert resumed.trained == list(range(last_saved, STEPS)), "only steps after the checkpoint are trained again"
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")
    assert read_checks(TrialFolder(tmp_path / "killed").metrics)[-1].train_seconds == STEPS


def test_checkpoints_between_checks_are_saved_after_optimizer_steps_only(tmp_path: Path) -> None:
    class Watched(Line):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            saved.append((checkpoint["global_step"], len(self.trained)))

    saved: list[tuple[int, int]] = []
    arguments = {"clock": VirtualClock(), "checkpoint_every_seconds": 0.0, "check_steps": (STEPS,), "total_steps": 3}
    fit(tmp_path, module=Watched(), callback=arguments, accumulate_grad_batches=4, max_steps=3, val_check_interval=1000)
    assert saved[:2] == [(1, 4), (2, 8)]


def test_a_single_non_finite_loss_fails_the_next_check(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteScoreError, match="got nan after step 8"):
        fit(tmp_path, module=Line(poison_step=5))
    assert [step for step, _ in curve(tmp_path)] == [4]


def test_another_callback_that_stops_is_not_overruled(tmp_path: Path) -> None:
    fit(tmp_path, EarlyStopping("accuracy", mode="max", patience=99, stopping_threshold=-99.0))
    assert [step for step, _ in curve(tmp_path)] == [4]
    assert resume_path(make_trial(tmp_path, STEPS)) is not None


def test_an_unreadable_request_raises(tmp_path: Path) -> None:
    module = Line()
    write_record(TrialFolder(tmp_path).request, Request())
    TrialFolder(tmp_path).request.write_text("{}")
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
                         max_steps=STEPS, callbacks=[TrialCallback(make_trial(tmp_path, STEPS))])  # fmt: skip
    with pytest.raises(CorruptFileError, match=r"request.json cannot be read"):
        trainer.fit(module, Batches(module), Batches(module, 2))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"half"])
def test_an_unreadable_checkpoint_raises_and_stays(tmp_path: Path, content: bytes) -> None:
    fit(tmp_path, until=4)
    path = resume_path(make_trial(tmp_path, STEPS))
    assert path is not None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == b"half" else content)
    before = path.read_bytes()
    with pytest.raises(CorruptFileError, match=r"last.ckpt must be a checkpoint .* remove the file to train"):
        resume_path(make_trial(tmp_path, STEPS))
    assert path.read_bytes() == before


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    fit(tmp_path, until=4)
    path = resume_path(make_trial(tmp_path, STEPS))
    assert path is not None
    torch.save({"callback": Path("anything but a tensor"), "code": partial(print, "run")}, path)
    with pytest.raises(CorruptFileError, match="can load with weights_only=True"):
        resume_path(make_trial(tmp_path, STEPS))


def test_a_new_trial_has_no_checkpoint_to_resume_from(tmp_path: Path) -> None:
    assert resume_path(make_trial(tmp_path, STEPS)) is None


@pytest.mark.parametrize("least", ["min_steps", "min_epochs"])
def test_a_trainer_that_cannot_be_stopped_is_refused(tmp_path: Path, least: str) -> None:
    with pytest.raises(ConfigError, match=rf"stop the Trainer at any check, got Trainer\({least}="):
        fit(tmp_path, **{least: 2})


def test_a_training_that_ends_without_a_check_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="last step must be validated, got no validation after step 25"):
        fit(tmp_path, limit_val_batches=0)
    with pytest.raises(ConfigError, match="last step must be validated, got no validation after step 10 of 25"):
        fit(tmp_path / "short", max_steps=10)


def test_a_metric_under_another_name_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the metric 'f1' after each validation, got accuracy"):
        fit(tmp_path, callback={"monitor": "f1"})
    with pytest.raises(ConfigError, match="needs the metric 'f1' after each validation, got accuracy"):
        fit(tmp_path, callback={"objective": Objective("f1")})
    fit(tmp_path, callback={"objective": Objective("f1"), "monitor": "accuracy"})
    checks = read_checks(TrialFolder(tmp_path).metrics, "f1")
    assert [check.metrics["accuracy"] for check in checks] == [check.score for check in checks]


def test_a_mode_that_the_study_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"needs the mode of the study's metric, 'max', got 'min': correct the callback's mode"
    ):
        TrialCallback(make_trial(tmp_path, STEPS), monitor="val_loss", mode="min")
    TrialCallback(make_trial(tmp_path, STEPS, Objective("val_loss", "min")), mode="min")


@pytest.mark.gate
def test_the_callback_works_under_the_package_lightning(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import sys
from pathlib import Path

from helpers.trial_contexts import make_trial
from nasproxy.training.lightning import TrialCallback, resume_path
import lightning as L
import torch


class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.mse_loss(self.layer(batch[0])[:, 0], batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("accuracy", -self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.05)


inputs = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, inputs @ torch.tensor([1.0, -2.0])), 8)
trial = make_trial(Path(sys.argv[1]), 24)
trainer = L.Trainer(accelerator="cpu", devices=1, max_steps=24, logger=False, enable_checkpointing=False,
                    enable_progress_bar=False, callbacks=[TrialCallback(trial)])
trainer.fit(Line(), loader, loader, ckpt_path=resume_path(trial), weights_only=True)
"""
    )
    folder = tmp_path / "trial"
    folder.mkdir()
    write_record(TrialFolder(folder).request, Request(until_step=8))
    for until in (8, None):
        write_record(TrialFolder(folder).request, Request(until_step=until))
        done = subprocess.run(
            [sys.executable, script, folder],
            env={**os.environ, "PYTHONPATH": f"tests:{ROOT}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        expected = [8] if until else [8, 16, 24]
        assert [step for step, _ in curve(folder)] == expected


def test_seconds_out_of_range_are_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        TrialCallback(make_trial(tmp_path, 1), checkpoint_every_seconds=-1.0)
