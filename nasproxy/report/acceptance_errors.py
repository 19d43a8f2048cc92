"""The probability that the accepted proxy task's true tau lies below the target: a fact, a remark and a table."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from nasproxy.report import wording
from nasproxy.report.content import Block, Heading, ShownTable
from nasproxy.report.tables import Column, Row, Table
from nasproxy.report.wording import Remark
from nasproxy.stages.proxy_search.rules import read_settings
from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.references.settings import ReferencesSettings
from nasproxy.stages.study_results import StudyResults, read_criterion, read_target
from nasproxy.statistics.acceptance import MARGIN, LookPlan
from nasproxy.statistics.acceptance_error import (
    AcceptanceError,
    TauPrior,
    estimate_crossing_errors,
    estimate_sequential_errors,
)

FIELDS = ("prior", "accepted", "below_target", "below_margin", "assumption", "target")
"""Values of a row of the table."""


def estimate_errors(results: StudyResults, best: TaskState) -> tuple[AcceptanceError, ...]:
    """Estimate the errors of the criterion that accepted a proxy task.

    Args:
        results: The study's results.
        best: The accepted proxy task.

    Returns:
        The error under each prior of the true tau; empty if the criterion is the user's own, or if the proxy task was
        accepted by its score.
    """
    criterion, target = read_criterion(best), read_target(best)
    if target is None or best.stopping_state is not StoppingState.MET_CORRELATION:
        return ()
    steps = [check.step for check in best.checks if best.final_step is None or check.step <= best.final_step]
    fractions = tuple(step / best.total_steps for step in steps)
    kind, alpha = str(criterion.get("_target_", "")).rpartition(".")[2], criterion.get("alpha")
    sizes = _list_sizes(best)
    if kind == "FirstCrossing":
        return estimate_crossing_errors(fractions, sizes[0], target=target)
    if kind == "GroupSequential" and isinstance(alpha, float):
        return estimate_sequential_errors(fractions, LookPlan(len(results.tasks), sizes), target=target, alpha=alpha)
    return ()


def list_facts(results: StudyResults, best: TaskState) -> Iterator[tuple[str, str]]:
    """List the shares under the default prior as a (name, value) pair; nothing if they do not hold for this study."""
    for error in () if results.is_spread else estimate_errors(results, best)[:1]:
        target = read_target(best) or 0.0
        name = f"accepted tasks with a true tau below {target:g}, below {target - MARGIN:.2f}"
        shares = f"{_format_share(error.below_target)}, {_format_share(error.below_margin)}"
        yield name, f"{shares} (average over simulated studies)"


def remark_on_errors(results: StudyResults, best: TaskState) -> Iterator[Remark]:
    """Remark on the probabilities under all priors, and what they are of; nothing for other criteria."""
    errors = {error.prior: error for error in estimate_errors(results, best)}
    if not errors:
        return
    target = read_target(best) or 0.0
    stated, even, hopeless = (errors[prior] for prior in TauPrior)
    spread = (
        " References selected for spread are not random: the probabilities are higher for them."
        if results.is_spread
        else ""
    )
    yield Remark(
        f"Probability that the true tau lies below the target of {target:g}: {_format_share(stated.below_target)}.",
        f"Below {target - MARGIN:.2f}: {_format_share(stated.below_margin)}. These are shares of the accepted proxy "
        f"tasks in simulated studies with this criterion and random reference models, if true taus rise with training "
        f"as on published learning curves. They depend on that assumption: {_write_pair(even)} if true taus are spread "
        f"evenly over 0 to 1, {_write_pair(hopeless)} if half of the proxy tasks never exceed {target - MARGIN:.2f}. "
        f"They are averages over accepted proxy tasks; this one's tau and its confirmation do not enter.{spread}",
    )


def make_errors(results: StudyResults) -> Table:
    """Tabulate the probabilities under each prior; no rows without an accepted proxy task, or for other criteria."""
    best = results.best
    target = (best and read_target(best)) or 0.0
    errors = () if best is None else estimate_errors(results, best)
    columns = [
        Column("assumed true taus of proxy tasks", lambda row: row["assumption"], is_number=False),
        Column("accepted", lambda row: _format_share(row["accepted"])),
        Column(f"true tau below {target:g}", lambda row: _format_share(row["below_target"])),
        Column(f"true tau below {target - MARGIN:.2f}", lambda row: _format_share(row["below_margin"])),
    ]
    return Table([_make_row(error, target) for error in errors], columns, FIELDS)


def write_errors(table: Table) -> Iterator[Block]:
    """Write the part of the page; nothing if the table has no rows."""
    if table.rows:
        yield Heading("Probability that an accepted proxy task is poor")
        yield ShownTable(
            "acceptance_errors",
            "Simulated studies with this criterion, number of proxy tasks and random reference models. Accepted: share "
            "of proxy tasks that are accepted. Last columns: shares of the accepted ones, by their true tau at the "
            "accepted look.",
        )


def _make_row(error: AcceptanceError, target: float) -> Row:
    return {**asdict(error), "prior": error.prior.value, "assumption": _describe(error.prior, target), "target": target}


def _describe(prior: TauPrior, target: float) -> str:
    described = {
        TauPrior.PUBLISHED: "rise with training as on published learning curves",
        TauPrior.UNIFORM: "spread evenly over 0 to 1, the same at every look",
        TauPrior.HALF_HOPELESS: f"half as published, half spread evenly over 0 to {target - MARGIN:.2f}",
    }
    return described[prior]


def _list_sizes(task: TaskState) -> tuple[int, ...]:
    """List the numbers of references that the task could be judged on."""
    settings: Any = read_settings(task.judged_by).get("references") or {}
    most, step = settings.get("max"), settings.get("step")
    selected = len(task.keys) - len(task.added)
    largest = max(len(task.keys), most if isinstance(most, int) else 0)
    return (*range(selected, largest, step if isinstance(step, int) else ReferencesSettings.step), largest)


def _write_pair(error: AcceptanceError) -> str:
    shares = [_format_share(error.below_target), _format_share(error.below_margin)]
    return " and ".join(shares) if shares[0] != shares[1] else f"{shares[0]} each"


def _format_share(share: float | None) -> str:
    """Format a probability in whole percent, as precise as the simulation.

    >>> _format_share(0.104), _format_share(0.002)
    ('10 %', 'less than 1 %')
    """
    if share is None:
        return wording.MISSING
    return "less than 1 %" if share < 0.01 else f"{100 * share:.0f} %"
