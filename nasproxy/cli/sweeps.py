"""Sweeps (`-m`): run each job to its end, then one merge for each study, and report which jobs failed.

Hydra calls the callback in the parent process. Jobs and merges run wherever the launcher starts them.
"""

import inspect
import os
import re
import shutil
import traceback
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from nasproxy.cli.parent_watch import end_with
from nasproxy.errors import ConfigError, NasproxyError, SweepFailedError, describe_error
from nasproxy.tracking.lost_output import print_error, print_line

if TYPE_CHECKING:
    from nasproxy.jobs.sweep import JobRecord, SweepJob

NODE = "hydra.callbacks.sweep"
"""Where the configuration of each job has what its parent tells it: the arguments of the callback."""

NUMBER = re.compile(r"\$\\?\{hydra\\?:job\.num\\?\}")
"""The number of a job in its overrides, which Hydra's sweeper escapes."""

_folders: list[str] = []
"""Folders of the jobs' records of the sweeps that this process runs."""


class JobError(BaseException):
    """Carries an error out of a job past Hydra, which prints an `Exception` with its traceback."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class SweepCallback(Callback):
    """Gives the jobs of a sweep a folder for their records, and runs the merges after them."""

    def __init__(self, folder: str | None = None, parent: int | None = None, is_merge: bool = False) -> None:
        """Take what the parent process tells a job, which reads it in the configuration.

        Args:
            folder: Folder of the jobs' records; None in the parent.
            parent: Process id of the parent.
            is_merge: Whether the job is a merge.
        """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Choose the folder of the records, name it to each job, and start no more workers than jobs."""
        folder = str(Path(config.hydra.sweep.dir).absolute() / f"s{uuid.uuid4().hex}")
        _folders.append(folder)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.callbacks.sweep.folder = folder
            config.hydra.overrides.hydra += [f"+{NODE}.folder={_quote(folder)}", f"+{NODE}.parent={os.getpid()}"]
            if "n_jobs" in config.hydra.launcher and (jobs := _count_jobs(config)):
                from joblib import effective_n_jobs

                config.hydra.launcher.n_jobs = min(jobs, effective_n_jobs(config.hydra.launcher.n_jobs))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Run the merges, and report the jobs and merges that failed."""
        from nasproxy.jobs.sweep import read_jobs

        folder = Path(config.hydra.callbacks.sweep.folder)
        try:
            jobs = read_jobs(folder)
            merged = _run_merges(config, folder, jobs)
        except Exception as error:  # Hydra would turn it into a warning
            raise JobError(error) from error
        shared = set.intersection(*(set(job.overrides) for job in jobs)) if len(jobs) > 1 else set()
        failed = [
            _describe(job.number, [one for one in job.overrides if one not in shared])
            for job in jobs
            if not job.is_good
        ]
        problems = [f"{len(failed)} of {len(jobs)} jobs failed: {', '.join(failed)}"] if failed else []
        problems += [f"no decision on study {study.name}" for study, is_good in merged.items() if not is_good]
        if problems:
            raise JobError(SweepFailedError("; ".join(problems)))


def remove_records() -> None:
    """Remove the records of the sweeps that this process has run, whether they ended or were interrupted."""
    while _folders:
        shutil.rmtree(_folders.pop(), ignore_errors=True)


def run_sweep_job(run: Callable[["SweepJob"], None], study: str, hydra_config: HydraConf) -> None:
    """Run one job of a sweep; its failure is printed and recorded, and does not end the other jobs.

    Args:
        run: Runs the job.
        study: Name of its study.
        hydra_config: Hydra's own part of its configuration.

    Raises:
        BrokenPipeError: Nobody reads the output of the sweep.
    """
    from nasproxy.jobs.sweep import SweepJob

    told: Mapping[str, Any] = hydra_config.callbacks[NODE.rpartition(".")[2]]
    overrides = tuple(hydra_config.overrides.task)
    job = SweepJob(Path(told["folder"]), int(hydra_config.job.num), overrides, is_merge=told.get("is_merge", False))
    name = f"merge of study {study}" if job.is_merge else _describe(job.number, overrides)
    with end_with(told["parent"]):
        job.start()
        try:
            run(job)
        except BrokenPipeError:
            raise
        except NasproxyError as error:
            job.end(str(error))
            print_error(f"nasproxy: {name}: {error}")
        except Exception as error:  # a bug, which must not end the other jobs
            job.end(describe_error(error))
            print_error(f"{traceback.format_exc()}nasproxy: {name}: {describe_error(error)}")
        else:
            job.end()


def _run_merges(config: DictConfig, folder: Path, jobs: Sequence["JobRecord"]) -> dict[Path, bool]:
    """Run a merge for each study that needs one, with the launcher of the sweep.

    Returns:
        Whether the merge succeeded, by the study's folder.
    """
    from nasproxy.jobs.sweep import check_rules, find_merged, find_merges, read_jobs

    merged: dict[Path, bool] = {}
    due: dict[Path, JobRecord] = {}
    for study, job in find_merges(jobs).items():
        try:
            check_rules([other for other in jobs if other.study == study])
            due[study] = job
        except ConfigError:  # a job has printed it
            merged[study] = False
    if not due:
        return merged
    print_line(f"the jobs have ended; deciding on the proxy tasks of {', '.join(study.name for study in due)}")
    _launch(config, [_list_overrides(study, job) for study, job in due.items()])
    return {**merged, **find_merged(due, read_jobs(folder, merges=True))}


def _list_overrides(study: Path, job: "JobRecord") -> list[str]:
    """List the overrides of the merge of a study: those of one of its jobs, with that job's number, and its study.

    Hydra numbers merges from 0, and a job's overrides or configuration may contain its number.
    """
    own = [NUMBER.sub(str(job.number), override) for override in job.overrides]
    return [*own, f"study={_quote(study.name)}", f"studies_dir={_quote(str(study.parent))}", f"+{NODE}.is_merge=true"]


def _quote(text: str) -> str:
    """Quote a text as the value of an override."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _launch(config: DictConfig, overrides: Sequence[Sequence[str]]) -> None:
    """Start further jobs with the launcher of a sweep that Hydra has run."""
    from nasproxy.cli.hydra_app import run

    context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
    launcher = Plugins.instance().instantiate_launcher(context, inspect.unwrap(run), config)
    for job in launcher.launch(overrides, initial_job_idx=0):
        _ = job.return_value  # raises the error of a job that has recorded none


def _count_jobs(config: DictConfig) -> int | None:
    """Count the jobs that a sweep runs at once; None if another sweeper than Hydra's own decides."""
    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith(f".{BasicSweeper.__name__}"):
        return None
    given = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    overrides = OverridesParser.create().parse_overrides([*given, *config.hydra.overrides.task])
    return max(map(len, BasicSweeper.split_arguments(overrides, sweeper.max_batch_size)))


def _describe(number: int, overrides: Sequence[str]) -> str:
    return f"job {number} ({' '.join(overrides)})"
