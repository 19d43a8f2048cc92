"""Prediction for a search with the accepted proxy task: cost, decision accuracy, and rank of the model it finds."""

from collections.abc import Iterator
from dataclasses import dataclass

from nasproxy.cost.account import Cost, Saving, measure_train_saving, measure_wall_saving
from nasproxy.report import wording
from nasproxy.stages.headline import find_headline
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check

TOP = 10
"""Models trained fully after a search."""


@dataclass(frozen=True)
class SearchCost:
    """Cost of a search, in one measure of time.

    Attributes:
        name: The measure: training time or wall time.
        proxy_seconds: Search with the proxy task, including full training of its best models.
        full_seconds: Search with full training.
        full_models: Full trainings that `proxy_seconds` would pay for.
        break_even: Searched models from which on the study saves time; None if the proxy task saves nothing.
    """

    name: str
    proxy_seconds: float
    full_seconds: float
    full_models: float
    break_even: int | None


@dataclass(frozen=True)
class SearchPrediction:
    """Predicted cost and outcome of a search with the proxy task.

    Attributes:
        trials: Models to search.
        costs: Costs, training time first.
        tau: Tau of the confirmation runs, else of the proxy search; None where undefined.
        is_selected: Whether that tau was selected for being high, so that the prediction is optimistic.
        lower_limit: One-sided 95 % lower confidence bound of the true tau after selection; None where unknown.
    """

    trials: int
    costs: tuple[SearchCost, ...]
    tau: float | None
    lower_limit: float | None
    is_selected: bool = False

    @property
    def sentences(self) -> tuple[str, ...]:
        """The prediction in words, a paragraph each."""
        return tuple(self._write_sentences())

    def _write_sentences(self) -> Iterator[str]:
        if self.tau is None:
            return
        limit = self.lower_limit
        at_limit = (
            ""
            if limit is None
            else f", {_format_accuracy(limit)} at its lower confidence bound of {wording.format_tau(limit)}"
        )
        yield (
            f"Decision accuracy, the share of pairs of random models that the proxy task orders as full training does: "
            f"{_format_accuracy(self.tau)} at tau {wording.format_tau(self.tau)}{self._source}{at_limit}; chance is "
            f"50 %."
        )

    @property
    def _source(self) -> str:
        return " of the proxy search, which is optimistic" if self.is_selected else " of the confirmation runs"


def predict_search(results: StudyResults) -> SearchPrediction | None:
    """Predict a search with the chosen proxy task; None if none is chosen."""
    best = results.best
    check = None if best is None else find_decisive_check(best)
    if best is None or check is None:
        return None
    shown = find_headline(best, results.confirmation_of(best))
    return SearchPrediction(
        trials=results.search_trials,
        costs=tuple(_list_costs(results, best)),
        tau=None if shown.correlation is None else shown.correlation.tau,
        lower_limit=shown.bound,
        is_selected=shown.is_selected,
    )


def _list_costs(results: StudyResults, best: TaskState) -> Iterator[SearchCost]:
    spent = Cost.of(list(results.trials.values()))
    for name, saving, study_seconds in (
        ("training time", measure_train_saving(results, best), spent.train_seconds),
        ("wall time", measure_wall_saving(results, best), spent.wall_seconds),
    ):
        if saving is not None and saving.full_seconds > 0:
            yield _make_cost(results.search_trials, name, saving, study_seconds)


def _make_cost(trials: int, name: str, saving: Saving, study_seconds: float) -> SearchCost:
    proxy = trials * saving.proxy_seconds + min(TOP, trials) * saving.full_seconds
    return SearchCost(
        name=name,
        proxy_seconds=proxy,
        full_seconds=trials * saving.full_seconds,
        full_models=proxy / saving.full_seconds,
        break_even=saving.break_even(study_seconds),
    )


def _format_accuracy(tau: float) -> str:
    return f"{50 * (1 + tau):.0f} %"
