"""The ladder and the comparison of strategies as a stage of jobs; it trains nothing."""

from nasproxy.stages.definition import StageContext, StageDefinition
from nasproxy.stages.proxy_search.settings import ProxySearchSettings, SearchSettings
from nasproxy.stages.references.state import read_selection
from nasproxy.stages.worth.evidence import collect_curves
from nasproxy.stages.worth.settings import LadderSettings
from nasproxy.stages.worth.stage import compare, describe_ladder, find_ladder
from nasproxy.stages.worth.state import LADDER, STATE, LadderState, WorthState, read_worth

NAME = "worth"
SPREAD = (
    "the reference models were selected for their spread, so they do not rank as the random candidates of a search do: "
    "begin another study with selection=random study=NAME"
)


def run(context: StageContext) -> WorthState:
    """Design the ladder and compare the strategies for the search, from the present results of the study."""
    design, study = context.design, context.study
    objective, trials = design.recipe.objective, design.settings(SearchSettings).trials
    max_risk = design.settings(LadderSettings).max_risk
    if not design.selection.is_random:
        selection = read_selection(study)
        models = len(selection.references or ()) if selection is not None else 0
        ladder = LadderState(objective.name, objective.mode, max_risk, models, SPREAD)
        worth = WorthState(trials, models, SPREAD)
    else:
        tolerance = design.settings(ProxySearchSettings).time_tolerance
        curves = collect_curves(study, objective, time_tolerance=tolerance)
        found = find_ladder(curves, max_risk)
        ladder = describe_ladder(found, curves, objective, max_risk=max_risk, trials=trials)
        worth = compare(curves, found, objective, trials=trials, proxy_task=curves.proxy_task)
    with context.hold(NAME):
        study.write(LADDER, ladder)
        study.write(STATE, worth)
    return worth


WORTH = StageDefinition(
    NAME,
    run,
    read_worth,
    requires=("references", "proxy_search"),
    settings={"ladder": LadderSettings},
)
