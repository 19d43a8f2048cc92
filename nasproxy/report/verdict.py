"""What a study says in words: which proxy task to use, how to use it, and how far to trust that."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nasproxy.cost.account import Cost, Saving, train_saving, wall_saving
from nasproxy.report import confirmation_section, wording
from nasproxy.report.remarks import cloud_tool_warning, noise_remarks, reduced_dimensions, remarks, replacement_remarks
from nasproxy.report.task_outcomes import Outcome, outcome
from nasproxy.report.wording import Remark
from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.study_results import Findings, decided_at, target
from nasproxy.statistics.rank_correlation import RankCorrelation
from nasproxy.trials.overrides import Override
from nasproxy.trials.proxy_task import ProxyTask

PLACES = {"model.": "search_space.model."}
"""Where a trial's settings lie in the configuration, for those that lie elsewhere."""
PLAIN_WORD = re.compile(r"(?!(null|true|false|nan|inf)$)[A-Za-z_][A-Za-z0-9_./-]*", re.IGNORECASE)
"""Text that Hydra's grammar takes for text without quotes."""


@dataclass(frozen=True)
class Verdict:
    """What a study says.

    Attributes:
        is_accepted: Whether there is a proxy task to use.
        headline: The answer.
        sentence: The answer with its numbers.
        facts: Those numbers, each with its name.
        use: Overrides that give a search the proxy task; empty without one.
        remarks: How far to trust it, the weightiest first.
        next_steps: What to do where there is no proxy task to use.
        warning: What to know before all else.
    """

    is_accepted: bool
    headline: str
    sentence: str
    facts: tuple[tuple[str, str], ...] = ()
    use: str = ""
    remarks: tuple[Remark, ...] = ()
    next_steps: tuple[str, ...] = ()
    warning: Remark | None = None

    @property
    def text(self) -> str:
        """The verdict as plain text."""
        use = f" Use it with: {self.use}" if self.use else ""
        warned = f" {self.warning.title}" if self.warning else ""
        return " ".join([f"{self.headline}.", self.sentence, *self.next_steps]) + use + warned


def judge(findings: Findings) -> Verdict:
    """Put into words what a study has found so far."""
    best = findings.best
    if best is not None and best.final_step is not None:
        return _accepted(findings, best, best.final_step)
    if any(task.stopping_state is None for task in findings.tasks.values()):
        return _undecided(findings)
    return _none_accepted(findings) if findings.tasks else _unfinished(findings)


def overrides(task: ProxyTask, final_step: int) -> list[str]:
    """The command-line overrides that give a search this proxy task, ended at its final step.

    They start from `proxy=full`, so that no axis of a grid is left over.
    """
    dimensions = {f"proxy.{name}": value for name, value in reduced_dimensions(task).items()}
    others = {path: value for path, value in task.overrides.items() if path != "training.total_steps"}
    moved = {_place(path): value for path, value in others.items()}
    settings = {**dimensions, **moved, "training.total_steps": final_step}
    return ["proxy=full", *(shlex.quote(f"{path}={_literal(value)}") for path, value in settings.items())]


def _accepted(findings: Findings, best: TaskState, final_step: int) -> Verdict:
    check = decided_at(best)
    found = None if check is None else check.correlation
    train, wall = train_saving(findings, best), wall_saving(findings, best)
    by_score = best.stopping_state is StoppingState.MET_ACCURACY
    met = (
        f"reached its target score, {wording.number(check.median_score)}"
        if by_score and check
        else "reached its target"
    )
    where = f"after {final_step:,} of {best.total_steps:,} steps"
    cheaper = f", {wording.times(train.ratio)} cheaper than full training by training time" if train else ""
    counted = f" ({wording.times(wall.ratio)} with all costs counted)" if wall else ""
    return Verdict(
        is_accepted=True,
        headline=f"Accepted: {best.name}, stopped {where}",
        sentence=f"It {met}{_correlation(found)}{cheaper}{counted}.{confirmation_section.sentence(findings, best)}",
        facts=tuple(_facts(findings, best, final_step, found, train, wall)),
        use="" if findings.is_replayed else " ".join(overrides(best.proxy_task, final_step)),
        remarks=tuple(remarks(findings, best, final_step, found)),
        warning=cloud_tool_warning(findings),
    )


def _correlation(found: RankCorrelation | None) -> str:
    if found is None:
        return ", but its tau is undefined"
    ends = f"95 % interval {wording.interval(found.low, found.high)}, p {wording.p_value(found.p_value)}"
    return f": tau-b {wording.tau(found.tau)} ({ends}) on {wording.count(found.n, 'model')}"


def _facts(
    findings: Findings,
    best: TaskState,
    final_step: int,
    found: RankCorrelation | None,
    train: Saving | None,
    wall: Saving | None,
) -> Iterator[tuple[str, str]]:
    if found is not None:
        wanted, ends = target(best), wording.interval(found.low, found.high)
        goal = "" if wanted is None else f"; target {wanted:g}"
        yield "tau-b", f"{wording.tau(found.tau)} (95 % interval {ends}{goal})"
        check = decided_at(best)
        if check is not None and check.needed is not None:
            yield "tau that was needed there", wording.tau(check.needed)
        if check is not None and check.lower_limit is not None:
            limit = f"{wording.tau(check.lower_limit)} (one-sided 95 %, this look alone)"
            yield "lower limit of the true tau", limit
        bounds = findings.lost_bounds(best, final_step)
        if bounds is not None:
            lost = wording.count(bounds.lost, "lost model")
            yield f"tau-b, whatever {lost} would have scored", wording.interval(bounds.low, bounds.high)
        yield "p, were the rankings unrelated", wording.p_value(found.p_value)
        yield "models", wording.number(found.n)
    yield "final steps", f"{final_step:,} of {best.total_steps:,}"
    for name, saving in (("training time", train), ("all costs counted", wall)):
        if saving is not None:
            seconds = (
                f"{wording.duration(saving.full_seconds)} \N{RIGHTWARDS ARROW} {wording.duration(saving.proxy_seconds)}"
            )
            yield f"cheaper per model, {name}", f"{wording.times(saving.ratio)} ({seconds})"
    spent = Cost.of(list(findings.trials.values()))
    for name, saving, seconds_spent in (
        ("training time", train, spent.train_seconds),
        ("all costs counted", wall, spent.wall_seconds),
    ):
        if saving is not None:
            models = saving.break_even(seconds_spent)
            words = "never" if models is None else f"after {wording.count(models, 'searched model')}"
            yield f"the study has paid for itself, {name}", words


def _undecided(findings: Findings) -> Verdict:
    judged = [task for task in findings.tasks.values() if task.stopping_state is not None]
    return Verdict(
        is_accepted=False,
        headline="Undecided: no proxy task is accepted yet",
        sentence=f"{len(judged)} of {wording.count(len(findings.tasks), 'proxy task')} on record have been judged to "
        f"their end, none of them well enough."
        + "".join(f" {words}" for words in confirmation_section.contradictions(findings)),
        next_steps=("Run the study's command again: it goes on where it stopped.",),
    )


def _none_accepted(findings: Findings) -> Verdict:
    closest = _closest(list(findings.tasks.values()))
    fallen = list(confirmation_section.contradictions(findings))
    what = "none ranks the reference models well enough" + (" on a schedule of its own" if fallen else "")
    sentence = f"{wording.count(len(findings.tasks), 'proxy task')} judged, {what}."
    if closest is not None and not fallen:
        name, step, found = closest
        ends, where = wording.interval(found.low, found.high), wording.count(step, "step")
        sentence += f" {name} came closest: tau-b {wording.tau(found.tau)} after {where} (95 % interval {ends})."
    sentence = " ".join([sentence, *fallen])
    return Verdict(
        is_accepted=False,
        headline="No proxy task was accepted",
        sentence=sentence,
        remarks=(*noise_remarks(findings, None), *replacement_remarks(findings)),
        next_steps=tuple(_advice(findings)),
        warning=cloud_tool_warning(findings),
    )


def _closest(tasks: Sequence[TaskState]) -> tuple[str, int, RankCorrelation] | None:
    known = [(t.name, c.step, c.correlation) for t in tasks for c in t.checks if c.correlation is not None]
    return max(known, key=lambda found: found[2].tau, default=None)


def _advice(findings: Findings) -> Iterator[str]:
    states = {task.stopping_state for task in findings.tasks.values()}
    if StoppingState.EXCESS_FAILURES in states:
        yield "Too many trials failed to judge some proxy tasks: mend the causes listed under Failures."
    if StoppingState.EXCEEDED_TIME_LIMIT in states:
        yield "Some were stopped by proxy_search.train_seconds_limit: raise it to judge them to their end."
    if StoppingState.CONTRADICTED in states:
        yield (
            "A shorter schedule ranked otherwise than the beginning of the whole one: raise criterion.target, so that "
            "tasks are stopped later, or search on the whole schedule and stop each training early."
        )
    undecided = [task for task in findings.tasks.values() if outcome(findings, task) is Outcome.UNDECIDED]
    if undecided:
        names = ", ".join(task.name for task in undecided)
        yield f"Undecided, not rejected: {names}. More reference models might decide: raise references.max."
    yield (
        "Add proxy tasks that reduce less, such as proxy.data_fraction=[0.75,1.0] or proxy.width=[0.75,1.0], to the "
        "same study: what is trained is not trained again."
    )
    ceiling = findings.ceiling
    targets = [wanted for task in findings.tasks.values() if (wanted := target(task)) is not None]
    if ceiling is not None and targets and max(targets) > ceiling.low:
        yield (
            f"Seed noise may be in the way: the noise ceiling is {wording.tau(ceiling.tau)}, and may be as low as "
            f"{wording.tau(ceiling.low)}. Train longer, average the weights, or validate on more images."
        )
    yield "Do not lower the target to fit what was found; a search on full training is the honest alternative."


def _unfinished(findings: Findings) -> Verdict:
    done = [
        ("the variance measurement", findings.measured is not None),
        ("the selection of reference models", bool(findings.references)),
        ("the proxy search", False),
    ]
    there = [name for name, is_done in done if is_done]
    missing = [name for name, is_done in done if not is_done]
    so_far = f"Done: {' and '.join(there)}. " if there else ""
    return Verdict(
        is_accepted=False,
        headline="The study is not finished",
        sentence=f"{so_far}Not there yet: {', '.join(missing)}.",
        remarks=(*noise_remarks(findings, None), *replacement_remarks(findings)),
        next_steps=("Run the study's command with job=design: it goes on where it stopped.",),
    )


def _place(path: str) -> str:
    return next((new + path[len(old) :] for old, new in PLACES.items() if path.startswith(old)), path)


def _literal(value: Override) -> str:
    """A value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return value if PLAIN_WORD.fullmatch(value) else f'"{escaped}"'
    return f"{value:.12g}" if isinstance(value, float) else str(value)
