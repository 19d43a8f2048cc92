"""Log a study to Weights & Biases: one run per trial, and one for the controller."""

import hashlib
import io
import json
import netrc
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from PIL import Image

from nasproxy.errors import ConfigError, MissingExtraError, advise_install
from nasproxy.storage.files import read_bytes
from nasproxy.storage.locks import FileLock
from nasproxy.tracking.cells import TableRows
from nasproxy.tracking.events import (
    AcceptedTask,
    DecisionTaken,
    Event,
    JobEnded,
    Noted,
    ReportWritten,
    StageEnded,
    TrackerFailed,
    TrialEnded,
)
from nasproxy.tracking.sent_records import SentRecords, SentTrial
from nasproxy.trials.records import State, TrialRecord
from nasproxy.trials.spec import TrialSpec, to_canonical_json

FINAL = (State.DONE, State.FAILED)
PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")
QUIET = {
    "console": "off",
    "silent": True,
    "symlink": False,
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "disable_job_creation": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_viewer": True,
    "x_save_requirements": False,
    "init_timeout": 30.0,
    "finish_timeout": 60.0,
    "finish_timeout_raises": True,
}
"""Settings that make a run three times cheaper and bound the wait for a dead network; older releases lack some."""


class WandbTracker:
    """Logs a study to Weights & Biases, with all files in the study's folder.

    A trial becomes a run when it is done or has failed; a paused trial may continue many times within a stage, so it
    is logged when the stage or the job ends. A run is opened, logged and finished in one go. The controller's run is
    open from the first decision to the end; of the jobs of a sweep, one at a time holds it and logs the
    messages of the others too.

    What was sent is recorded in `tracking/wandb.jsonl` after the run has finished. If the process is killed
    between the two, the same data is sent again, to the same run and steps. The file also holds a random id of
    the study, which is part of the ids of its runs: a study that is deleted and begun again under its name has
    new runs.
    """

    def __init__(
        self,
        *,
        study: Path,
        project: str = "nasproxy",
        entity: str | None = None,
        mode: Literal["auto", "online", "offline"] = "auto",
    ) -> None:
        """Create the tracker; nothing is sent yet.

        Args:
            study: The study's folder; its name is the group of all runs.
            project: Project on Weights & Biases.
            entity: User or team; None for the account's default.
            mode: `online` sends at once, `offline` writes files for `wandb sync`; `auto` is online if there is an
                API key and WANDB_MODE does not say otherwise. With WANDB_MODE=disabled, `auto` writes nothing.

        Raises:
            MissingExtraError: wandb is not installed.
            ConfigError: Online without an API key.
        """
        self._wandb = _import_wandb()
        self._mode = _mode(mode, self._wandb.setup().settings)
        self._folder = study.absolute() / "tracking"
        self._study = study.absolute().name
        self._project = project
        self._entity = entity
        self._journal = SentRecords(self._folder / "wandb.jsonl")
        self._lock = FileLock(self._folder / "wandb.lock")
        self._unfinished: dict[str, tuple[TrialSpec, TrialRecord]] = {}
        self._is_stage_over = False
        self._controller: Any = None
        self._events_logged = 0
        self._result_logged: str | None = None

    def receive(self, event: Event) -> None:
        """Log a trial that is done or has failed, keeping others for `send_next`; log messages, tables and figures."""
        if self._mode == "disabled":
            return
        match event:
            case TrialEnded(spec=TrialSpec() as spec, record=TrialRecord() as record):
                self._handle_trial(spec, record)
            case Noted(message) | TrackerFailed(message=message) | DecisionTaken(message=str(message)):
                self._log_messages(message)
            case ReportWritten():
                self._log_result(event.tables, event.pictures)
                self._summarise(event.accepted)
                self._log_messages(event.verdict, f"report: {event.path}")
            case StageEnded() | JobEnded():
                self._is_stage_over = True

    def send_next(self) -> bool:
        """Log one trial that an ended stage has left unfinished; return whether there was one."""
        if not self._is_stage_over or not self._unfinished:
            self._is_stage_over = False
            return False
        self._log_trial(*self._unfinished.pop(next(iter(self._unfinished))))
        return True

    def close(self) -> None:
        """Log everything that is left, and finish."""
        if self._mode == "disabled":
            return
        self._is_stage_over = True
        while self.send_next():
            pass
        events = self._journal.events()
        if events.sent < len(events.lines):
            self._log_events()
        self._finish_controller()

    def _handle_trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        if record.status.state in FINAL:
            self._unfinished.pop(spec.key, None)
            self._log_trial(spec, record)
        else:
            self._unfinished[spec.key] = (spec, record)

    def _log_trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        sent, state = self._journal.trial(spec.key), record.status.state
        checks = [check for check in record.checks if sent.step is None or check.step > sent.step]
        if not checks and (state is sent.state or state not in FINAL):
            return
        run = self._open(spec.key, name=name_trial(spec), job_type="trial", config=make_run_config(spec))
        run.define_metric("*", step_metric="step")
        for check in checks:
            metrics = {spec.recipe.objective.name: check.score, **check.metrics}
            run.log({**metrics, "step": check.step, "train_seconds": check.train_seconds}, step=check.step)
        cause = record.status.cause
        summary = {"state": state.value, "cause": None if cause is None else cause.value}
        for by in record.retries[:1]:
            summary |= {"replaced_by": by.key, "change": by.change}
        run.summary.update(summary)
        _finish(run, exit_code=int(record.is_failed))
        self._journal.add_trial(spec.key, SentTrial(checks[-1].step if checks else sent.step, state))

    def _log_messages(self, *messages: str) -> None:
        for message in messages:
            self._journal.add_event(message)
        self._log_events()

    def _log_events(self) -> None:
        if self._open_controller():
            self._log_lines(len(self._journal.events().lines))

    def _log_result(self, tables: Mapping[str, TableRows], pictures: Sequence[Path]) -> None:
        drawn = _read_pictures(pictures)
        digest = _digest(tables, drawn)
        if not self._open_controller() or digest == self._result_logged:
            return
        number = self._journal.add_event(None)
        self._log_lines(number)
        content = {f"tables/{name}": self._make_table(table) for name, table in tables.items()}
        content |= {f"pictures/{path.stem}": self._make_picture(path, each) for path, each in drawn.items()}
        with _stage_tables_in(self._folder / "wandb"):
            self._controller.log(content, step=number)
        self._events_logged, self._result_logged = number + 1, digest

    def _summarise(self, accepted: AcceptedTask | None) -> None:
        """Set the accepted proxy task in the summary of the controller's run: its tau is not the selected one."""
        if accepted is not None and self._open_controller():
            self._controller.summary.update({**asdict(accepted), "grade": accepted.grade.value})

    def _log_lines(self, end: int) -> None:
        lines = self._journal.events().lines
        for number in range(self._events_logged, end):
            if lines[number] is not None:
                self._controller.log({"line": number, "decision": lines[number]}, step=number)
        self._events_logged = max(self._events_logged, end)

    def _open_controller(self) -> bool:
        """Open the controller's run unless another job of a sweep holds it; return whether it is open here."""
        if self._controller is None and self._lock.acquire():
            self._controller = self._open("controller", name=self._study, job_type="controller")
            events = self._journal.events()
            self._events_logged, self._result_logged = events.sent, events.result
        return self._controller is not None

    def _finish_controller(self) -> None:
        if self._controller is not None:
            _finish(self._controller, exit_code=0)
            self._journal.add_sent(self._events_logged, self._result_logged)
            self._controller = None
            self._lock.release()

    def _open(self, what: str, **about: Any) -> Any:
        try:
            return self._init(what, **about)
        except self._wandb.Error as error:
            if self._mode == "offline":
                raise
            self._go_offline(str(error).splitlines()[0])
            return self._init(what, **about)

    def _go_offline(self, reason: str) -> None:
        """Switch to offline mode: a missing network must not end a study."""
        _warn(
            f"Weights & Biases cannot be reached ({reason}): further runs are written to {self._folder / 'wandb'}; "
            f"upload them with `wandb sync` and the offline-run-* folders there"
        )
        self._mode = "offline"
        self._finish_controller()
        # An id that could not be opened stays reserved until wandb's service process is restarted.
        self._wandb.teardown()

    def _init(self, what: str, **about: Any) -> Any:
        known = self._wandb.Settings.model_fields
        return self._wandb.init(
            project=self._project,
            entity=self._entity,
            group=self._study,
            id=make_run_id(self._journal.study_id(), what),
            dir=str(self._folder),
            mode=self._mode,
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(**{key: value for key, value in QUIET.items() if key in known}),
            **about,
        )

    def _make_table(self, table: TableRows) -> Any:
        return self._wandb.Table(columns=list(table.columns), data=table.cells, allow_mixed_types=True)

    def _make_picture(self, path: Path, content: bytes) -> Any:
        if path.suffix.lower() in (".svg", ".html"):
            return self._wandb.Html(content.decode("utf-8"), inject=False)
        return self._wandb.Image(Image.open(io.BytesIO(content)))


def make_run_id(study_id: str, what: str) -> str:
    """Return the id of a run, which is the same after every restart.

    Args:
        study_id: The random id of the study.
        what: A trial's key, or `controller`.
    """
    return hashlib.sha256(f"{study_id}/{what}".encode()).hexdigest()[:16]


def name_trial(spec: TrialSpec) -> str:
    """Name a trial's run, such as `data50 search seed 1 3f9a2c`."""
    return f"{spec.proxy_task.default_name} {spec.split.value} seed {spec.seed} {spec.key[:6]}"


def make_run_config(spec: TrialSpec) -> dict[str, Any]:
    """Return everything that determines a trial's result, with overrides applied."""
    config: dict[str, Any] = json.loads(
        to_canonical_json(
            {
                "key": spec.key,
                "architecture": spec.architecture,
                "proxy_task": {"name": spec.proxy_task.default_name, **vars(spec.proxy_task)},
                "split": spec.split,
                "seed": spec.seed,
                "recipe": asdict(spec.recipe.under(spec.proxy_task)),
            }
        )
    )
    return config


def _import_wandb() -> Any:
    try:
        import wandb
    except ModuleNotFoundError as error:
        if error.name != "wandb":
            raise
        raise MissingExtraError(
            f"tracking=wandb needs the package wandb, which is not installed: {advise_install('wandb')}; or choose "
            f"tracking=csv"
        ) from error
    return wandb


def _mode(wanted: str, settings: Any) -> str:
    has_key = _has_key(settings)
    if wanted == "online" and not has_key:
        raise ConfigError(
            "tracking.mode=online needs an API key of Weights & Biases, got none: run `wandb login`, set "
            "WANDB_API_KEY, or choose tracking.mode=offline"
        )
    if wanted != "auto":
        return wanted
    demanded = os.environ.get("WANDB_MODE", "online")
    if demanded == "disabled":
        return demanded
    return "online" if has_key and demanded == "online" else "offline"


def _has_key(settings: Any) -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key:
        return True
    host = urlsplit(settings.base_url).netloc
    path = os.environ.get("NETRC") or Path("~/.netrc").expanduser()
    try:
        known = netrc.netrc(str(path)).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return bool(set(known) & set(PUBLIC_HOSTS if host in PUBLIC_HOSTS else (host,)))


def _finish(run: Any, *, exit_code: int) -> None:
    try:
        run.finish(exit_code=exit_code)
    except TimeoutError:
        # Its file is complete on disk, so the run counts as sent.
        _warn(f"run {run.name!r} was not uploaded in time: upload it with `wandb sync --include-online {run.dir}/..`")


def _read_pictures(paths: Sequence[Path]) -> dict[Path, bytes]:
    """Read pictures; one that a later report has removed meanwhile is left out, and that report's event follows."""
    contents = {path: read_bytes(path) for path in paths}
    return {path: content for path, content in contents.items() if content is not None}


def _digest(tables: Mapping[str, TableRows], pictures: Mapping[Path, bytes]) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps({name: [table.columns, table.cells] for name, table in tables.items()}).encode())
    for path, content in pictures.items():
        digest.update(path.name.encode() + content)
    return digest.hexdigest()


@contextmanager
def _stage_tables_in(folder: Path) -> Iterator[None]:
    """Stage tables for upload in the study's folder instead of the home folder."""
    before = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]
        if before is not None:
            os.environ["WANDB_DATA_DIR"] = before


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=2)
