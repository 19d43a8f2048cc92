"""A job of a sweep: it judges its own proxy tasks; one merge for each study then decides on all of them.

Jobs and their parent exchange records in a folder of the sweep, which only has to be on a file system that all share.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nasproxy.config.builder import StudyBuilder
from nasproxy.errors import ConfigError
from nasproxy.stages.proxy_search.definition import PROXY_SEARCH
from nasproxy.stages.proxy_search.rules import list_by_path
from nasproxy.stages.proxy_search.state import read_tasks
from nasproxy.storage.json_records import read_record, write_record
from nasproxy.storage.study import list_differences
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.overrides import flatten
from nasproxy.trials.proxy_task import ProxyTask


@dataclass(frozen=True)
class JobRecord:
    """A job of a sweep, as its parent and the other jobs read it.

    Attributes:
        number: Number of the job in the sweep.
        overrides: Its overrides of the configuration.
        study: Folder of its study; None before its configuration is valid.
        tasks: Proxy tasks that it judges, by name; empty if it judges none, and needs no merge.
        rules: Settings by which it decides, by dotted path.
        has_ended: Whether it has ended.
        error: Why it failed; None if it did not.
    """

    number: int
    overrides: tuple[str, ...]
    study: Path | None = None
    tasks: Mapping[str, ProxyTask] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    has_ended: bool = False
    error: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether the job ended without an error."""
        return self.has_ended and self.error is None


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep: a job that judges its own proxy tasks, or the merge of a study.

    Attributes:
        folder: Folder of the sweep's records.
        number: Number of the job in the sweep.
        overrides: Its overrides of the configuration.
        is_merge: Whether it decides on the tasks of all jobs that share its study.
    """

    folder: Path
    number: int
    overrides: tuple[str, ...]
    is_merge: bool = False

    def start(self) -> None:
        """Record that this job runs."""
        self._write(JobRecord(self.number, self.overrides))

    def begin(self, design: StudyBuilder) -> None:
        """Record the study, the proxy tasks and the rules of this job; a merge takes the tasks of all jobs.

        Args:
            design: The configured study.

        Raises:
            ConfigError: Jobs that share the study decide by other rules.
        """
        config = design.config
        study = Path(config.studies_dir).absolute() / config.study
        if self.is_merge:
            self._write(replace(self._record, study=study))
            design.tasks = collect_tasks(read_jobs(self.folder), FolderStudyStore(study))
            return
        tasks = design.tasks if PROXY_SEARCH.name in config.job.stages else {}
        self._write(replace(self._record, study=study, tasks=tasks, rules=_list_rules(design) if tasks else {}))
        jobs = [job for job in read_jobs(self.folder) if job.study == study]
        check_rules(jobs)
        collect_tasks([replace(job, has_ended=True, error=None) for job in jobs], FolderStudyStore(study))

    def end(self, error: str | None = None) -> None:
        """Record the end of this job, and its error if it failed."""
        self._write(replace(self._record, has_ended=True, error=error))

    def choose_stages(self, stages: list[str]) -> list[str]:
        """Choose the stages that this job runs: those after the proxy search need the decision of the merge."""
        if self.is_merge or PROXY_SEARCH.name not in stages:
            return stages
        return stages[: stages.index(PROXY_SEARCH.name) + 1]

    def is_first_of(self, study: Path) -> bool:
        """Return whether no other job of the sweep has asked this about the study before."""
        digest = hashlib.sha256(str(study).encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            (self.folder / f"{digest}.begun").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    @property
    def _path(self) -> Path:
        return self.folder / ("merges" if self.is_merge else "jobs") / f"{self.number}.json"

    @property
    def _record(self) -> JobRecord:
        return read_record(self._path, JobRecord) or JobRecord(self.number, self.overrides)

    def _write(self, record: JobRecord) -> None:
        write_record(self._path, record)


def read_jobs(folder: Path, *, merges: bool = False) -> list[JobRecord]:
    """Read the records of a sweep's jobs, by number.

    Args:
        folder: Folder of the sweep's records.
        merges: Read those of its merges instead.
    """
    paths = (folder / ("merges" if merges else "jobs")).glob("*.json")
    records = (read_record(path, JobRecord) for path in paths)
    return sorted((record for record in records if record is not None), key=lambda record: record.number)


def check_rules(jobs: Sequence[JobRecord]) -> None:
    """Check that the jobs that judge proxy tasks of one study decide by the same rules.

    Raises:
        ConfigError: They do not.
    """
    judging = [job for job in jobs if job.tasks]
    for job in judging[1:]:
        changed = list_differences(judging[0].rules, job.rules)
        if changed:
            name = job.study.name if job.study is not None else "STUDY"
            raise ConfigError(
                f"jobs of a sweep that share study {name} need the same rules, got {'; '.join(changed)}: name a "
                f"study for each, such as 'study={name}-${{hydra:job.num}}'"
            )


def find_merges(jobs: Iterable[JobRecord]) -> dict[Path, JobRecord]:
    """Find the studies that need a merge, each with one of its jobs, whose configuration the merge takes.

    The choice depends on the overrides only, so that the order of the jobs changes nothing.
    """
    good = sorted(
        (job for job in jobs if job.is_good and job.tasks), key=lambda job: sorted(job.overrides), reverse=True
    )
    by_study = {job.study: job for job in good if job.study is not None}
    return {study: by_study[study] for study in sorted(by_study)}


def find_merged(studies: Iterable[Path], merges: Iterable[JobRecord]) -> dict[Path, bool]:
    """Find which studies their merges have decided on.

    Args:
        studies: Folders of the studies that needed a merge.
        merges: Records of the merges; one that was killed early, or did not start, may have left none.

    Returns:
        Whether the merge succeeded, by the study's folder.
    """
    decided = {record.study for record in merges if record.is_good}
    return {study: study in decided for study in studies}


def collect_tasks(jobs: Iterable[JobRecord], study: FolderStudyStore) -> dict[str, ProxyTask]:
    """Collect the proxy tasks of a study: those of the sweep's good jobs, and those decided on before.

    Returns:
        The tasks by name, the least reduced first: an order that depends on neither jobs nor history.

    Raises:
        ConfigError: Two settings have the same name.
    """
    tasks = {name: state.proxy_task for name, state in read_tasks(study).items()}
    for job in jobs:
        if job.is_good and job.study == study.path:
            for name, task in job.tasks.items():
                if tasks.setdefault(name, task) != task:
                    raise ConfigError(
                        f"proxy task {name!r} must keep its setting during a study, got another setting than before: "
                        f"give the new setting another name"
                    )
    return dict(sorted(tasks.items(), key=lambda item: (_rank_reduction(item[1]), item[0])))


def _rank_reduction(task: ProxyTask) -> tuple[float, ...]:
    return (-task.data_fraction, -task.width, -task.depth, -task.image_size)


def _list_rules(design: StudyBuilder) -> dict[str, Any]:
    """List the settings that decide on proxy tasks of a study, and what follows the decision."""
    config = design.config
    return {
        **list_by_path(design.judged_by, config.proxy_search.policy),
        **flatten({"confirm": asdict(config.confirm)}),
        "proxy_search.rung_growth": config.proxy_search.rung_growth,
        "job.stages": list(config.job.stages),
    }
