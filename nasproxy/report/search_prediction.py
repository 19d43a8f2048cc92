"""Prediction for a search with the accepted proxy task: cost, decision accuracy, and rank of the model it finds."""

from collections.abc import Iterator
from dataclasses import dataclass

from nasproxy.cost.account import Cost, Saving, measure_train_saving, measure_wall_saving
from nasproxy.report import wording
from nasproxy.stages.headline import find_headline
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check
from nasproxy.statistics.rank_correlation import tau_in_better_half
from nasproxy.statistics.search_outcome import expect_random_rank, predict_outcome

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
        tau_better_half: Tau among the better half of the reference models; None where undefined.
    """

    trials: int
    costs: tuple[SearchCost, ...]
    tau: float | None
    lower_limit: float | None
    is_selected: bool = False
    tau_better_half: float | None = None

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
        yield from self._write_expected_rank(self.tau)

    def _write_expected_rank(self, tau: float) -> Iterator[str]:
        top = min(TOP, self.trials)
        ranks = [predict_outcome(value, self.trials, top=top).best_rank for value in self._list_taus(tau)]
        ends = [_format_rank(rank, self.trials) for rank in ranks]
        at_limit = f", {ends[1]} at the lower confidence bound of tau" if len(ends) > 1 else ""
        random_search = ""
        if self.costs and self.costs[0].full_models >= 1:
            models = min(float(self.trials), self.costs[0].full_models)
            rank = expect_random_rank(self.trials, models)
            random_search = (
                f" Random search with the same training time trains {wording.format_count(round(models), 'model')} "
                f"fully; the expected rank of the best is {_format_rank(rank, self.trials)}."
            )
        yield (
            f"Expected best model: if {self.trials:,} random models are ranked by the proxy task and the top {top} are "
            f"trained fully, the expected full-training rank of the best of these is {ends[0]}{at_limit}. Full "
            f"training of all models finds rank 1, at the cost above.{random_search} These ranks assume normally "
            f"distributed scores; they are too optimistic where good models lie closer together"
            f"{self._note_on_better_half}."
        )

    @property
    def _source(self) -> str:
        return " of the proxy search, which is optimistic" if self.is_selected else " of the confirmation runs"

    @property
    def _note_on_better_half(self) -> str:
        if self.tau_better_half is None:
            return ""
        return f" (tau among the top half of the reference models: {wording.format_tau(self.tau_better_half)})"

    def _list_taus(self, tau: float) -> list[float]:
        return [tau] if self.lower_limit is None else [tau, self.lower_limit]


def predict_search(results: StudyResults) -> SearchPrediction | None:
    """Predict a search with the chosen proxy task; None if none is chosen."""
    best = results.best
    check = None if best is None else find_decisive_check(best)
    if best is None or check is None:
        return None
    shown = find_headline(best, results.confirmation_of(best))
    half = results.scores_at(best, check.step).measure(tau_in_better_half)
    return SearchPrediction(
        trials=results.search_trials,
        costs=tuple(_list_costs(results, best)),
        tau=None if shown.correlation is None else shown.correlation.tau,
        lower_limit=shown.bound,
        is_selected=shown.is_selected,
        tau_better_half=None if half is None else half.tau,
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


def _format_rank(rank: float, trials: int) -> str:
    share = 100 * rank / trials
    return f"{wording.format_about(rank)} of {trials:,} (top {share:.{2 if share >= 1 else 1}g} %)"
