"""The sections of a report after the verdict, as text, tables and figures."""

from collections.abc import Iterator, Mapping

from nasproxy.cost.estimate import Estimate
from nasproxy.errors import TooFewTrialsError
from nasproxy.report import acceptance_errors, estimate_tables, range_remarks, wording, worth_section
from nasproxy.report.added_references import list_additions
from nasproxy.report.content import Block, Bullets, Figure, FigureGrid, Heading, Paragraph, Section, ShownTable
from nasproxy.report.figures import gallery
from nasproxy.report.schedule_section import write_schedules
from nasproxy.report.search_prediction import SearchPrediction
from nasproxy.report.tables import Table
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.stages.references.count_decision import write_decision
from nasproxy.stages.study_results import StudyResults
from nasproxy.stages.variance.state import VarianceResult
from nasproxy.statistics.ceiling import compare_spread_with_noise

Tables = Mapping[str, Table]
PERCENT = "\N{NO-BREAK SPACE}%"


def make_sections(
    results: StudyResults, expected: SearchPrediction | None, estimate: Estimate | None, tables: Tables
) -> tuple[Section, ...]:
    """Make all sections in order.

    Args:
        results: The study's results so far.
        expected: Prediction for a search; None without an accepted proxy task.
        estimate: Cost estimate that was made before the study, if any.
        tables: The report's tables by name.
    """
    seed_noise = "Seed noise"
    if results.measured is not None:
        seed_noise += f": SD {wording.format_number(results.measured.deviation.sd, 3)}"
    found = [
        Section("variance", "Seed noise", seed_noise, tuple(_write_variance(results))),
        Section("references", "Reference models", "Reference models", tuple(_write_references(results))),
        Section("proxy-tasks", "Proxy tasks", "Proxy tasks", tuple(_write_proxy_tasks(results, tables))),
        Section("costs", "Costs", "Cost of the study", tuple(_write_costs(results, estimate, tables))),
        Section("settings", "Settings", "Settings", tuple(_write_settings(tables))),
    ]
    worth = worth_section.make_section(results)
    if worth is not None:
        found.insert(0, worth)
    if expected is None:
        return tuple(found)
    title = f"Predicted cost and outcome of a search of {wording.format_count(expected.trials, 'model')}"
    return (Section("search", "Search", title, tuple(_write_search(expected, tables))), *found)


def _write_search(expected: SearchPrediction, tables: Tables) -> Iterator[Block]:
    if tables["search"].rows:
        yield ShownTable("search")
    for sentence in expected.sentences:
        yield Paragraph(sentence)


def _write_variance(results: StudyResults) -> Iterator[Block]:
    measured, state = results.measured, results.variance
    if measured is None:
        why = "" if state is None else ": no model has been trained with all seeds"
        yield Paragraph(f"Not available yet{why}.", is_note=True)
    else:
        yield from _write_seed_noise(results, measured)
    if state is not None and state.trainable:
        drawn = wording.format_count(state.trainable, "candidate")
        yield Paragraph(f"{drawn} drawn before this model failed to train.")
    yield from write_schedules(results)
    ceiling = results.ceiling
    if ceiling is not None:
        tau = wording.format_tau(ceiling.tau)
        interval = f"95{PERCENT} confidence interval {wording.format_interval(ceiling.low, ceiling.high)}"
        yield Heading(f"Noise ceiling: tau {tau}, {interval}")
        yield Paragraph(
            f"A reference score comes from one training with one seed, so part of the reference ranking is chance. A "
            f"proxy that knew every model's true score would reach a tau of only about {tau} against it; a real proxy, "
            f"which is noisy too, reaches less. {100 * ceiling.reliability:.1f}{PERCENT} of the variance between "
            f"reference scores is not seed noise. The interval is based on few seeds and few models, and assumes that "
            f"the seed variance of one model holds for all."
        )


def _write_seed_noise(results: StudyResults, measured: VarianceResult) -> Iterator[Block]:
    deviation, found = measured.deviation, measured.verdict
    architecture = None if results.variance is None else results.variance.architecture
    sd, low, high = (wording.format_number(value, 3) for value in (deviation.sd, deviation.low, deviation.high))
    ratio = ""
    if results.noise_ratio is not None:
        ratio = (
            f" The seed SD is {wording.format_number(results.noise_ratio, 2)} times the SD between reference models "
            f"(limit {wording.format_number(results.max_noise_ratio, 2)})."
        )
    finding = (
        "Seed noise is within its limits."
        if results.has_low_noise
        else "Training is too noisy to rank models reliably."
    )
    yield Paragraph(
        f"One model ({wording.format_architecture(architecture or {})}) was trained with {deviation.n} seeds. Its "
        f"final scores have a standard deviation of {sd} (95{PERCENT} confidence interval {low} to {high}) and a "
        f"coefficient of variation of {wording.format_number(found.variation, 3)}; the mean roughness of its learning "
        f"curves is {wording.format_number(found.roughness, 3)} (0: no curve ever gets worse; 1: it loses its "
        f"whole range once).{ratio} {finding}"
    )
    if found.advice:
        yield Bullets(found.advice)
    yield Figure(
        "variance_learning_curves",
        "Learning curves of the same model with different seeds. Whether rankings are reliable depends on the seed SD "
        "relative to the spread between models.",
        is_medium=True,
    )


def _write_references(results: StudyResults) -> Iterator[Block]:
    selection = results.selection
    if selection is None:
        yield Paragraph("Not available yet.", is_note=True)
    else:
        yield Paragraph(_describe_selection(results))
        yield FigureGrid(
            tuple(
                Figure(gallery.name_selection(number), f"Iteration {number}, decided at step {iteration.until_step}.")
                for number, iteration in enumerate(selection.iterations, start=1)
            )
        )
    if not results.references:
        return
    if results.reference_count is not None:
        yield Heading("Number of reference models")
        yield Paragraph(write_decision(results.reference_count))
        yield ShownTable("reference_count")
    yield Heading(f"Full-training scores: {results.metric_label}")
    if results.range is not None:
        message, spread = results.range.message, _measure_spread_over_noise(results)
        noise = (
            ""
            if spread is None
            else (
                f" The SD of the better half of the scores is {wording.format_times(spread)} the seed SD; near 1 their "
                f"order is chance."
            )
        )
        is_passed = "passed" if results.range.is_usable else "not passed"
        yield Paragraph(f"Range check: {is_passed}. {_capitalise(message)}.{noise}")
    if sampling := range_remarks.write_sampling(results):
        yield Paragraph(sampling)
    if results.baseline_comparison is not None:
        yield Paragraph(f"Baseline: {results.baseline_comparison.message}")
    yield Figure(
        "reference_scores",
        "Full-training scores of the reference models with ±1 seed SD, and of the baseline model.",
        is_medium=True,
    )
    yield ShownTable("references")


def _describe_selection(results: StudyResults) -> str:
    assert results.selection is not None
    first = results.selection.iterations[0]
    candidates = wording.format_count(len(first.candidates), "random candidate")
    is_open = "" if results.references else " (not finished)"
    if first.fraction == 1.0:
        failed = f" {wording.format_count(len(first.failed), 'candidate')} of these failed." if first.failed else ""
        were = "was" if len(first.candidates) == 1 else "were"
        return f"{candidates} of the search space {were} trained fully, without a selection by score{is_open}.{failed}"
    removal = (
        "removing those with the most similar scores after each stage"
        if results.is_spread
        else "none removed for its score"
    )
    return f"{candidates} were trained in stages, {removal}, and the rest trained fully{is_open}."


def _measure_spread_over_noise(results: StudyResults) -> float | None:
    if results.seed_sd is None:
        return None
    try:
        scores = [results.objective.orient(reference.score) for reference in results.references]
        return compare_spread_with_noise(scores, results.seed_sd)
    except TooFewTrialsError:
        return None


def _write_proxy_tasks(results: StudyResults, tables: Tables) -> Iterator[Block]:
    if not results.tasks:
        yield Paragraph("Not available yet: no proxy task has been judged.", is_note=True)
        return
    yield ShownTable(
        "proxy_tasks",
        "At the deciding check of each proxy task, or its last one so far. Tau is Kendall's tau-b; CI: confidence "
        "interval; p: p-value for H0: tau = 0. Speedup: median full-training time of a model over its median "
        "proxy-training time up to this step.",
    )
    if tables["zero_cost"].rows:
        yield ShownTable(
            "zero_cost",
            "Zero-cost baselines: the same reference models, ranked without any training. A proxy task that ranks no "
            "better is not worth its trainings. Signs are kept: a tau below 0 means a reversed ranking.",
        )
    yield Paragraph(
        "Weighted tau gives more weight to the top ranks. Tau, top half: among the better half of the reference models "
        "only. Top-3 regret: score lost if only the proxy's best three models are trained fully.",
        is_note=True,
    )
    yield from acceptance_errors.write_errors(tables["acceptance_errors"])
    if tables["confirmations"].rows:
        yield from _write_confirmations()
    yield Figure(
        "proxy_tasks_overview",
        "Left: tau-b of every proxy task over rated training time (steps at the speed measured first, which decides "
        "the race), with outcomes. The dotted black line compares full training with its own final scores, on the same "
        "seeds, and is optimistic. Right: training time per model at the step where its proxy task ended.",
    )
    if tables["not_chosen"].rows:
        yield Heading(f"Why {'the others were not chosen' if tables['proxy_tasks'].emphasised else 'none was chosen'}")
        yield ShownTable(
            "not_chosen",
            "Training times in this table are rated: steps at the speed measured first, which decides the race.",
        )
    yield Paragraph(
        f"In the figures below, every dot is a look at tau, with its 95{PERCENT} confidence interval. The stepped line "
        f"is the acceptance threshold at each look, absent where no tau can be accepted; the dashed line, if any, is "
        f"the one-sided 95{PERCENT} lower confidence bound of tau at that look alone. Dotted vertical lines mark added "
        f"reference models with their number; the ring marks the deciding look.",
        is_note=True,
    )
    for row in tables["proxy_tasks"].rows:
        yield from _write_task(results, results.tasks[row["proxy_task"]], row["outcome"], row["is_accepted"])


def _write_confirmations() -> Iterator[Block]:
    yield Heading("Confirmation runs")
    yield Paragraph(
        f"The models of an accepted proxy task are trained once more from scratch, with a schedule that ends at the "
        f"step at which the proxy task was stopped, as in a search. The verdict is withdrawn if a one-sided test finds "
        f"their tau below the target. A confirmation is void, and counts neither for nor against the verdict, if all "
        f"models score exactly as in the proxy search, or if too many runs fail. Detectable tau: the true tau that "
        f"this test detects with 80{PERCENT} power; a true tau between it and the target may go undetected. Pooled tau "
        f"combines both trainings."
    )
    yield ShownTable("confirmations")


def _write_task(results: StudyResults, task: TaskState, outcome: str, is_accepted: bool) -> Iterator[Block]:
    yield Heading(task.name, badge=outcome, is_accepted=is_accepted)
    reason = "No look yet." if task.verdict is None else f"{_capitalise(task.verdict.reason)}."
    overrides = ""
    if task.proxy_task.overrides and not results.is_replayed:
        overrides = f" Overrides: {wording.format_architecture(task.proxy_task.overrides)}."
    yield Paragraph(reason + overrides)
    names = gallery.name_task(task)
    yield FigureGrid(tuple(Figure(name) for name in [*names[:2], *names[4:], *names[2:4]]))


def _write_costs(results: StudyResults, estimate: Estimate | None, tables: Tables) -> Iterator[Block]:
    if results.trials:
        yield ShownTable("costs")
        yield Paragraph(
            "Steps and training time are counted up to the last check of each trial, validation excluded. Wall time is "
            "that of the trials' processes, including start-up, validation and lost work; trials that run side by side "
            "each count in full. A trial shared by several stages counts in the first. Full-training equivalents are "
            "steps over those of a full training, whatever a step costs.",
            is_note=True,
        )
    else:
        yield Paragraph("No trial yet.", is_note=True)
    additions = tuple(addition.sentence(results.decided_trials) for addition in list_additions(results))
    if additions:
        yield Heading("Added reference models")
        searched = wording.format_count(results.decided_trials, "model")
        yield Paragraph(f"Cost, compared with that of waiting in a search of {searched}:")
        yield Bullets(additions)
    if tables["vertex_comparison"].rows:
        yield from _write_vertex_comparison(results)
    if tables["estimate"].rows and estimate is not None:
        yield Heading("Estimated and actual cost", anchor="estimate")
        yield ShownTable(
            "estimate",
            "Estimated before the first trial from a few steps of a few models, with the range in brackets. Added "
            "reference models count in the proxy search. Per step: actual device time over the estimate for the number "
            "of steps actually trained.",
        )
        for line in estimate_tables.write_assumptions(estimate):
            yield Paragraph(line, is_note=True)
    if tables["failures"].rows:
        yield Heading("Failures", anchor="failures")
        yield ShownTable("failures")


def _write_vertex_comparison(results: StudyResults) -> Iterator[Block]:
    limit = results.time_limit
    to_limit = "" if limit is None else f", or to the time limit of {wording.format_duration(limit)}"
    at_limit = "" if limit is None else ", or at the time limit"
    yield Heading("Comparison with Vertex AI NAS")
    yield Paragraph(
        f"Computed from the training times of this study; Vertex AI NAS was not run. Its procedure: 5 trainings for "
        f"the variance, a selection from 30 models for spread, then one proxy task after the other on "
        f"{min(10, len(results.references))} reference models. As it is: each round of the selection trains from "
        f"scratch, since only weights are restored, and every proxy task trains to the end{to_limit}, since its stop "
        f"message is never written. Faults fixed: trainings resume where they paused, and a proxy task stops at the "
        f"first check whose tau on this study's selected reference models reaches the target, or that is no cheaper "
        f"than the best so far{at_limit}."
    )
    yield ShownTable("vertex_comparison")
    yield Paragraph(
        "Training time only. Assumptions: its candidates train as fast as this study's reference models, trainings "
        "continue at the speed measured so far, and the number of checks is the same. At least (≥): "
        "it would have continued beyond what this study trained. A first crossing is also weaker evidence "
        "than this study's verdict, unless the study used it.",
        is_note=True,
    )


def _write_settings(tables: Tables) -> Iterator[Block]:
    if tables["settings"].rows:
        count = wording.format_count(len(tables["settings"].rows), "setting")
        yield ShownTable("settings", summary=f"Base configuration ({count})")
    else:
        yield Paragraph("Not on record.", is_note=True)
    if tables["rules"].rows:
        count = wording.format_count(len(tables["rules"].rows), "setting")
        yield ShownTable("rules", summary=f"Criterion and proxy search ({count})")


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]
