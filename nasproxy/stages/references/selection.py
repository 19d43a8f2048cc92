"""What all ways of selecting reference models share: how a candidate becomes one, and when too many failed."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

from nasproxy.errors import ConfigError, StageStoppedError
from nasproxy.stages.references.state import Reference, SelectionState
from nasproxy.stages.runner import Records, Stage
from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import TrialSpec

BASELINE = -1
"""The baseline model's number: it is no candidate."""

ADVICE = {
    "oom": "lower training.micro_batch, or drop the largest choices of the search space",
    "nan": "try failures.on_nan=lower_rate or clip, lower trainer.learning_rate, or warm up",
    "crash": "read worker.log there: the model or the trainer raises",
    "lost": "workers died from outside: look for a memory limit or a full disk",
}

ADVICE_AFTER_REPLACEMENT = {
    "oom": "drop the largest choices of the search space, or raise failures.max_oom_retries",
    "nan": "lower trainer.learning_rate, or warm up",
}
"""Of the causes that another trial may stand in for."""
MOST_CANDIDATES = 100_000
"""Architectures that a study may draw; a search space may have more than can be listed."""


class Selection(Protocol):
    """A way to select the reference models, with its settings.

    Attributes:
        is_random: Whether they are a random sample of the search space, so that random ones may be added to them.
    """

    is_random: bool

    @property
    def candidates(self) -> int:
        """Candidates that it draws on."""
        ...

    @property
    def rounds(self) -> Sequence[tuple[int, float]]:
        """How many models are trained how far, as a fraction of training; models of a round go on in the next."""
        ...

    @property
    def removed_per_iteration(self) -> int:
        """Candidates that are dropped in each iteration."""
        ...

    @property
    def models(self) -> int:
        """Reference models that it ends with."""
        ...

    @property
    def base(self) -> dict[str, Any]:
        """What must stay as it is while a study lasts."""
        ...

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigError: A number is out of range.
        """
        ...

    def make_stage(self, **context: Any) -> Stage[SelectionState]:
        """The controller that selects so.

        Args:
            **context: `recipe`, `candidates`, `baseline`, `seed` and `folder`.
        """
        ...


def make_reference(number: int, spec: TrialSpec, records: Records) -> Reference:
    """A fully trained candidate as a reference."""
    last = records[spec.key].checks[-1]
    return Reference(number, spec.architecture, spec.key, last.score, last.train_seconds * spec.devices)


def check_failure_ratio(ratio: float) -> None:
    """Refuse a share of failures that is none.

    Raises:
        ConfigError: It lies outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ConfigError(f"selection.max_failure_ratio must lie in [0, 1], got {ratio:g}")


def check_failures(state: SelectionState, records: Records, max_ratio: float) -> None:
    """Stop where more candidates failed than may; one that another trial stands in for has not.

    Raises:
        StageStoppedError: With a table of the causes, what to do about each, and where to look.
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
        f"{_by_cause([state.keys[n] for n in sorted(now)], records)}\n"
        f"Mend the causes, and run it again. With another trainer, training or failures setting, or a higher "
        f"selection.max_failure_ratio, now {max_ratio:g}, it is another study: begin it with study=NAME."
    )


def _by_cause(keys: Sequence[str], records: Records) -> str:
    """A table of failed candidates in plain text, the most frequent cause first."""
    of_cause: dict[str, list[str]] = {}
    for key in keys:
        cause = records[key].status.cause
        of_cause.setdefault("unknown" if cause is None else cause.value, []).append(key)
    rows = [("cause", "candidates", "for example", "what to do")]
    for cause_name, failed in sorted(of_cause.items(), key=lambda item: -len(item[1])):
        example = records[failed[0]]
        rows.append(
            (cause_name, str(len(failed)), f"trials/{example.trained_as(failed[0])}", _advice(cause_name, example))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join("  ".join(["", *map(str.ljust, row, widths), row[3]]) for row in rows)


def _advice(cause: str, example: TrialRecord) -> str:
    """What to do, without what was tried."""
    tried = [retry.change for retry in example.retries if retry.cause.value == cause]
    if tried:
        return f"{tried[-1]} did not help: {ADVICE_AFTER_REPLACEMENT[cause]}"
    return ADVICE.get(cause, ADVICE["crash"])


def describe_references(state: SelectionState, records: Records) -> str:
    """The stage's result in words."""
    failed = state.iterations[-1].failed
    causes = Counter(cause.value for n in failed if (cause := records[state.keys[n]].status.cause))
    words = ", ".join(f"{count} by {cause}" for cause, count in causes.most_common())
    lost = f"; {len(failed)} of the last {len(state.iterations[-1].candidates)} failed ({words})" if failed else ""
    return f"{len(state.references or ())} reference models are trained{lost}"
