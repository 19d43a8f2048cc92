"""Run a job in this process, as the `nasproxy` command does, and return its result."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nasproxy import torchvision_gap as torchvision_gap  # before anything imports torchvision
from nasproxy.api.study import LoadedStudy, read_study
from nasproxy.config.compose import compose_config
from nasproxy.cost.estimate import Estimate
from nasproxy.jobs.job import run_job
from nasproxy.report.study_verdict import StudyVerdict


@dataclass(frozen=True)
class Result:
    """Result of a job.

    Attributes:
        study: The study as the job left it; None for a job without a study, such as `dry_run=true` or
            `job=describe_space`.
        report: The page that the job wrote; None if it wrote none.
        estimate: Estimated cost of the study, for `dry_run=true`; else None.
    """

    study: LoadedStudy | None = None
    report: Path | None = None
    estimate: Estimate | None = None

    @property
    def verdict(self) -> StudyVerdict | None:
        """The study's verdict, as in its report; None without a study."""
        return None if self.study is None else self.study.verdict

    @property
    def overrides(self) -> list[str]:
        """Overrides that give a search the accepted proxy task; empty without one."""
        return [] if self.verdict is None else self.verdict.overrides


def run(overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Result:
    """Run a job: `run(["proxy=data50", "study=mine"])` does what `nasproxy proxy=data50 study=mine` does.

    The same call again resumes the study. The working directory and the parent of `config_dir` come first on
    `sys.path`, so that modules there can be named as targets. Workers are separate processes that do not import the
    calling program: it needs no `__main__` guard, and its targets must be in modules. Ctrl-C, or a notebook's
    interrupt, stops the trials at their next check and raises KeyboardInterrupt.

    Args:
        overrides: The command's arguments, one string each, in Hydra's grammar; only the command runs a sweep (`-m`).
        config_dir: A folder with your own configuration files, as the command's `--config-dir`.

    Raises:
        NasproxyError: The overrides are invalid, or a stage stopped; the message says what to do. Finished trials
            are kept.
    """
    done = run_job(compose_config(overrides, config_dir))
    study = None if done.study is None else read_study(done.study)
    return Result(study, done.report, done.estimate)
