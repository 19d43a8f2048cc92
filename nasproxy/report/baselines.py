"""Zero-cost baselines: how well parameters, FLOPs and synflow rank the models without training."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nasproxy.errors import TooFewTrialsError
from nasproxy.report import wording
from nasproxy.report.tables import RANKS, Column, Row, Table, make_rank_columns, measure_ranks
from nasproxy.report.wording import Remark
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.references.state import Reference
from nasproxy.stages.study_results import ModelScores, StudyResults
from nasproxy.statistics.bootstrap import bootstrap_taus
from nasproxy.statistics.missing import Floats
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau
from nasproxy.storage.zero_cost_scores import ZeroCost

NAMES = {"parameters": "parameters", "flops": "FLOPs", "synflow": "synflow"}
"""Names of the zero-cost scores in the report."""
LEVEL = 0.95


@dataclass(frozen=True)
class BaselineDifference:
    """Difference between the tau of a proxy task and that of a zero-cost score, on the same models.

    Attributes:
        score: Name of the zero-cost score.
        untrained: Its rank correlation.
        tau: Tau of the proxy task minus tau of the score.
        low: Lower end of the difference's 95 % bootstrap interval over models; None if no resample defines it.
        high: Upper end.
    """

    score: str
    untrained: RankCorrelation
    tau: float
    low: float | None
    high: float | None


def make_baselines(results: StudyResults) -> Table:
    """Tabulate how each zero-cost score ranks the reference models of the best proxy task, or all of them."""
    models = _list_models(results)
    rows = [_make_row(results, name, models) for name in NAMES]
    rows = [row for row in rows if row["models"]]
    name = Column("zero-cost score", lambda row: row["baseline"], is_number=False)
    return Table(rows, [name, *make_rank_columns()], ("baseline", *RANKS, "train_seconds"))


def remark_on_baselines(results: StudyResults, best: TaskState, step: int) -> Iterator[Remark]:
    """Remark on a zero-cost score that the accepted proxy task does not beat significantly."""
    differences = list(_compare_with_baselines(results, best, step))
    if not differences:
        return
    least = min(differences, key=lambda difference: difference.tau)
    baseline = least.score if least.score == "synflow" else f"counting {least.score}"
    taus = f"{wording.format_tau(least.untrained.tau + least.tau)} vs {wording.format_tau(least.untrained.tau)}"
    where = f"on the same {wording.format_count(least.untrained.n, 'model')}"
    if least.tau <= 0:
        yield Remark(
            f"Not better than {baseline} ({taus}).",
            f"Tau in the proxy search {where}; the baseline needs no training. Check whether a search needs proxy "
            f"trainings at all.",
        )
    elif least.low is not None and least.low <= 0:
        yield Remark(
            f"Not significantly better than {baseline} ({taus}).",
            f"Tau in the proxy search {where}; the baseline needs no training. Over samples of models from this space, "
            f"the 95 % confidence interval of the difference is {wording.format_interval(least.low, least.high)}.",
        )


def _compare_with_baselines(results: StudyResults, best: TaskState, step: int) -> Iterator[BaselineDifference]:
    """Compare the proxy task with each zero-cost score, on the models that have both."""
    models = [*results.references, *best.added]
    if len(models) != len(best.keys):
        return
    trained = results.scores_at(best, step)
    for name in NAMES:
        untrained = _read_scores(results, name, models)
        has_both = ~(np.isnan(untrained) | np.isnan(trained.ranked) | np.isnan(trained.ranked_reference))
        both = np.array([trained.ranked[has_both], untrained[has_both]])
        reference = trained.ranked_reference[has_both]
        try:
            proxy, score = (kendall_tau(row, reference) for row in both)
            drawn = bootstrap_taus(both, reference)
        except TooFewTrialsError:
            continue
        if proxy is not None and score is not None:
            low, high = _compute_interval(drawn[:, 0] - drawn[:, 1])
            yield BaselineDifference(NAMES[name], score, proxy.tau - score.tau, low, high)


def _compute_interval(differences: Floats) -> tuple[float, float] | tuple[None, None]:
    known = differences[np.isfinite(differences)]
    if not known.size:
        return None, None
    tail = (1 - LEVEL) / 2
    return float(np.quantile(known, tail)), float(np.quantile(known, 1 - tail))


def _list_models(results: StudyResults) -> list[Reference]:
    """Return the reference models, with those added for the best task, or for any task if none is accepted."""
    tasks = [results.best] if results.best is not None else list(results.tasks.values())
    added = {model.key: model for task in tasks for model in task.added}
    return [*results.references, *added.values()]


def _read_scores(results: StudyResults, name: str, models: list[Reference]) -> Floats:
    known = [results.zero_cost.of(model.architecture) for model in models]
    return np.array([_read_score(scores, name) for scores in known])


def _read_score(scores: ZeroCost | None, name: str) -> float:
    value = None if scores is None else getattr(scores, name)
    return math.nan if value is None else float(value)


def _make_row(results: StudyResults, name: str, models: list[Reference]) -> Row:
    reference = results.objective.orient(np.array([model.score for model in models]))
    scores = ModelScores(_read_scores(results, name, models), reference, np.zeros(len(models), dtype=np.bool_))
    found = scores.measure(kendall_tau)
    return {"baseline": NAMES[name], **measure_ranks(scores, found), "train_seconds": 0.0}
