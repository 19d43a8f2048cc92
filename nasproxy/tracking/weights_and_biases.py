"""A study on Weights & Biases: a run for each trial, and one for the controller."""

import hashlib
import json
import netrc
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from nasproxy.errors import ConfigError, MissingExtraError, advise_install
from nasproxy.storage.leases import Lease
from nasproxy.tracking.cells import Rows, list_columns, make_cells
from nasproxy.tracking.sent_records import SentRecords, SentTrial
from nasproxy.tracking.tracker import Progress
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
"""Without these a run costs three times as much, and a dead network holds a study up; releases lack some."""


class WandbTracker:
    """Tells Weights & Biases of a study, in a thread of its own, and lays its files into the study's folder.

    A trial becomes a run when it is done or has failed; one that is paused may go on many times, so it
    waits until the controller ends. A run is opened, told everything and finished in one go. The
    controller's run is open from the first decision to the end; of the jobs of a sweep one at a time
    holds it, and tells the lines of the others too.

    What was told is noted in `tracking/wandb.jsonl` after the run was finished. A kill between the two has
    it told again, under the same run and the same steps.
    """

    def __init__(
        self,
        *,
        study: Path,
        project: str = "nasproxy",
        entity: str | None = None,
        mode: Literal["auto", "online", "offline"] = "auto",
    ) -> None:
        """Begin or continue; nothing is sent yet.

        Args:
            study: The study's folder; its name is the group of all runs.
            project: Project on Weights & Biases.
            entity: User or team; None for the account's own.
            mode: Send at once, or write files for `wandb sync`; `auto` sends where there is an API key and
                WANDB_MODE does not say otherwise.

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
        self._lease = Lease(self._folder / "wandb.lock")
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wandb")
        self._work: deque[Future[None]] = deque()
        self._unfinished: dict[str, tuple[TrialSpec, TrialRecord]] = {}
        self._controller: Any = None
        self._events_logged = 0
        self._result_logged: str | None = None

    def progress(self, progress: Progress, running: Set[str]) -> None:
        """Nothing to tell."""

    def trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        """Tell of a trial that came to its end; keep others for later."""
        self._submit(self._take_trial, spec, record)

    def say(self, message: str) -> None:
        """Add a line to the controller's run."""
        self._journal.add_event(message)
        self._submit(self._tell_events)

    def decided(self, state: object) -> None:
        """Do nothing: decisions are told in words."""

    def result(self, tables: Mapping[str, Rows], pictures: Sequence[Path]) -> None:
        """Add tables and pictures to the controller's run, unless they are those that it has."""
        self._submit(self._tell_result, tables, pictures)

    def close(self) -> None:
        """Tell all that is left, and finish."""
        self._submit(self._finish)
        try:
            while self._work:
                self._work.popleft().result()
        finally:
            self._worker.shutdown()

    def _submit(self, work: Callable[..., None], *arguments: Any) -> None:
        while self._work and self._work[0].done():
            self._work.popleft().result()
        self._work.append(self._worker.submit(work, *arguments))

    # All below runs in the one thread.

    def _take_trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        if record.status.state in FINAL:
            self._unfinished.pop(spec.key, None)
            self._tell_trial(spec, record)
        else:
            self._unfinished[spec.key] = (spec, record)

    def _tell_trial(self, spec: TrialSpec, record: TrialRecord) -> None:
        told, state = self._journal.trial(spec.key), record.status.state
        checks = [check for check in record.checks if check.step > told.step]
        if not checks and (state is told.state or state not in FINAL):
            return
        run = self._open(spec.key, name=name_trial(spec), job_type="trial", config=describe_trial(spec))
        run.define_metric("*", step_metric="step")
        for check in checks:
            run.log({"step": check.step, "score": check.score, "train_seconds": check.train_seconds}, step=check.step)
        cause = record.status.cause
        summary = {"state": state.value, "cause": None if cause is None else cause.value}
        for by in record.retries[:1]:
            summary |= {"replaced_by": by.key, "change": by.change}
        run.summary.update(summary)
        _finish(run, exit_code=int(record.is_failed))
        self._journal.add_trial(spec.key, SentTrial(record.step, state))

    def _tell_events(self) -> None:
        if self._has_controller():
            self._log_lines(len(self._journal.events().lines))

    def _tell_result(self, tables: Mapping[str, Rows], pictures: Sequence[Path]) -> None:
        digest = _digest(tables, pictures)
        if not self._has_controller() or digest == self._result_logged:
            return
        number = self._journal.add_event(None)
        self._log_lines(number)
        content = {f"tables/{name}": self._table(rows) for name, rows in tables.items()}
        content |= {f"pictures/{path.stem}": self._picture(path) for path in pictures}
        with _staged_in(self._folder / "wandb"):
            self._controller.log(content, step=number)
        self._events_logged, self._result_logged = number + 1, digest

    def _log_lines(self, end: int) -> None:
        lines = self._journal.events().lines
        for number in range(self._events_logged, end):
            if lines[number] is not None:
                self._controller.log({"line": number, "decision": lines[number]}, step=number)
        self._events_logged = max(self._events_logged, end)

    def _has_controller(self) -> bool:
        """Open the controller's run, unless it is open or another job of a sweep holds it."""
        if self._controller is None and self._lease.acquire():
            self._controller = self._open("controller", name=self._study, job_type="controller")
            events = self._journal.events()
            self._events_logged, self._result_logged = events.told, events.result
        return self._controller is not None

    def _finish(self) -> None:
        for spec, record in self._unfinished.values():
            self._tell_trial(spec, record)
        events = self._journal.events()
        if events.told < len(events.lines):
            self._tell_events()
        self._finish_controller()

    def _finish_controller(self) -> None:
        if self._controller is not None:
            _finish(self._controller, exit_code=0)
            self._journal.add_told(self._events_logged, self._result_logged)
            self._controller = None
            self._lease.release()

    def _open(self, what: str, **about: Any) -> Any:
        try:
            return self._init(what, **about)
        except self._wandb.Error as error:
            if self._mode == "offline":
                raise
            self._go_offline(str(error).splitlines()[0])
            return self._init(what, **about)

    def _go_offline(self, reason: str) -> None:
        """Go on without a network: it must not end a study."""
        _warn(
            f"Weights & Biases cannot be reached ({reason}): from here on its runs are written to "
            f"{self._folder / 'wandb'}; upload them with `wandb sync` and the folders offline-run-* there"
        )
        self._mode = "offline"
        self._finish_controller()
        # An id that could not be opened stays taken until wandb's own process is renewed.
        self._wandb.teardown()

    def _init(self, what: str, **about: Any) -> Any:
        known = self._wandb.Settings.model_fields
        return self._wandb.init(
            project=self._project,
            entity=self._entity,
            group=self._study,
            id=make_run_id(self._study, what),
            dir=str(self._folder),
            mode=self._mode,
            resume="allow",
            reinit="create_new",
            settings=self._wandb.Settings(**{key: value for key, value in QUIET.items() if key in known}),
            **about,
        )

    def _table(self, rows: Rows) -> Any:
        return self._wandb.Table(columns=list_columns(rows), data=make_cells(rows), allow_mixed_types=True)

    def _picture(self, path: Path) -> Any:
        if path.suffix.lower() in (".svg", ".html"):
            return self._wandb.Html(path.read_text(encoding="utf-8"), inject=False)
        return self._wandb.Image(str(path))


def make_run_id(study: str, what: str) -> str:
    """Id of a run, the same after every restart.

    Args:
        study: The study's name.
        what: A trial's key, or `controller`.
    """
    return hashlib.sha256(f"{study}/{what}".encode()).hexdigest()[:16]


def name_trial(spec: TrialSpec) -> str:
    """What a reader sees of a trial's run: `data50 search seed 1 3f9a2c`."""
    return f"{spec.proxy_task.default_name} {spec.split.value} seed {spec.seed} {spec.key[:6]}"


def describe_trial(spec: TrialSpec) -> dict[str, Any]:
    """All that decides a trial's result, overrides applied."""
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
            "tracking.mode=online needs an API key of Weights & Biases, and there is none: run `wandb login`, set "
            "WANDB_API_KEY, or choose tracking.mode=offline"
        )
    if wanted != "auto":
        return wanted
    return "online" if has_key and os.environ.get("WANDB_MODE", "online") == "online" else "offline"


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
        # Its file is whole on disk, so it counts as told.
        _warn(f"run {run.name!r} was not uploaded in time: upload it with `wandb sync --include-online {run.dir}/..`")


def _digest(tables: Mapping[str, Rows], pictures: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    digest.update(json.dumps({name: [list_columns(rows), make_cells(rows)] for name, rows in tables.items()}).encode())
    for path in pictures:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Have tables wait for their upload in the study's folder, not in the home folder."""
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
