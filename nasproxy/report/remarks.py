"""Remarks on the limits of a verdict, each a title and a few sentences."""

from collections.abc import Iterator

from nasproxy.cost.account import Cost
from nasproxy.report import baselines, confirmation_section, wording
from nasproxy.report.added_references import list_additions
from nasproxy.report.wording import Remark
from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.study_results import Purpose, StudyResults, read_criterion, read_target
from nasproxy.statistics.criteria.alpha_spending import MARGIN
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau, tau_in_better_half
from nasproxy.trials.overrides import Override
from nasproxy.trials.proxy_task import SHORT_NAMES, ProxyTask
from nasproxy.trials.records import Cause

MUCH_LESS = 0.2
"""Difference between tau on all models and tau on the better half from which on a remark is made."""
FEW_MODELS = 20


def warn_of_vertex_practice(results: StudyResults) -> Remark | None:
    """Warn if the study follows the cloud tool in all of selection, criterion and order of tasks; else return None."""
    judged = [task for task in results.tasks.values() if task.judged_by == results.judged_by]
    is_its_way = results.is_spread and results.policy == "sequential" and any(map(is_first_crossing, judged))
    if not is_its_way:
        return None
    return Remark(
        "Judged the cloud tool's way: do not rest a search on this.",
        "Reference models chosen for their spread, acceptance at the first crossing, one proxy task after the other. "
        "On published learning curves of 10 models up to 76 % of such acceptances, by data set, were proxies whose "
        "true tau lay more than 0.1 below the target; with random reference models up to 39 %. To know, run the study "
        "under another name without experiment=vertex_baseline: random reference models, and the default criterion.",
    )


def is_first_crossing(task: TaskState) -> bool:
    """Return whether the task was judged by the first crossing of the target."""
    return str(read_criterion(task).get("_target_", "")).endswith("FirstCrossing")


def remark_on_verdict(
    results: StudyResults, best: TaskState, final_step: int, found: RankCorrelation | None
) -> Iterator[Remark]:
    """List the limits of an accepted proxy task's verdict, the most important first."""
    wanted = read_target(best)
    yield from confirmation_section.warn_of_confirmation(results, best)
    waiting = sum(task.stopping_state is None for task in results.tasks.values())
    if waiting:
        yield Remark(
            "The search is not finished.", f"{wording.format_count(waiting, 'proxy task')} not yet judged to the end."
        )
    if best.stopping_state is StoppingState.MET_ACCURACY:
        yield Remark(
            "Accepted for its score, not for its ranks.",
            "The models' median score reached proxy_search.desired_score; tau did not decide.",
        )
    if found is not None:
        yield _sampling_remark(found, wanted)
    if is_first_crossing(best):
        yield _crossing_remark(results, best)
    if isinstance(alpha := read_criterion(best).get("alpha"), float) and wanted is not None and not results.is_spread:
        yield Remark(
            "The error is stated.",
            f"Were its true tau {wanted - MARGIN:.2f} throughout, a proxy task would be accepted at any check of any "
            f"task of one grid with a probability of {alpha:g} at most; a grid that grew, or a sweep, spends more.",
        )
    if best.added:
        yield _added_remark(results, best)
    if results.is_spread:
        yield _spread_remark()
    if results.policy == "sequential" and len(results.tasks) > 1:
        yield _sequential_remark(results, best)
    yield from confirmation_section.remark_on_confirmation(results, best)
    yield from remark_on_noise(results, found)
    yield from remark_on_retries(results)
    yield from _better_half_remark(results, best, final_step)
    yield from baselines.remark_on_baselines(results, best, final_step)
    yield from _data_remark(best, final_step)
    yield Remark(
        "What the seconds are.",
        "Training time leaves validation out. All costs counted is the time of the trials' processes: validation, "
        "start-up and lost work too. Both count each device of a training, and were taken with trials side by side on "
        "this study's machines, and one seed a model.",
    )


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
        f"{wording.format_interval(found.low, found.high)}{misses}. The interval makes no allowance for having "
        f"chosen among "
        f"checks and proxy tasks. The p-value speaks against unrelated rankings, not for the target.",
    )


def _crossing_remark(results: StudyResults, best: TaskState) -> Remark:
    looks, judged = len(best.checks), len(results.tasks)
    return Remark(
        "A single crossing was enough.",
        f"The target was met at check {looks}, the first to reach it. Of "
        f"{wording.format_count(judged, 'proxy task')} judged, "
        f"{best.name} is the cheapest that met it. Every check and every task is another chance to cross by "
        f"luck, and the first to cross looks better than it is. With 10 random models and 16 checks on published "
        f"learning curves, up to 39 % of such acceptances, by data set, had a true tau more than 0.1 below the target.",
    )


def _added_remark(results: StudyResults, best: TaskState) -> Remark:
    selected = len(best.keys) - len(best.added)
    seconds = sum(model.train_seconds for model in best.added)
    own = [addition for addition in list_additions(results) if addition.task == best.name and not addition.is_last]
    waiting = (
        f" To wait instead, for a verdict in about twice the training time, would have cost the search of "
        f"{results.search_trials:,} models {wording.format_duration(own[0].waiting_seconds)}."
        if own
        else ""
    )
    return Remark(
        "Reference models were added.",
        f"Undecided on {wording.format_count(selected, 'model')}, it was judged on {len(best.keys)} in the end; the "
        f"{wording.format_count(len(best.added), 'full training')} of random models that this took cost "
        f"{wording.format_duration(seconds)}.{waiting} Each addition stands under Costs.",
    )


def _spread_remark() -> Remark:
    return Remark(
        "The reference models were chosen for their spread.",
        "That makes them easier to rank than the models a search meets: on published learning curves it raised "
        "tau by 0.1 to 0.35 in the first fifth of training. By the first crossing up to 76 % of acceptances, by data "
        "set, then had a true tau more than 0.1 below the target, and by a stricter rule still up to 14 %.",
    )


def _sequential_remark(results: StudyResults, best: TaskState) -> Remark:
    before = {task.name for task in results.tasks.values() if task.number < best.number}
    proxies = [trial for trial in results.trials.values() if trial.stage is Purpose.PROXY_SEARCH]
    spent, early = Cost.of(proxies), Cost.of([trial for trial in proxies if trial.task in before])
    where = (
        f"{wording.format_duration(early.train_seconds)} of {wording.format_duration(spent.train_seconds)} of "
        f"proxy training went to "
        f"{wording.format_count(len(before), 'task')} listed before {best.name}, and a race would have ended them when "
        f"{best.name} was accepted"
        if before
        else f"it was least here, since {best.name} stands first"
    )
    return Remark(
        "The proxy tasks were judged one after the other.",
        f"That changes no single verdict, but the price hangs on the order of the grid: {where}.",
    )


def remark_on_noise(results: StudyResults, found: RankCorrelation | None) -> Iterator[Remark]:
    """Remark on seed noise that limits the ranking."""
    ceiling = results.ceiling
    if ceiling is not None and found is not None and found.tau > ceiling.tau:
        yield Remark(
            "Tau lies above the noise ceiling.",
            f"Seed noise lets even a perfect proxy expect {wording.format_tau(ceiling.tau)} on these models: "
            f"part of the "
            f"{wording.format_tau(found.tau)} is luck.",
        )
    if results.range is not None and not results.range.is_usable:
        yield Remark("The reference scores lie close together.", f"{_sentence(results.range.message)}")
    measured = results.measured
    if measured is not None and not measured.verdict.is_good:
        yield Remark("Training is noisy.", " ".join(measured.verdict.advice))


def remark_on_retries(results: StudyResults) -> Iterator[Remark]:
    """Remark on retries of trials that ran out of memory or diverged."""
    trained = {key: trial for key, trial in results.trials.items() if trial.record.retries}
    followed = {by.key for trial in trained.values() for by in trial.record.retries}
    causes = [{by.cause for by in trial.record.retries} for key, trial in trained.items() if key not in followed]
    oom, nan = (sum(cause in of for of in causes) for cause in (Cause.OOM, Cause.NAN))
    if oom:
        yield Remark(
            "Some models did not fit into memory at once.",
            f"{wording.format_count(oom, 'trial')} ran out of memory and began anew with smaller micro-batches: "
            f"as many "
            f"images a step, on the same schedule, but statistics of batch norm are taken over a micro-batch, so that "
            f"their scores may differ a little from what whole batches give. The list of trials names them.",
        )
    if nan:
        yield Remark(
            "Some models trained by another recipe.",
            f"{wording.format_count(nan, 'trial')} diverged and began anew with a lower learning rate or "
            f"clipped gradients "
            f"(failures.on_nan): a search must do the same with such models for its ranks to be these.",
        )


def _better_half_remark(results: StudyResults, best: TaskState, final_step: int) -> Iterator[Remark]:
    scores = results.scores_at(best, final_step)
    whole, half = scores.measure(kendall_tau), scores.measure(tau_in_better_half)
    if half is not None and whole is not None and half.tau < whole.tau - MUCH_LESS:
        yield Remark(
            "It tells good from bad better than best from good.",
            f"Among the better half of the models tau is {wording.format_tau(half.tau)} "
            f"({wording.format_count(half.n, 'model')}): "
            f"train several of a search's best models fully, not one.",
        )


def _data_remark(best: TaskState, final_step: int) -> Iterator[Remark]:
    reduced = list_reduced_dimensions(best.proxy_task)
    if set(reduced) == {"data_fraction"}:
        yield Remark(
            "Less data does not make a step cheaper.",
            f"The number of steps is kept, so what is saved comes from stopping after {final_step:,} of "
            f"{best.total_steps:,} steps, not from training on {best.proxy_task.data_fraction:.0%} of the images.",
        )
    elif not reduced and not best.proxy_task.overrides:
        yield Remark("Nothing is reduced.", "What is saved comes from stopping early alone.")


def list_reduced_dimensions(task: ProxyTask) -> dict[str, Override]:
    """Return the dimensions in which a proxy task differs from full training, by name."""
    reduced: dict[str, Override] = {n: getattr(task, n) for n in SHORT_NAMES if getattr(task, n) != 1.0}
    if "image_size" in reduced:
        reduced["image_mode"] = task.image_mode
    if task.devices is not None:
        reduced["devices"] = task.devices
    return reduced


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
