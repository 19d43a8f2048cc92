"""Parts that all selections of reference models share: their protocol, making a reference, the limit on failures."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.stages.references.state import Reference, SelectionState
from nasproxy.stages.runner import Records, Stage
from nasproxy.trials.objective import Objective
from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import TrialSpec

BASELINE = -1
"""Number of the baseline model, which is not a candidate."""

ADVICE = {
    "oom": "lower training.micro_batch, or remove the largest choices of the search space",
    "nan": "try failures.on_nan=lower_rate or clip, lower trainer.learning_rate, or add warm-up",
    "crash": "read worker.log in this folder: the model or the trainer raised an error",
    "lost": "workers were killed: check memory limits and free disk space",
}

ADVICE_AFTER_RETRIES = {
    "oom": "remove the largest choices of the search space, or raise failures.max_oom_retries",
    "nan": "lower trainer.learning_rate, or add warm-up",
}
"""Advice for causes that are retried, after the retries failed as well."""
MAX_CANDIDATES = 100_000
"""Architectures that a study may draw; a search space may have more than can be listed."""


class Selection(Protocol):
    """Settings of a way to select the reference models.

    Attributes:
        is_random: Whether the references are a random sample of the search space, to which random ones can be added.
    """

    is_random: bool

    @property
    def candidates(self) -> int:
        """Number of candidates."""
        ...

    @property
    def rounds(self) -> Sequence[tuple[int, float]]:
        """Rounds of the selection: number of models and the fraction of training up to which a round trains them."""
        ...

    @property
    def removed_per_iteration(self) -> int:
        """Candidates removed in each iteration."""
        ...

    @property
    def models(self) -> int:
        """Number of reference models."""
        ...

    @property
    def base(self) -> dict[str, Any]:
        """Settings that must not change during a study."""
        ...

    def check(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A value is out of range.
        """
        ...

    def make_stage(self, **context: Any) -> Stage[SelectionState]:
        """Make the stage that performs the selection.

        Args:
            **context: `recipe`, `candidates`, `baseline`, `seed` and `folder`.
        """
        ...


def make_reference(number: int, spec: TrialSpec, records: Records) -> Reference:
    """Make a reference from a fully trained candidate; training time counts all its devices."""
    last = records[spec.key].checks[-1]
    return Reference(number, spec.architecture, spec.key, last.score, last.train_seconds * spec.devices)


def sort_best_first(references: Sequence[Reference], objective: Objective) -> tuple[Reference, ...]:
    """Sort references by their full-training score, the best one first."""
    return tuple(sorted(references, key=lambda reference: objective.orient(reference.score), reverse=True))


def check_failure_ratio(ratio: float) -> None:
    """Check that the allowed share of failures lies in [0, 1].

    Raises:
        ConfigError: The share is out of range.
    """
    if not 0 <= ratio <= 1:
        raise ConfigError(f"selection.max_failure_ratio must lie in [0, 1], got {ratio:g}")


def check_failures(state: SelectionState, records: Records, max_ratio: float) -> None:
    """Stop the stage if more candidates failed than allowed; a trial with a pending or successful retry has not failed.

    Args:
        state: State of the selection.
        records: Records of the current candidates, by key.
        max_ratio: Share of the candidates that may fail.

    Raises:
        StageStoppedError: Too many failed; the message lists the causes, an example trial and advice for each.
    """
    earlier = {number for iteration in state.iterations for number in iteration.failed}
    now = {n for n in state.iterations[-1].candidates if records[state.keys[n]].is_failed}
    failed, tried = len(earlier | now), len(state.iterations[0].candidates)
    if failed <= max_ratio * tried:
        return
    before = f", {len(earlier - now)} of them in earlier rounds, the others in this" if earlier - now else ""
    raise StageStoppedError(
        f"selection allows {max_ratio:.0%} of {tried} candidates to fail, and {failed} did ({failed / tried:.0%})"
        f"{before}:\n"
        f"{_format_failures([state.keys[n] for n in sorted(now)], records)}\n"
        f"Fix the causes and run the command again. Changing a trainer, training or failures setting, or "
        f"selection.max_failure_ratio (now {max_ratio:g}), needs another study: use study=NAME."
    )


def _format_failures(keys: Sequence[str], records: Records) -> str:
    """Format a plain-text table of failed candidates by cause, the most frequent one first."""
    keys_by_cause: dict[str, list[str]] = {}
    for key in keys:
        cause = records[key].status.cause
        keys_by_cause.setdefault("unknown" if cause is None else cause.value, []).append(key)
    rows = [("cause", "candidates", "for example", "what to do")]
    for cause_name, failed in sorted(keys_by_cause.items(), key=lambda item: -len(item[1])):
        example = records[failed[0]]
        rows.append(
            (cause_name, str(len(failed)), f"trials/{example.trained_as(failed[0])}", _advise(cause_name, example))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join(["", *map(str.ljust, row, widths), row[3]]) for row in rows)


def _advise(cause: str, example: TrialRecord) -> str:
    """Return advice for a cause; if retries were tried and failed, other advice."""
    tried = [retry.change for retry in example.retries if retry.cause.value == cause]
    if tried:
        return f"{tried[-1]} did not help: {ADVICE_AFTER_RETRIES[cause]}"
    return ADVICE.get(cause, ADVICE["crash"])


def describe_references(state: SelectionState, records: Records) -> str:
    """Describe the result of the selection in one line."""
    failed = state.iterations[-1].failed
    causes = Counter(cause.value for n in failed if (cause := records[state.keys[n]].status.cause))
    counts = ", ".join(f"{count} by {cause}" for cause, count in causes.most_common())
    failures = (
        f"; {len(failed)} of {len(state.iterations[-1].candidates)} candidates failed ({counts})" if failed else ""
    )
    return f"{len(state.references or ())} reference models are trained{failures}"
