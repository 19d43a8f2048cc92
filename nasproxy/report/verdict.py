"""The verdict of a study in words: the proxy task to use, its overrides, and how reliable the verdict is."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

from nasproxy.cost.account import Cost, Saving, measure_train_saving, measure_wall_saving
from nasproxy.report import acceptance_errors, confirmation_section, headline_words, strategies, wording
from nasproxy.report.none_accepted import NoneAccepted
from nasproxy.report.remarks import (
    list_reduced_dimensions,
    remark_on_damage,
    remark_on_retries,
    remark_on_study,
    remark_on_verdict,
    warn_of_direction,
    warn_of_vertex_practice,
)
from nasproxy.report.study_verdict import StudyVerdict
from nasproxy.stages.headline import Headline, find_headline
from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.study_results import StudyResults, find_decisive_check
from nasproxy.trials.overrides import Override
from nasproxy.trials.proxy_task import ProxyTask

CONFIG_PREFIXES = {"model.": "search_space.model."}
"""Prefixes of a trial's settings that differ in the configuration, and their prefix there."""
UNQUOTED_STRING = re.compile(r"(?!(null|true|false|nan|inf)$)[A-Za-z_][A-Za-z0-9_./-]*", re.IGNORECASE)
"""Text that Hydra's grammar reads as a string without quotes."""


def judge_study(results: StudyResults) -> StudyVerdict:
    """Summarise the results of a study so far."""
    verdict = _describe_results(results)
    remarks = (*verdict.remarks, *remark_on_damage(results))
    verdict = replace(verdict, remarks=remarks, recommendation=strategies.recommend(results) or "")
    warning = warn_of_direction(results)
    return verdict if warning is None else replace(verdict, warning=warning)


def _describe_results(results: StudyResults) -> StudyVerdict:
    best = results.best
    if best is not None and best.final_step is not None:
        return _describe_accepted(results, best, best.final_step)
    if any(task.stopping_state is None for task in results.tasks.values()):
        return _describe_unfinished_search(results)
    return _describe_none_accepted(results) if results.tasks else _describe_unfinished_study(results)


def write_overrides(task: ProxyTask, final_step: int) -> list[str]:
    """Write the command-line overrides that train a search's models under this proxy task up to its final step.

    They start from `proxy=full`, which resets every axis of a grid.
    """
    dimensions = {f"proxy.{name}": value for name, value in list_reduced_dimensions(task).items()}
    others = {path: value for path, value in task.overrides.items() if path != "training.total_steps"}
    moved = {_to_config_path(path): value for path, value in others.items()}
    settings = {**dimensions, **moved, "training.total_steps": final_step}
    return ["proxy=full", *(shlex.quote(f"{path}={_write_literal(value)}") for path, value in settings.items())]


def _describe_accepted(results: StudyResults, best: TaskState, final_step: int) -> StudyVerdict:
    check = find_decisive_check(best)
    shown = find_headline(best, results.confirmation_of(best))
    train, wall = measure_train_saving(results, best), measure_wall_saving(results, best)
    by_score = best.stopping_state is StoppingState.MET_ACCURACY
    met = (
        f"Target score reached (median {wording.format_number(check.median_score)})"
        if by_score and check
        else "Acceptance threshold met"
    )
    numbers = headline_words.write_numbers(shown, is_spread=results.is_spread)
    confirmation = results.confirmation_of(best)
    outcome = None if confirmation is None else confirmation.outcome
    qualified = confirmation_section.qualify_acceptance(confirmation)
    where = f"after {final_step:,} of {best.total_steps:,} steps"
    cost = f"; {wording.write_saving(train.ratio, 'by training time')}" if train else ""
    by_wall_time = f" ({wording.write_saving(wall.ratio, 'by wall time', than='')})" if wall else ""
    return StudyVerdict(
        is_accepted=True,
        headline=f"Accepted{qualified}: {best.name}, grade {shown.grade.value}, stopped {where}",
        sentence=(
            f"{met}. {numbers[:1].upper()}{numbers[1:]}{cost}{by_wall_time}.{headline_words.write_raced(shown)}"
            f"{confirmation_section.write_confirmation(results, best)}"
        ),
        facts=tuple(_list_facts(results, best, final_step, shown, train, wall)),
        use="" if results.is_replayed else " ".join(write_overrides(best.proxy_task, final_step)),
        remarks=tuple(remark_on_verdict(results, best, final_step, shown)),
        warning=warn_of_vertex_practice(results),
        confirmation=outcome,
        grade=shown.grade,
        tau=None if shown.correlation is None else shown.correlation.tau,
        bound=shown.bound,
        raced_tau=None if shown.raced is None else shown.raced.tau,
        target=shown.target,
    )


def _list_facts(
    results: StudyResults,
    best: TaskState,
    final_step: int,
    shown: Headline,
    train: Saving | None,
    wall: Saving | None,
) -> Iterator[tuple[str, str]]:
    confirmation = results.confirmation_of(best)
    fresh = None if confirmation is None or confirmation.fresh is None else confirmation.fresh.result
    yield from headline_words.list_facts(shown, fresh, is_spread=results.is_spread)
    check, found = find_decisive_check(best), shown.correlation
    if check is not None and check.needed is not None:
        yield "acceptance threshold at this check", wording.format_tau(check.needed)
    yield from acceptance_errors.list_facts(results, best)
    bounds = results.lost_bounds(best, final_step)
    if bounds is not None:
        lost = wording.format_count(bounds.lost, "lost model")
        yield f"tau-b bounds over any scores of {lost}", wording.format_interval(bounds.low, bounds.high)
    if found is not None:
        yield "p-value (H0: tau = 0)", wording.format_p_value(found.p_value)
        yield "reference models", wording.format_number(found.n)
    yield "stopped at step", f"{final_step:,} of {best.total_steps:,}"
    for name, saving in (("training time", train), ("wall time", wall)):
        if saving is not None:
            seconds = (
                f"{wording.format_duration(saving.full_seconds)} \N{RIGHTWARDS ARROW} "
                f"{wording.format_duration(saving.proxy_seconds)}"
            )
            yield f"speedup per model, {name}", f"{wording.format_speedup(saving.ratio)} ({seconds})"
    spent = Cost.of(list(results.trials.values()))
    for name, saving, seconds_spent in (
        ("training time", train, spent.train_seconds),
        ("wall time", wall, spent.wall_seconds),
    ):
        if saving is not None:
            models = saving.break_even(seconds_spent)
            yield (
                f"break-even with full training, {name}",
                "never" if models is None else wording.format_count(models, "searched model"),
            )


def _describe_unfinished_search(results: StudyResults) -> StudyVerdict:
    judged = [task for task in results.tasks.values() if task.stopping_state is not None]
    return StudyVerdict(
        is_accepted=False,
        headline="Proxy search not finished: no proxy task accepted yet",
        sentence=" ".join(
            [
                f"{len(judged)} of {wording.format_count(len(results.tasks), 'proxy task')} judged to the end, none "
                f"accepted.",
                *confirmation_section.list_contradictions(results),
            ]
        ),
        next_steps=("Run the study's command again to resume it.",),
    )


def _describe_none_accepted(results: StudyResults) -> StudyVerdict:
    shown = NoneAccepted(results)
    return StudyVerdict(
        is_accepted=False,
        headline=shown.headline,
        sentence=shown.sentence,
        remarks=(*remark_on_study(results, None), *remark_on_retries(results)),
        next_steps=tuple(shown.list_advice()),
        warning=warn_of_vertex_practice(results),
    )


def _describe_unfinished_study(results: StudyResults) -> StudyVerdict:
    done = [
        ("the variance measurement", results.measured is not None),
        ("the selection of reference models", bool(results.references)),
        ("the proxy search", False),
    ]
    there = [name for name, is_done in done if is_done]
    missing = [name for name, is_done in done if not is_done]
    so_far = f"Done: {' and '.join(there)}. " if there else ""
    return StudyVerdict(
        is_accepted=False,
        headline="The study is not finished",
        sentence=f"{so_far}Missing: {', '.join(missing)}.",
        remarks=(*remark_on_study(results, None), *remark_on_retries(results)),
        next_steps=("Run the study's command with job=design to resume it.",),
    )


def _to_config_path(path: str) -> str:
    return next((new + path[len(old) :] for old, new in CONFIG_PREFIXES.items() if path.startswith(old)), path)


def _write_literal(value: Override) -> str:
    """Write a value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return value if UNQUOTED_STRING.fullmatch(value) else f'"{escaped}"'
    return f"{value:.12g}" if isinstance(value, float) else str(value)
