"""How the reference scores cover their range, and whether the accepted proxy task's tau rests on a gap or one model."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import numpy as np

from nasproxy.report import wording
from nasproxy.report.tables import Row, Table
from nasproxy.report.wording import Remark
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.study_results import StudyResults, read_target
from nasproxy.statistics.range_sampling import (
    LEAST_SCORES,
    GroupedTau,
    RangeSampling,
    leave_one_out_taus,
    split_at_largest_gap,
    tau_within_groups,
)
from nasproxy.statistics.rank_correlation import kendall_tau
from nasproxy.trials.spec import to_canonical_json

PERCENT = "\N{NO-BREAK SPACE}%"


@dataclass(frozen=True)
class Influence:
    """What tau of a proxy task at its deciding check rests on.

    Attributes:
        tau: Tau of all models.
        within: Tau within the two groups on either side of the largest gap of the reference scores; None if undefined.
        below: Number of models below the gap.
        above: Number of models above the gap.
        lowest: Lowest tau without one model.
        model: Name of this model.
    """

    tau: float
    within: GroupedTau | None
    below: int
    above: int
    lowest: float
    model: str

    @property
    def is_of_one_model(self) -> bool:
        """Whether one side of the gap has a single model."""
        return min(self.below, self.above) == 1


INFLUENCE = ("tau", "tau_within", "lowest_tau", "model_of_lowest_tau")
FIELDS = (*(each.name for each in fields(RangeSampling)), *INFLUENCE)


def make_sampling(results: StudyResults) -> Table:
    """Tabulate the sampling of the range in one row for programs; the page shows it as sentences."""
    sampling, influence = results.sampling, _find_best_influence(results)
    rows: list[Row] = []
    if sampling is not None:
        within = influence and influence.within and influence.within.tau
        rest = (influence.tau, within, influence.lowest, influence.model) if influence else (None,) * len(INFLUENCE)
        rows.append({**asdict(sampling), **dict(zip(INFLUENCE, rest, strict=True))})
    return Table(rows, [], FIELDS)


def write_sampling(results: StudyResults) -> str:
    """Write how the reference scores cover their range, and what tau of the accepted proxy task rests on."""
    sampling = results.sampling
    if sampling is None:
        return ""
    distinct = (
        ""
        if sampling.effective_values is None
        else f" Given the seed noise, they are worth {sampling.effective_values:.1f} distinct scores (at most "
        f"{sampling.n})."
    )
    found = f"Sampling of the range: {_describe_gap(sampling)}{distinct}"
    influence = _find_best_influence(results)
    return found if influence is None else f"{found} {_describe_influence(results, influence)}"


def remark_on_sampling(results: StudyResults, best: TaskState | None) -> Iterator[Remark]:
    """Remark on an unusual gap in the reference scores; with an accepted task, only if its tau rests on it."""
    sampling = results.sampling
    if sampling is None:
        return
    if best is None:
        if not sampling.is_usual:
            yield Remark("Reference scores do not cover their range.", f"{_describe_gap(sampling)} {_advise(sampling)}")
        return
    influence, target = find_influence(results, best), read_target(best)
    if influence is None or target is None or influence.tau < target:
        return
    is_split = not sampling.is_usual and (influence.within is None or influence.within.tau < target)
    if is_split:
        what = "one model" if influence.is_of_one_model else "a split into two groups"
        yield Remark(
            f"Tau rests on {what}.",
            f"{_describe_gap(sampling)} {_describe_within(influence)} The target is {target:g}. {_advise(sampling)}",
        )
    elif influence.lowest < target:
        yield Remark(
            "Tau reaches the target only with one of the models.",
            f"Without {influence.model} it is {wording.format_tau(influence.lowest)} instead of "
            f"{wording.format_tau(influence.tau)}, target {target:g}. More reference models make it depend less on "
            f"each.",
        )


def find_influence(results: StudyResults, task: TaskState) -> Influence | None:
    """Find what tau of an accepted proxy task at its deciding check rests on; None where it is undefined."""
    if task.final_step is None:
        return None
    scores = results.scores_at(task, task.final_step)
    has_both = ~(np.isnan(scores.ranked) | np.isnan(scores.ranked_reference))
    proxy, reference = scores.ranked[has_both], scores.ranked_reference[has_both]
    if proxy.size <= LEAST_SCORES:
        return None
    whole, without = kendall_tau(proxy, reference), leave_one_out_taus(proxy, reference)
    if whole is None or not np.isfinite(without).any():
        return None
    groups = split_at_largest_gap(reference)
    lowest = int(np.nanargmin(without))
    return Influence(
        tau=whole.tau,
        within=tau_within_groups(proxy, reference, groups),
        below=int((~groups).sum()),
        above=int(groups.sum()),
        lowest=float(without[lowest]),
        model=_name_model(results, np.array(task.keys)[has_both][lowest]),
    )


def _find_best_influence(results: StudyResults) -> Influence | None:
    return None if results.best is None else find_influence(results, results.best)


def _name_model(results: StudyResults, key: str) -> str:
    architecture = to_canonical_json(results.trials[key].spec.architecture)
    models = (*results.references, *results.added)
    return next(f"candidate {each.number}" for each in models if to_canonical_json(each.architecture) == architecture)


def _describe_gap(sampling: RangeSampling) -> str:
    usual = f"{sampling.usual_gap:.0%}".replace("%", PERCENT)
    gap = f"{sampling.largest_gap:.0%}".replace("%", PERCENT)
    sides = f"{sampling.below} below and {sampling.n - sampling.below} above"
    compared = "at most" if sampling.is_usual else "more than"
    return (
        f"The largest gap between two of the {sampling.n} full-training scores is {gap} of their range, with {sides} "
        f"it: {compared} the {usual} that 95{PERCENT} of samples of normal scores have."
    )


def _describe_influence(results: StudyResults, influence: Influence) -> str:
    assert results.best is not None
    return (
        f"Tau of {results.best.name} at its deciding check is {wording.format_tau(influence.tau)}; "
        f"{_describe_within(influence, is_clause=True)} Without any one model it is at least "
        f"{wording.format_tau(influence.lowest)} (without {influence.model})."
    )


def _describe_within(influence: Influence, *, is_clause: bool = False) -> str:
    where = "without the model beyond the gap" if influence.is_of_one_model else "within the two groups"
    where = where if is_clause else f"{where[0].upper()}{where[1:]}"
    if influence.within is None:
        return f"{where}, it is undefined." if is_clause else f"{where}, tau is undefined."
    tau = wording.format_tau(influence.within.tau)
    pairs = f"{influence.within.within} of {influence.within.pairs} pairs"
    if is_clause:
        return f"{where} it is {tau} ({pairs})."
    return f"{where}, tau is {tau} ({pairs}), instead of {wording.format_tau(influence.tau)} over all pairs."


def _advise(sampling: RangeSampling) -> str:
    smaller = "lower" if sampling.below * 2 <= sampling.n else "upper"
    return (
        f"Add reference models that fill the gap (references.initial), or, if the search is about the larger group, "
        f"remove the choices that make the {smaller} one."
    )
