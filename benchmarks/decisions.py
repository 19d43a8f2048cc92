"""CPU time of the controller's decisions, without training: `python -m benchmarks.decisions`.

**judgement**: verdicts on the last check of every proxy task, with empty caches. **decision**: the controller's next
action at that check, including its record on disk. **search**: all decisions of the proxy search, check by check.
**replay**: selection of references and proxy search of a replayed study with a given number of trials on a synthetic
table, excluding the time to read the table; the time per trial must not increase with the number of trials.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.replay.backend import ReplayBackend
from nasproxy.execution.backends.replay.curve_table import CurveTable, read_table
from nasproxy.execution.backends.replay.replayed_table import CHOICE
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.stages import runner
from nasproxy.stages.proxy_search.judge import Judge, JudgedModels
from nasproxy.stages.proxy_search.race import TaskSpeed
from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.stages.proxy_search.stage import ProxySearchStage
from nasproxy.stages.proxy_search.state import ProxySearchState
from nasproxy.stages.references.candidate_pool import CandidatePool
from nasproxy.stages.references.random_selection import RandomSelection
from nasproxy.stages.references.state import Reference
from nasproxy.stages.runner import Decide
from nasproxy.statistics.acceptance import LookPlan
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.trial_stores import MemoryTrialStore
from nasproxy.testing import curves
from nasproxy.tracking.tracker import NullTracker
from nasproxy.trials.records import TrialRecord
from nasproxy.trials.spec import Recipe

TARGET = 0.65


class Study:
    """Selection of references and proxy search on a table, as in a replayed study."""

    def __init__(self, table: CurveTable, models: int, folder: Path, slots: int | None = None) -> None:
        steps = table.check_steps["full"]
        self.table, self.models, self.folder = table, models, folder
        self.store = MemoryTrialStore()
        self.backend = ReplayBackend(context=BackendContext(self.store), curves=table, slots=slots)
        self.replayed = self.backend.replayed
        trainer = self.replayed.make_trainer()
        self.recipe = Recipe({}, trainer, {}, table.fingerprint, steps[-1], steps[-1], check_at=steps)
        poll = self.replayed.look_seconds
        self.runtime = runner.Runtime(
            self.store,
            self.backend,
            NullTracker(study=folder),
            OrderTemplate(folder, max_attempts=1),
            poll_seconds=poll,
        )

    def select(self) -> tuple[Reference, ...]:
        """Select the reference models."""
        selection = RandomSelection(models=self.models)
        candidates = [{CHOICE: name} for name in self.table.architectures(list(self.table.check_steps))]
        context = {"recipe": self.recipe, "candidates": candidates, "baseline": None, "seed": 0}
        state = runner.run_stage(
            selection.make_stage(**context, study=FolderStudyStore(self.folder, durable=False)), self.runtime
        )
        return state.references or ()

    def make_stage(self, references: tuple[Reference, ...]) -> ProxySearchStage:
        """Make the stage of a proxy search."""
        return ProxySearchStage(
            ProxySearchSettings(),
            tasks={proxy: self.replayed.make_proxy_task(proxy) for proxy in self.replayed.proxies},
            criterion=GroupSequential(target=TARGET),
            judged_by="the benchmark",
            references=references,
            candidate_pool=CandidatePool([], len(references), step=5, maximum=0, search_trials=1, full_seconds=1.0),
            recipe=self.recipe,
            seed=0,
            study=FolderStudyStore(self.folder, durable=False),
        )


def make_table(folder: Path, architectures: int, checks: int, proxies: int) -> CurveTable:
    """Make a synthetic table with uninformative proxy tasks, so that every check of all of them is judged."""
    kinds = {f"proxy{number}": "hopeless" for number in range(proxies)}
    path = folder / f"{architectures}.csv"
    curves.write_table(path, curves.generate_rows(architectures=architectures, checks=checks, proxies=kinds))
    return read_table(path)


def measure_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Measure the CPU seconds of a function call and return them with its result."""
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def judge_last_checks(study: Study, references: tuple[Reference, ...]) -> None:
    """Judge every proxy task's last check with a new judge."""
    judge = Judge(GroupSequential(target=TARGET), min_models=5, min_valid_ratio=0.7)
    proxies = study.replayed.proxies
    for proxy in proxies:
        steps = study.table.check_steps[proxy]
        found = [study.table.curves[key].checks for key in study.table.curves if key.proxy == proxy]
        models = JudgedModels(references, tuple(TrialRecord(checks=checks) for checks in found[: len(references)]))
        plan = LookPlan(len(proxies), (len(references),))
        judge.look(models, steps, TaskSpeed(steps, 1.0), plan, total_steps=steps[-1])


def decide_last_check(study: Study, stage: ProxySearchStage, state: ProxySearchState) -> None:
    """Repeat the last decision of a finished search: the next action and its record."""
    name, task = next(iter(state.tasks.items()))
    open_task = replace(task, checks=task.checks[:-1], stopping_state=None)
    before = ProxySearchState({**state.tasks, name: open_task})
    records = {spec.key: study.store.read(spec.key) for spec in stage.specs(before)}
    action = stage.next_action(before, records)
    assert isinstance(action, Decide)
    stage.save(action.state)


def measure_decisions(models: int, checks: int, proxies: int) -> dict[str, float]:
    """Measure the CPU seconds of judgement, decision and search."""
    with tempfile.TemporaryDirectory() as folder:
        study = Study(make_table(Path(folder), models, checks, proxies), models, Path(folder))
        references = study.select()
        judged, _ = measure_seconds(lambda: judge_last_checks(study, references))
        stage = study.make_stage(references)
        searched, state = measure_seconds(lambda: runner.run_stage(stage, study.runtime))
        assert all(len(task.checks) == checks for task in state.tasks.values())
        decided, _ = measure_seconds(lambda: decide_last_check(study, stage, state))
    return {"judgement": judged, "decision": decided, "search": searched, "searched_a_check": searched / checks}


def measure_replay(trials: int, checks: int, proxies: int, slots: int) -> dict[str, float]:
    """Measure the CPU time of a replayed study, in total and per trial."""
    with tempfile.TemporaryDirectory() as folder:
        models = trials // (proxies + 1)
        table = make_table(Path(folder), models, checks, proxies)
        study = Study(table, models, Path(folder), slots)

        def work() -> int:
            runner.run_stage(study.make_stage(study.select()), study.runtime)
            return len(study.store.keys())

        taken, count = measure_seconds(work)
    return {"trials": count, "seconds": taken, "milliseconds_a_trial": 1000 * taken / count}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10)
    parser.add_argument("--checks", type=int, default=200)
    parser.add_argument("--proxies", type=int, default=20)
    parser.add_argument("--trials", type=int, nargs="+", default=[25_000, 50_000, 100_000], help="of replayed studies")
    parser.add_argument("--slots", type=int, default=100, help="of replayed studies")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    given = parser.parse_args()
    numbers = (given.checks, given.proxies, given.slots, *given.trials)
    if given.models < 8 or min(numbers) < 1:
        parser.error("--models must be at least 8, --checks, --proxies, --slots and --trials at least 1")
    decisions = measure_decisions(given.models, given.checks, given.proxies)
    replays = [measure_replay(trials, 5, 3, given.slots) for trials in given.trials]
    shown = Table("measurement", "CPU seconds")
    for name, value in decisions.items():
        shown.add_row(name, f"{value:.3f}")
    for replay in replays:
        each = f"{replay['seconds']:.1f} ({replay['milliseconds_a_trial']:.2f} ms per trial)"
        shown.add_row(f"replay of {replay['trials']} trials", each)
    Console(width=120).print(shown)
    if given.json:
        print(json.dumps({"decisions": decisions, "replays": replays}))


if __name__ == "__main__":
    main()
