"""Remarks on the limits of a verdict, each a title and a few sentences."""

from collections.abc import Iterator

from nasproxy.cost.account import Cost
from nasproxy.report import acceptance_errors, baselines, confirmation_section, headline_words, wording
from nasproxy.report.added_references import list_additions
from nasproxy.report.augmentation_remarks import remark_on_augmentation
from nasproxy.report.baseline_remarks import remark_on_baseline
from nasproxy.report.duration_remarks import remark_on_duration
from nasproxy.report.range_remarks import remark_on_sampling
from nasproxy.report.wording import Remark
from nasproxy.stages.headline import Headline
from nasproxy.stages.proxy_search.state import StoppingState, TaskState
from nasproxy.stages.study_results import Purpose, StudyResults, read_criterion, read_target
from nasproxy.statistics.acceptance import MARGIN
from nasproxy.statistics.rank_correlation import RankCorrelation, kendall_tau, tau_in_better_half
from nasproxy.trials.objective import describe_opposite_direction, has_opposite_direction
from nasproxy.trials.overrides import Override
from nasproxy.trials.proxy_task import SHORT_NAMES, ProxyTask
from nasproxy.trials.records import Cause

BETTER_HALF_DROP = 0.2
"""Difference between tau on all models and tau on the better half from which on a remark is made."""


def warn_of_vertex_practice(results: StudyResults) -> Remark | None:
    """Warn if the study follows Vertex AI NAS in all of selection, criterion and order of tasks; else return None."""
    judged = [task for task in results.tasks.values() if task.judged_by == results.judged_by]
    follows_vertex = results.is_spread and results.policy == "sequential" and any(map(is_first_crossing, judged))
    if not follows_vertex:
        return None
    return Remark(
        "Judged by the rules of Vertex AI NAS: not reliable enough to base a search on.",
        "Reference models were selected for spread, proxy tasks were judged sequentially and accepted at the first "
        "crossing of the target. On published learning curves with 10 models, up to 76 % of such acceptances, by data "
        "set, were proxy tasks whose true tau lay more than 0.1 below the target; with random reference models up to "
        "39 %. To check, run the study under another name without experiment=vertex_baseline: with random reference "
        "models and the default criterion.",
    )


def warn_of_direction(results: StudyResults) -> Remark | None:
    """Warn if the full trainings of all references end worse than they began; else return None."""
    keys = [reference.key for reference in results.references if reference.key in results.trials]
    curves = [[check.score for check in results.trials[key].record.checks] for key in keys]
    if not has_opposite_direction(curves, results.objective):
        return None
    described = describe_opposite_direction(len(curves), results.objective)
    return Remark("The metric may have the wrong direction.", f"{described[0].upper()}{described[1:]}.")


def remark_on_damage(results: StudyResults) -> Iterator[Remark]:
    """List the trials whose files cannot be read."""
    if results.damaged:
        reasons = "; ".join(results.damaged.values())
        yield Remark(
            f"{len(results.damaged)} of the trials cannot be read and count as pending.",
            f"{reasons}. They begin again when the study's command is run again.",
        )


def is_first_crossing(task: TaskState) -> bool:
    """Return whether the task was judged by the first crossing of the target."""
    return str(read_criterion(task).get("_target_", "")).endswith("FirstCrossing")


def remark_on_verdict(results: StudyResults, best: TaskState, final_step: int, shown: Headline) -> Iterator[Remark]:
    """List the limits of an accepted proxy task's verdict, the most important first."""
    wanted = read_target(best)
    yield from confirmation_section.warn_of_confirmation(results, best)
    waiting = sum(task.stopping_state is None for task in results.tasks.values())
    if waiting:
        yield Remark(
            "The proxy search is not finished.",
            f"{wording.format_count(waiting, 'proxy task')} not yet judged to the end.",
        )
    if best.stopping_state is StoppingState.MET_ACCURACY:
        yield Remark(
            "Accepted by score, not by rank correlation.",
            "The models' median score reached proxy_search.desired_score; tau was not tested.",
        )
    yield from headline_words.remark_on_bound(shown, is_spread=results.is_spread)
    if is_first_crossing(best):
        yield _remark_on_first_crossing(results, best)
    if isinstance(alpha := read_criterion(best).get("alpha"), float) and wanted is not None and not results.is_spread:
        yield Remark(
            f"Stated error rate: at most {alpha:g}.",
            f"This bounds the probability that any proxy task of one grid whose true tau is {wanted - MARGIN:.2f} at "
            f"every check is accepted at any of its checks. Extending the grid later raises the "
            f"total error rate; the jobs of a sweep count as one grid.",
        )
    yield from acceptance_errors.remark_on_errors(results, best)
    if best.added:
        yield _remark_on_additions(results, best)
    if results.is_spread:
        yield _remark_on_spread()
    if results.policy == "sequential" and len(results.tasks) > 1:
        yield _remark_on_sequential_policy(results, best)
    yield from confirmation_section.remark_on_confirmation(results, best)
    yield from remark_on_study(results, shown.correlation)
    yield from remark_on_retries(results)
    yield from _remark_on_better_half(results, best, final_step)
    yield from baselines.remark_on_baselines(results, best, final_step)
    yield from _remark_on_reduction(best, final_step)
    yield Remark(
        "How time is measured.",
        "Training time excludes validation. Wall time is that of the trials' processes, including validation, "
        "start-up and lost work. Both are multiplied by the devices of a training, and were measured with trials "
        "running side by side on this study's machines, with one seed per model.",
    )


def _remark_on_first_crossing(results: StudyResults, best: TaskState) -> Remark:
    looks, judged = len(best.checks), len(results.tasks)
    return Remark(
        "Stopping at the first crossing is optimistically biased.",
        f"The proxy task was accepted at check {looks}, the first whose tau reached the target. It is the cheapest of "
        f"{wording.format_count(judged, 'judged proxy task')} to do so, and every check of every task is another "
        f"chance to cross by luck. With 10 random models and 16 checks on published learning curves, up to 39 % of "
        f"such acceptances, by data set, had a true tau more than 0.1 below the target.",
    )


def _remark_on_additions(results: StudyResults, best: TaskState) -> Remark:
    selected = len(best.keys) - len(best.added)
    seconds = sum(model.train_seconds for model in best.added)
    own = [addition for addition in list_additions(results) if addition.task == best.name and not addition.is_last]
    waiting = (
        f" Waiting instead, for a verdict after about twice the training time, would have cost the search of "
        f"{results.decided_trials:,} models {wording.format_duration(own[0].waiting_seconds)}."
        if own
        else ""
    )
    return Remark(
        f"Reference models added: {len(best.added)}.",
        f"The look on {wording.format_count(selected, 'model')} was inconclusive; the verdict rests on "
        f"{len(best.keys)}. The {wording.format_count(len(best.added), 'full training')} of random models took "
        f"{wording.format_duration(seconds)} of training.{waiting} Each addition is listed under Costs.",
    )


def _remark_on_spread() -> Remark:
    return Remark(
        "Reference models selected for spread bias tau upwards.",
        "They are easier to rank than the models of a search: on published learning curves this selection raised "
        "tau by 0.1 to 0.35 in the first fifth of training. Up to 76 % of acceptances at the first crossing, by data "
        "set, then had a true tau more than 0.1 below the target, and up to 14 % with a stricter criterion.",
    )


def _remark_on_sequential_policy(results: StudyResults, best: TaskState) -> Remark:
    before = {task.name for task in results.tasks.values() if task.number < best.number}
    proxies = [trial for trial in results.trials.values() if trial.purpose == Purpose.PROXY_SEARCH]
    spent, early = Cost.of(proxies), Cost.of([trial for trial in proxies if trial.task in before])
    where = (
        f"{wording.format_duration(early.train_seconds)} of {wording.format_duration(spent.train_seconds)} of "
        f"proxy training went to {wording.format_count(len(before), 'task')} listed before {best.name}; a race would "
        f"have ended when {best.name} was accepted"
        if before
        else f"it is lowest here, since {best.name} is listed first"
    )
    return Remark(
        "Proxy tasks were judged sequentially.",
        f"This changes no verdict, but the cost depends on the order of the grid: {where}.",
    )


def remark_on_study(results: StudyResults, found: RankCorrelation | None) -> Iterator[Remark]:
    """Remark on what limits any proxy task: seed noise, the reference models, what is searched, long trials."""
    ceiling = results.ceiling
    if ceiling is not None and found is not None and found.tau > ceiling.tau:
        yield Remark(
            f"Tau exceeds the noise ceiling ({wording.format_tau(found.tau)} vs {wording.format_tau(ceiling.tau)}).",
            "Given seed noise, even a perfect proxy is expected to reach only the ceiling on these models: part of "
            "this tau is chance.",
        )
    if results.range is not None and not results.range.is_usable:
        yield Remark("Reference scores are too close together.", _write_sentence(results.range.message))
    yield from remark_on_sampling(results, results.best)
    yield from remark_on_baseline(results)
    yield from remark_on_augmentation(results)
    yield from remark_on_duration(results)
    measured = results.measured
    if measured is not None and not measured.verdict.is_good:
        yield Remark("Training is noisy.", " ".join(measured.verdict.advice))
    elif not results.has_low_noise:
        yield Remark(
            "Seed noise is large.",
            f"The standard deviation over seeds is {wording.format_number(results.noise_ratio, 2)} times that between "
            f"reference models, limit {results.max_noise_ratio:g} (variance.max_noise_ratio): make scores less noisy, "
            f"or widen the search space.",
        )


def remark_on_retries(results: StudyResults) -> Iterator[Remark]:
    """Remark on retries of trials that ran out of memory or diverged."""
    trained = {key: trial for key, trial in results.trials.items() if trial.record.retries}
    followed = {by.key for trial in trained.values() for by in trial.record.retries}
    causes = [{by.cause for by in trial.record.retries} for key, trial in trained.items() if key not in followed]
    oom, nan = (sum(cause in of for of in causes) for cause in (Cause.OOM, Cause.NAN))
    if oom:
        yield Remark(
            f"Retries after out of memory: {wording.format_count(oom, 'trial')}.",
            "They were retried with smaller micro-batches: the same images per step and the same schedule, but "
            "batch-norm statistics are computed per micro-batch, so scores may differ slightly from those of whole "
            "batches. The list of trials names them.",
        )
    if nan:
        yield Remark(
            f"Retries after divergence: {wording.format_count(nan, 'trial')}.",
            "They were retried with a lower learning rate or clipped gradients (failures.on_nan); the ranking holds "
            "for a search only if it treats such models in the same way.",
        )


def _remark_on_better_half(results: StudyResults, best: TaskState, final_step: int) -> Iterator[Remark]:
    scores = results.scores_at(best, final_step)
    whole, half = scores.measure(kendall_tau), scores.measure(tau_in_better_half)
    if half is not None and whole is not None and half.tau < whole.tau - BETTER_HALF_DROP:
        yield Remark(
            f"Ranking is weaker among the top half (tau {wording.format_tau(half.tau)}).",
            f"On all models tau is {wording.format_tau(whole.tau)}, on the better half "
            f"({wording.format_count(half.n, 'model')}) {wording.format_tau(half.tau)}: train several of a search's "
            f"best models fully, not one.",
        )


def _remark_on_reduction(best: TaskState, final_step: int) -> Iterator[Remark]:
    reduced = list_reduced_dimensions(best.proxy_task)
    if set(reduced) == {"data_fraction"}:
        yield Remark(
            "Less data does not make a step cheaper.",
            f"The number of steps is unchanged: savings come from stopping after {final_step:,} of "
            f"{best.total_steps:,} steps, not from training on {100 * best.proxy_task.data_fraction:.0f} % of the "
            f"images.",
        )
    elif not reduced and not best.proxy_task.overrides:
        yield Remark(
            "Model and data are unchanged; savings come from early stopping.",
            f"Trainings stop after {final_step:,} of {best.total_steps:,} steps.",
        )


def list_reduced_dimensions(task: ProxyTask) -> dict[str, Override]:
    """Return the dimensions in which a proxy task differs from full training, by name."""
    reduced: dict[str, Override] = {n: getattr(task, n) for n in SHORT_NAMES if getattr(task, n) != 1.0}
    if "image_size" in reduced:
        reduced["image_mode"] = task.image_mode
    if task.devices is not None:
        reduced["devices"] = task.devices
    return reduced


def _write_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
