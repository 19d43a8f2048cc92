"""A study that was read from its folder, as pandas frames."""

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from nasproxy.api import frames
from nasproxy.errors import ConfigError
from nasproxy.report.study_verdict import StudyVerdict
from nasproxy.report.verdict import judge_study
from nasproxy.stages.proxy_search.rules import read_time_tolerance
from nasproxy.stages.proxy_search.state import read_rules
from nasproxy.stages.study_results import StudyResults, read_results
from nasproxy.stages.worth.state import LadderState
from nasproxy.storage.study import StudyFolder, list_studies, open_study_store
from nasproxy.storage.study_stores import FolderStudyStore

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class LoadedStudy:
    """Snapshot of a study; load it again to see later changes.

    Scores are values of the study's metric as they were reported; `results.objective` has its direction. Training
    seconds exclude validation, and count every device of a trial.
    Unknown values are missing in a frame (`isna()`), and a part of the study that has not begun gives a frame without
    rows.

    Attributes:
        path: The study's folder.
        results: Results that the frames are made from.
    """

    path: Path
    results: StudyResults = field(repr=False)

    @cached_property
    def trials(self) -> "DataFrame":
        """A row for each trial, failed ones too: by stage, then by score.

        Columns: `key`, `stage`, `proxy_task`, `architecture` (a dict) and `architecture.CHOICE` for each choice,
        `split`, `seed`, `micro_batch`, `state`, `step` of `total_steps`, `score` (of the last check), `train_seconds`,
        `wall_seconds` (start-up, validation and lost work included), `cause` and `message` of a failure, and the retry
        that replaced it, `replaced_by`, with its `change`.
        """
        return frames.make_trials(self.results)

    @cached_property
    def checks(self) -> "DataFrame":
        """A row for each validation of each trial, in the order of `trials` and of steps.

        Columns: `key`, `step`, `score` (the study's metric, as reported), `train_seconds` (cumulative), and
        `metric.NAME` for each reported metric.
        """
        return frames.make_checks(self.results)

    @cached_property
    def proxy_tasks(self) -> "DataFrame":
        """A row for each proxy task, the accepted ones first, each group from cheap to expensive.

        Columns: `proxy_task`; the setting (`data_fraction`, `width`, ..., `overrides`); `is_chosen`, `is_accepted`,
        `outcome`; `stopping_state` and `final_step`, missing while it is judged; then of its last check `step` (of
        `total_steps`), `tau` with `tau_low` and `tau_high` (95 %), `p_value`, `models`, `needed` (acceptance
        threshold), `spearman`, `weighted_tau`, `tau_better_half`, `top_regret`, `median_score`; and the costs of a
        model up to there: `train_seconds`, `wall_seconds`, and how many times cheaper than full training that is,
        `train_ratio`, `wall_ratio`; and of accepted ones `tau_confirmed` (of confirmation runs), `bound` (one-sided
        95 %, of the true tau, holds after selection) and `grade` (strong, moderate, weak).
        """
        return frames.make_proxy_tasks(self.results)

    @cached_property
    def decisions(self) -> "DataFrame":
        """A row for each decision: of the variance measurement, the selection, each look, each confirmation.

        Looks are sorted by training time, or by task where tasks were judged one after the other. Columns:
        `stage`, `proxy_task`, `step`, `models`, `tau` with `tau_low` and `tau_high` (95 %), `needed` (acceptance
        threshold), `lower_limit` (one-sided 95 %, of the true tau, at this look alone), `bound` (the same after
        selection, where a task was accepted or confirmed), `median_score`, `train_seconds`, `decision`.
        """
        return frames.make_decisions(self.results)

    @cached_property
    def strategies(self) -> "DataFrame":
        """A row for each strategy for the search, with the planned candidates and at equal cost.

        Columns: `compared_at`, `strategy`, `candidates`, `trained_fully` (where it is a fixed number), `cost` (total,
        in full trainings), `better` with `better_low` and `better_high` (share of all models that are better than the
        best found, 95 %), `score` with `score_low` and `score_high` (missing above the best reference model),
        `is_recommended`.
        """
        return frames.make_strategies(self.results)

    @property
    def ladder(self) -> LadderState | None:
        """The certified ladder, as in `ladder.json`; None before it is designed."""
        return self.results.ladder

    @cached_property
    def verdict(self) -> StudyVerdict:
        """Verdict: which proxy task to use, and how far to trust it; `verdict.text` has all of it in words."""
        return judge_study(self.results)

    def __repr__(self) -> str:
        trials, tasks = len(self.results.trials), len(self.results.tasks)
        return f"<study {self.results.name}: {trials} trials, {tasks} proxy tasks. {self.verdict.headline}>"


def load_study(path: str | Path) -> LoadedStudy:
    """Read a study from its folder, changing nothing; it may still be running.

    Args:
        path: The study's folder, such as `studies/digits`.

    Raises:
        NasproxyError: The folder is not that of a study, or a file of it cannot be read.

    Warns:
        UserWarning: The study was replayed from a table, so that its folder holds decisions but no trials.
    """
    folder = StudyFolder(Path(path).expanduser().absolute())
    if not folder.record.exists():
        raise ConfigError(f"load_study needs the folder of a study, got {path}: {_tell_what_is_there(folder.path)}")
    study = read_study(open_study_store(folder.path))
    if folder.replayed.exists():
        warnings.warn(
            f"study {study.results.name} was replayed from a table, and its folder holds no trials: "
            f'nasproxy.run(["experiment=replay", "backend.table=FILE", "job=report", "study=NAME"]).study has them',
            stacklevel=2,
        )
    return study


def read_study(study: FolderStudyStore) -> LoadedStudy:
    """Read a study, with the rules that its proxy tasks were judged by.

    Args:
        study: The study.

    Raises:
        CorruptFileError: A file of the study cannot be read.
    """
    tolerance = read_time_tolerance(read_rules(study).judged_by)
    return LoadedStudy(study.path, read_results(study, time_tolerance=tolerance))


def _tell_what_is_there(path: Path) -> str:
    place = path if list_studies(path) else path.parent
    names = list_studies(place)
    is_there = "it has no study.json" if path.is_dir() else "there is no such folder"
    return f"{is_there}; {place} holds " + (f"the studies {', '.join(names)}: name one" if names else "no study")
