"""The tau, the bound and the grade of an accepted proxy task in words."""

from collections.abc import Iterator

from nasproxy.report import wording
from nasproxy.report.wording import Remark
from nasproxy.stages.headline import Headline
from nasproxy.statistics.acceptance import MARGIN, MODERATE_MARGIN, Grade
from nasproxy.statistics.contradiction import Confirmation
from nasproxy.statistics.deviation import MIN_MODELS

FEW_MODELS = 20
OPTIMISTIC = "optimistic, since it was selected for being high"


def write_numbers(shown: Headline, *, is_spread: bool) -> str:
    """Write tau and its bound, without a full stop."""
    source = "proxy search" if shown.is_selected else "confirmation runs"
    if shown.correlation is None:
        return f"{source}: tau is undefined"
    goal = "" if shown.target is None else f"; target {shown.target:g}"
    optimistic = f", {OPTIMISTIC}" if shown.is_selected else ""
    bound = (
        f"no lower confidence bound{goal}"
        if shown.bound is None
        else f"lower confidence bound after selection {wording.format_tau(shown.bound)}{goal}"
    )
    why = f" ({_explain_missing(shown, is_spread=is_spread)})" if shown.bound is None else ""
    return f"{source}: {wording.write_tau(shown.correlation)}{optimistic}; {bound}{why}"


def write_raced(shown: Headline) -> str:
    """Write the tau of the proxy search in a sentence, if that of the confirmation runs is shown before it."""
    if shown.is_selected or shown.raced is None:
        return ""
    return f" Tau in the proxy search: {wording.format_tau(shown.raced.tau)}, {OPTIMISTIC}."


def list_facts(shown: Headline, fresh: Confirmation | None, *, is_spread: bool) -> Iterator[tuple[str, str]]:
    """List grade, taus and bounds as (name, value) pairs.

    Args:
        shown: The headline.
        fresh: Result on fresh models; None without one.
        is_spread: Whether the reference models were selected for their spread.
    """
    missing = _explain_missing(shown, is_spread=is_spread)
    yield "grade", f"{shown.grade.value}: {_explain_grade(shown, missing)}"
    goal = "" if shown.target is None else f" (target {shown.target:g})"
    if not shown.is_selected:
        tau = "undefined" if shown.correlation is None else wording.format_tau(shown.correlation.tau)
        yield "tau-b, confirmation runs", f"{tau}{goal}"
    bound = (
        f"none: {missing}"
        if shown.bound is None
        else f"{wording.format_tau(shown.bound)} (one-sided 95 %, holds after selection)"
    )
    yield "lower confidence bound of tau", bound
    if fresh is not None and fresh.correlation is not None:
        limit = f", lower confidence bound {wording.format_tau(fresh.bound)}"
        models = wording.format_count(fresh.correlation.n, "model")
        yield "tau-b, fresh models", f"{wording.format_tau(fresh.correlation.tau)} ({models}, not selected{limit})"
    if shown.raced is not None:
        yield "tau-b, proxy search", f"{wording.format_tau(shown.raced.tau)} ({OPTIMISTIC})"


def remark_on_bound(shown: Headline, *, is_spread: bool) -> Iterator[Remark]:
    """Remark on how far the true tau may lie below the observed one."""
    found = shown.correlation
    if found is None:
        return
    few = f"{'Only ' if found.n < FEW_MODELS else ''}{wording.format_count(found.n, 'model')}"
    if shown.bound is None:
        reason = _explain_missing(shown, is_spread=is_spread)
        yield Remark(f"{few}, and no lower confidence bound of tau.", f"{reason[:1].upper()}{reason[1:]}.")
        return
    where = "of the proxy search" if shown.is_selected else "of the confirmation runs"
    yield Remark(
        f"{few}: the true tau may be as low as {wording.format_tau(shown.bound)}.",
        f"With 95 % confidence it is at least that. This bound {where} allows for the selection among checks, numbers "
        f"of models and proxy tasks, and for the draw of the reference models, which confirmation runs share. An "
        f"ordinary confidence interval does not hold for a tau that was selected; the p-value tests whether the "
        f"rankings are unrelated, not whether tau reaches the target.",
    )


def _explain_grade(shown: Headline, reason: str) -> str:
    """Explain the grade by what decides it, given the reason why a missing bound is missing."""
    if not shown.is_confirmed:
        return "the verdict is not confirmed"
    if shown.bound is None or shown.target is None:
        return "no target is stored" if shown.bound is not None else f"no bound, since {reason}"
    if shown.bound >= shown.target:
        return "confirmed, with a lower confidence bound that reaches the target"
    margin = MARGIN if shown.grade is Grade.STRONG else MODERATE_MARGIN
    where = "more" if shown.grade is Grade.WEAK else "no more"
    return f"confirmed, with a lower confidence bound {where} than {margin:.2f} below the target"


def _explain_missing(shown: Headline, *, is_spread: bool) -> str:
    """Explain why there is no bound."""
    if is_spread:
        return "the bound holds for random reference models, and these were selected for spread"
    if shown.correlation is not None and shown.correlation.n < MIN_MODELS:
        return f"the bound needs {MIN_MODELS} models with both scores"
    return "the verdict was stored by an earlier version, or tau is undefined; run the study's command again"
