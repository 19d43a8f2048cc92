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
        else f" Given the seed noise, their effective number is {sampling.effective_values:.1f} of "
        f"{sampling.n} (equal scores count once)."
    )
    found = f"{_describe_gap(sampling)}{distinct}"
    influence = _find_best_influence(results)
    return found if influence is None else f"{found} {_describe_influence(results, sampling, influence)}"


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
    gap, usual = (f"{100 * share:.0f}{PERCENT}" for share in (sampling.largest_gap, sampling.usual_gap))
    compared = f"(95{PERCENT} of samples of {sampling.n} normal scores have {usual} or less)"
    if sampling.is_usual:
        return (
            f"The full-training scores cover their range: the largest gap between two neighbours is {gap} of it "
            f"{compared}."
        )
    return (
        f"The full-training scores do not cover their range: a gap of {gap} of it {compared} separates the "
        f"{sampling.below} lowest from the {sampling.n - sampling.below} highest."
    )


def _describe_influence(results: StudyResults, sampling: RangeSampling, influence: Influence) -> str:
    assert results.best is not None
    within = "" if sampling.is_usual else f" {_describe_within(influence)}"
    return (
        f"Tau of {results.best.name} at its deciding check is {wording.format_tau(influence.tau)}, and without any one "
        f"model at least {wording.format_tau(influence.lowest)} (without {influence.model}).{within}"
    )


def _describe_within(influence: Influence) -> str:
    where = "Without the model beyond the gap" if influence.is_of_one_model else "Within the two groups"
    if influence.within is None:
        return f"{where}, tau is undefined."
    pairs = f"{influence.within.within} of {influence.within.pairs} pairs"
    return (
        f"{where}, tau is {wording.format_tau(influence.within.tau)} ({pairs}), instead of "
        f"{wording.format_tau(influence.tau)} over all pairs."
    )


def _advise(sampling: RangeSampling) -> str:
    smaller = "lower" if sampling.below * 2 <= sampling.n else "upper"
    return (
        f"Add reference models that fill the gap (references.initial), or, if the search is about the larger group, "
        f"remove the choices that make the {smaller} one."
    )
