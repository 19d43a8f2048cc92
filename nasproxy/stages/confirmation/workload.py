"""Planned work of the confirmation. Pure functions."""

from nasproxy.stages.proxy_search.expected_acceptance import ExpectedAcceptance
from nasproxy.stages.proxy_search.workload import RaceWork
from nasproxy.stages.workload import Models, StageWork, Work, count_checks, count_whole


def plan_confirmation(run: RaceWork, expected: ExpectedAcceptance, fresh: Models) -> StageWork:
    """Plan the confirmation runs of the accepted task.

    In the minimum case no task is accepted. In the maximum case each task is accepted at its last check but one, and
    all but one are contradicted.

    Args:
        run: Proxy tasks and models.
        expected: Expected end of the proxy search.
        fresh: Fresh architectures that are trained fully and under the proxy task.
    """
    n = len(run.models)
    full = count_whole(fresh, None, run.full_steps, len(fresh))

    def count_runs(name: str, step: int, models: int) -> Work:
        # A task that was accepted at its last step needs no confirmation runs.
        steps = run.task_speeds[name].check_steps
        trials, checks = 0 if step == steps[-1] else models + len(fresh), count_checks(steps, step)
        return Work(run.models, name, trials, trials, trials * step, trials * checks)

    most = n + len(run.added_at_most)
    latest = [count_runs(name, speed.check_steps[-2:][0], most) for name, speed in run.task_speeds.items()]
    middle = () if expected.step is None else (count_runs(expected.task, expected.step, n + expected.added), full)
    return StageWork((), middle, (*latest, full))
