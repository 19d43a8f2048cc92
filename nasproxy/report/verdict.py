"""What a study says in words: which proxy task to use, how to use it, and how far to trust that."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nasproxy.controllers.states import StoppingState, TaskState
from nasproxy.proxy import SHORT_NAMES, Override, ProxyTask
from nasproxy.report import wording, zero_cost
from nasproxy.report.costs import Cost, Saving, train_saving, wall_saving
from nasproxy.report.findings import Findings, criterion, decided_at, target
from nasproxy.statistics.criteria.alpha_spending import MARGIN
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau, tau_in_better_half

PLACES = {"model.": "search_space.model."}
"""Where a trial's settings lie in the configuration, for those that lie elsewhere."""
LONGEST_STEM = 50
"""Of a proxy task's name, so that a longer one can be made of it."""
MUCH_LESS = 0.2
"""Of tau in the better half of the models against all of them: worth a remark."""
FEW_MODELS = 20
PLAIN_WORD = re.compile(r"(?!(null|true|false|nan|inf)$)[A-Za-z_][A-Za-z0-9_./-]*", re.IGNORECASE)
"""Text that Hydra's grammar takes for text without quotes."""


@dataclass(frozen=True)
class Remark:
    """Something to bear in mind: a few words, and a few sentences."""

    title: str
    text: str


@dataclass(frozen=True)
class Verdict:
    """What a study says.

    Attributes:
        is_accepted: Whether there is a proxy task to use.
        headline: The answer.
        sentence: The answer with its numbers.
        facts: Those numbers, each with its name.
        use: Overrides that give a search the proxy task; empty without one.
        confirm: Overrides of the study's own command that judge the proxy task once more, as a search would use it.
        remarks: How far to trust it, the weightiest first.
        next_steps: What to do where there is no proxy task to use.
    """

    is_accepted: bool
    headline: str
    sentence: str
    facts: tuple[tuple[str, str], ...] = ()
    use: str = ""
    confirm: str = ""
    remarks: tuple[Remark, ...] = ()
    next_steps: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The verdict as plain text."""
        use = f" Use it with: {self.use}" if self.use else ""
        return " ".join([f"{self.headline}.", self.sentence, *self.next_steps]) + use


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
    dimensions = {f"proxy.{name}": value for name, value in _dimensions(task).items()}
    others = {path: value for path, value in task.overrides.items() if path != "training.total_steps"}
    moved = {_place(path): value for path, value in others.items()}
    settings = {**dimensions, **moved, "training.total_steps": final_step}
    return ["proxy=full", *(shlex.quote(f"{path}={_literal(value)}") for path, value in settings.items())]


def confirmation(name: str, task: ProxyTask, final_step: int) -> list[str]:
    """The overrides that judge a proxy task once more, trained on a schedule that ends at its final step."""
    others = {path: value for path, value in task.overrides.items() if not path.startswith("training.")}
    steps = {"training.total_steps": final_step, "training.check_every_steps": final_step}
    settings = {"name": f"{name[:LONGEST_STEM]}_confirm", **_dimensions(task), **others, **steps}
    listed = ", ".join(f"{path}: {_literal(value)}" for path, value in settings.items())
    return ["proxy=custom", shlex.quote(f"proxy.tasks=[{{{listed}}}]")]


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
        sentence=f"It {met}{_correlation(found)}{cheaper}{counted}.",
        facts=tuple(_facts(findings, best, final_step, found, train, wall)),
        use=" ".join(overrides(best.proxy_task, final_step)),
        confirm=" ".join(confirmation(best.name, best.proxy_task, final_step)),
        remarks=tuple(_remarks(findings, best, final_step, found)),
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


def _remarks(findings: Findings, best: TaskState, final_step: int, found: RankCorrelation | None) -> Iterator[Remark]:
    wanted = target(best)
    waiting = sum(task.stopping_state is None for task in findings.tasks.values())
    if waiting:
        yield Remark(
            "The search is not finished.", f"{wording.count(waiting, 'proxy task')} not yet judged to the end."
        )
    if best.stopping_state is StoppingState.MET_ACCURACY:
        yield Remark(
            "Accepted for its score, not for its ranks.",
            "The models' median score reached proxy_search.desired_score; tau did not decide.",
        )
    if found is not None:
        yield _sampling_remark(found, wanted)
    if str(criterion(best).get("_target_", "")).endswith("FirstCrossing"):
        yield _crossing_remark(findings, best)
    if isinstance(alpha := criterion(best).get("alpha"), float) and wanted is not None and not findings.is_spread:
        yield Remark(
            "The error is stated.",
            f"Were its true tau {wanted - MARGIN:.2f} throughout, a proxy task would be accepted at any check of any "
            f"task with a probability of {alpha:g} at most.",
        )
    if best.added:
        yield Remark(
            "Reference models were added.",
            f"The verdict was undecided on {len(best.keys) - len(best.added)}, so "
            f"{wording.count(len(best.added), 'random model')} more were trained fully; their cost is counted.",
        )
    if findings.is_spread:
        yield Remark(
            "The reference models were chosen for their spread.",
            "That makes them easier to rank than the models a search meets: on published learning curves it raised "
            "tau by 0.1 to 0.35 in the first fifth of training.",
        )
    yield Remark(
        "Not confirmed yet.",
        f"Tau was measured {_position(best, final_step)}. A training of {final_step:,} steps in all runs through its "
        f"whole learning-rate schedule by then and may rank otherwise: confirm it once with the overrides above.",
    )
    yield from _noise_remarks(findings, found)
    yield from _better_half_remark(findings, best, final_step)
    yield from (Remark(*words) for words in zero_cost.remarks(findings, best, final_step))
    yield from _data_remark(best, final_step)
    yield Remark(
        "What the seconds are.",
        "Training time leaves validation out. All costs counted is the time of the trials' processes: validation, "
        "start-up and lost work too. Both were taken with trials side by side on this study's machines, and one seed "
        "a model.",
    )


def _position(best: TaskState, final_step: int) -> str:
    if final_step < best.total_steps:
        return f"after {final_step:,} steps inside a training of {best.total_steps:,}"
    return "at the end of the whole training"


def _sampling_remark(found: RankCorrelation, wanted: float | None) -> Remark:
    misses = (
        f", so the true tau may well lie below the target of {wanted:g}"
        if wanted is not None and found.low < wanted
        else ""
    )
    reach = (found.high - found.low) / 2
    title = f"{found.n} models prove little." if found.n < FEW_MODELS else f"{found.n} models estimate tau."
    return Remark(
        title,
        f"They measure tau to about \N{PLUS-MINUS SIGN}{reach:.1f}: the 95 % interval runs from "
        f"{wording.interval(found.low, found.high)}{misses}. The interval makes no allowance for having chosen among "
        f"checks and proxy tasks. The p-value speaks against unrelated rankings, not for the target.",
    )


def _crossing_remark(findings: Findings, best: TaskState) -> Remark:
    looks, judged = len(best.checks), len(findings.tasks)
    return Remark(
        "A single crossing was enough.",
        f"The target was met at check {looks}, the first to reach it. Of {wording.count(judged, 'proxy task')} judged, "
        f"{best.name} is the cheapest that met it. Every check and every task is another chance to cross by "
        f"luck, and the first to cross looks better than it is. With 10 random models and 16 checks on published "
        f"learning curves, up to 39 % of such acceptances, by data set, had a true tau more than 0.1 below the target.",
    )


def _noise_remarks(findings: Findings, found: RankCorrelation | None) -> Iterator[Remark]:
    ceiling = findings.ceiling
    if ceiling is not None and found is not None and found.tau > ceiling.tau:
        yield Remark(
            "Tau lies above the noise ceiling.",
            f"Seed noise lets even a perfect proxy expect {wording.tau(ceiling.tau)} on these models: part of the "
            f"{wording.tau(found.tau)} is luck.",
        )
    if findings.range is not None and not findings.range.is_usable:
        yield Remark("The reference scores lie close together.", f"{_sentence(findings.range.message)}")
    measured = findings.measured
    if measured is not None and not measured.verdict.is_good:
        yield Remark("Training is noisy.", " ".join(measured.verdict.advice))


def _better_half_remark(findings: Findings, best: TaskState, final_step: int) -> Iterator[Remark]:
    scores = findings.scores_at(best, final_step)
    whole, half = scores.measure(kendall_tau), scores.measure(tau_in_better_half)
    if half is not None and whole is not None and half.tau < whole.tau - MUCH_LESS:
        yield Remark(
            "It tells good from bad better than best from good.",
            f"Among the better half of the models tau is {wording.tau(half.tau)} ({wording.count(half.n, 'model')}): "
            f"train several of a search's best models fully, not one.",
        )


def _data_remark(best: TaskState, final_step: int) -> Iterator[Remark]:
    reduced = _dimensions(best.proxy_task)
    if set(reduced) == {"data_fraction"}:
        yield Remark(
            "Less data does not make a step cheaper.",
            f"The number of steps is kept, so what is saved comes from stopping after {final_step:,} of "
            f"{best.total_steps:,} steps, not from training on {best.proxy_task.data_fraction:.0%} of the images.",
        )
    elif not reduced and not best.proxy_task.overrides:
        yield Remark("Nothing is reduced.", "What is saved comes from stopping early alone.")


def _undecided(findings: Findings) -> Verdict:
    judged = [task for task in findings.tasks.values() if task.stopping_state is not None]
    return Verdict(
        is_accepted=False,
        headline="Undecided: no proxy task is accepted yet",
        sentence=f"{len(judged)} of {wording.count(len(findings.tasks), 'proxy task')} on record have been judged to "
        f"their end, none of them well enough.",
        next_steps=("Run the study's command again: it goes on where it stopped.",),
    )


def _none_accepted(findings: Findings) -> Verdict:
    closest = _closest(list(findings.tasks.values()))
    sentence = (
        f"{wording.count(len(findings.tasks), 'proxy task')} judged, none ranks the reference models well enough."
    )
    if closest is not None:
        name, step, found = closest
        ends = wording.interval(found.low, found.high)
        sentence += f" {name} came closest: tau-b {wording.tau(found.tau)} after {step:,} steps (95 % interval {ends})."
    return Verdict(
        is_accepted=False,
        headline="No proxy task was accepted",
        sentence=sentence,
        remarks=tuple(_noise_remarks(findings, None)),
        next_steps=tuple(_advice(findings)),
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
        remarks=tuple(_noise_remarks(findings, None)),
        next_steps=("Run the study's command with job=design: it goes on where it stopped.",),
    )


def _dimensions(task: ProxyTask) -> dict[str, Override]:
    """The dimensions that the task reduces, by name."""
    reduced: dict[str, Override] = {n: getattr(task, n) for n in SHORT_NAMES if getattr(task, n) != 1.0}
    if "image_size" in reduced:
        reduced["image_mode"] = task.image_mode
    return reduced


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


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
