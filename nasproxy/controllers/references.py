"""What all ways of selecting reference models share: how a candidate becomes one, and when too many failed. Pure."""

from collections import Counter

from nasproxy.controllers.base import Records
from nasproxy.controllers.states import Reference, SelectionState
from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.trial import TrialSpec

BASELINE = -1
"""The baseline model's number: it is no candidate."""

ADVICE = {
    "oom": "take smaller batches or drop the largest choices of the search space",
    "nan": "lower the learning rate, warm up, or clip gradients",
    "crash": "read the newest worker.log: the model or the trainer raises",
    "lost": "workers died from outside: look for a memory limit or a full disk",
}


def reference(number: int, spec: TrialSpec, records: Records) -> Reference:
    """A fully trained candidate as a reference."""
    last = records[spec.key].checks[-1]
    return Reference(number, spec.architecture, spec.key, last.score, last.train_seconds)


def check_failure_ratio(ratio: float) -> None:
    """Refuse a share of failures that is none.

    Raises:
        ConfigError: It lies outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ConfigError(f"selection.max_failure_ratio must lie in [0, 1], got {ratio:g}")


def refuse_excess_failures(state: SelectionState, records: Records, max_ratio: float) -> None:
    """Stop where more candidates failed than may.

    Raises:
        StageStoppedError: With the causes, and advice for the most frequent one.
    """
    earlier = {number for iteration in state.iterations for number in iteration.failed}
    now = {n for n in state.iterations[-1].candidates if records[state.keys[n]].is_failed}
    failed, tried = len(earlier | now), len(state.iterations[0].candidates)
    if failed <= max_ratio * tried:
        return
    causes = Counter(cause.value for n in sorted(now) if (cause := records[state.keys[n]].status.cause))
    diagnosis = ", ".join(f"{count} by {cause}" for cause, count in causes.most_common())
    raise StageStoppedError(
        f"selection allows {max_ratio:.0%} of {tried} candidates to fail, and {failed} did ({diagnosis}; "
        f"{ADVICE[causes.most_common(1)[0][0]]}): mend the cause, or raise selection.max_failure_ratio"
    )


def outcome(state: SelectionState, records: Records) -> str:
    """The stage's result in words."""
    failed = state.iterations[-1].failed
    causes = Counter(cause.value for n in failed if (cause := records[state.keys[n]].status.cause))
    words = ", ".join(f"{count} by {cause}" for cause, count in causes.most_common())
    lost = f"; {len(failed)} of the last {len(state.iterations[-1].candidates)} failed ({words})" if failed else ""
    return f"{len(state.references or ())} reference models are trained{lost}"
