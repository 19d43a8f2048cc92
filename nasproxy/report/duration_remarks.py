"""Advice on proxy tasks whose trials take too long for a search."""

from collections.abc import Iterator

from nasproxy.cost.estimate import Assumption
from nasproxy.report import wording
from nasproxy.report.wording import Remark
from nasproxy.stages.study_results import StudyResults

LONGEST_SECONDS = 7200.0
"""Longest trial of a search that the documentation of Vertex AI NAS advises."""
ADVICE = (
    "Vertex AI NAS advises two hours at most, since a search trains hundreds or thousands of models. Reduce data, "
    "model or image size further, make steps faster, or train on more devices (training.devices)."
)


def advise_on_duration(assumed: Assumption | None) -> str | None:
    """Give advice before a study if a trial of the search is expected to take longer than about two hours."""
    if assumed is None or assumed.trial_seconds is None or assumed.trial_seconds <= LONGEST_SECONDS:
        return None
    return (
        f"A trial of the search under {assumed.task}, stopped after {assumed.step or assumed.total_steps:,} steps, "
        f"would take about {wording.format_duration(assumed.trial_seconds)}. {ADVICE}"
    )


def remark_on_duration(results: StudyResults) -> Iterator[Remark]:
    """Remark on an accepted proxy task whose trials take longer than about two hours of training."""
    best = results.best
    if best is None or best.final_train_seconds is None:
        return
    devices = next((results.trials[key].spec.devices for key in best.keys if key in results.trials), 1)
    seconds = best.final_train_seconds / devices
    if seconds > LONGEST_SECONDS:
        total = wording.format_duration(results.search_trials * best.final_train_seconds)
        yield Remark(
            f"A trial of the search takes {wording.format_duration(seconds)}.",
            f"{results.search_trials:,} of them train for {total} of device time. {ADVICE}",
        )
