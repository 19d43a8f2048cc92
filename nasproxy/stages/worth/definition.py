"""The ladder and the comparison of strategies as a stage of jobs; it trains nothing."""

from nasproxy.stages.definition import Design, StageContext, StageDefinition
from nasproxy.stages.proxy_search.settings import ProxySearchSettings, SearchSettings
from nasproxy.stages.references.state import read_references
from nasproxy.stages.worth.evidence import collect_curves
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.stages.worth.stage import compare, describe_ladder, find_ladder, write_ladder
from nasproxy.stages.worth.state import LADDER, STATE, LadderState, WorthState, read_ladder, read_worth
from nasproxy.statistics.acceptance import MOST_MODELS
from nasproxy.storage.study_stores import StudyStore

NAME = "worth"
SPREAD = (
    "the reference models were selected for their spread, so they do not rank as the random candidates of a search do: "
    "begin another study with selection=random study=NAME"
)


def run(context: StageContext) -> WorthState | None:
    """Design the ladder and compare the strategies for the search, from the present results of the study.

    The jobs of a sweep leave this to its merge, which decides on the proxy tasks.

    Returns:
        The comparison; in a job of a sweep, the stored one, if there is one.
    """
    if context.is_judging:
        return read_worth(context.study)
    with context.hold(NAME):
        ladder, worth = _assess(context.design, context.study)
        if ladder != read_ladder(context.study):
            context.say(write_ladder(ladder))
        context.study.write(LADDER, ladder)
        context.study.write(STATE, worth)
    return worth


def _assess(design: Design, study: StudyStore) -> tuple[LadderState, WorthState]:
    objective, trials = design.recipe.objective, design.settings(SearchSettings).trials
    max_risk = design.settings(LadderSettings).max_risk
    if not design.selection.is_random:
        models = len(read_references(study))
        return LadderState(objective.name, objective.mode, max_risk, models, SPREAD), WorthState(trials, models, SPREAD)
    curves = collect_curves(study, objective, time_tolerance=design.settings(ProxySearchSettings).time_tolerance)
    found = find_ladder(curves, max_risk)
    most = min(MOST_MODELS, design.task_origin.architectures or MOST_MODELS)
    ladder = describe_ladder(found, curves, objective, max_risk=max_risk, trials=trials, most=most)
    return ladder, compare(curves, found, objective, trials=trials)


WORTH = StageDefinition(
    NAME,
    run,
    read_worth,
    requires=("references", "proxy_search"),
    settings={"ladder": LadderSettings},
)
