"""Cost estimates: printed by a dry run, and stored with a new study."""

from pathlib import Path

import pytest

from helpers import cli
from helpers.debug_study import DebugStudy
from nasproxy.cost.estimate import ESTIMATE, Estimate
from nasproxy.report import estimate_tables
from nasproxy.stages.study_results import read_results
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.storage.zero_cost_scores import read_scores

DEBUG = ("experiment=debug", "references.initial=8", "references.max=0", "criterion=first_crossing")


def read_rows(output: str) -> dict[str, list[str]]:
    """Read the table's rows by stage."""
    lines = [line.split("\t") for line in output.splitlines() if "\t" in line]
    return {cells[0]: cells[1:] for cells in lines}


def test_a_dry_run_prints_the_stages_and_creates_no_study(tmp_path: Path) -> None:
    code, output = cli.run(*cli.SMALL, "dry_run=true", "cost.price_per_hour=3", folder=tmp_path / "studies")
    assert code == 0, output
    table = read_rows(output)
    assert list(table) == ["stage", "variance", "references", "proxy search", "confirmation", "total"]
    assert table["stage"] == ["trials", "full-training equivalents", "elapsed time", "device time", "cost"]
    assert table["variance"][:2] == ["2 (2 to 11)", "2.0 (2.0 to 3.5)"], (
        "nine may fail at their first check, at a sixth of the steps"
    )
    assert table["references"][:2] == ["5 (5 to 7)", "5.0 (5.0 to 7.0)"], "four more candidates and the baseline"
    assert table["proxy search"][:2] == ["10", "3.3 (3.3 to 10.0)"], "accepted at the first check, or not at all"
    assert not (tmp_path / "studies").exists()


def test_a_dry_run_weighs_given_numbers_of_references_against_those_of_auto(tmp_path: Path) -> None:
    given = ("criterion=group_sequential", "references.initial=8", "references.max=8", "search.trials=3000")
    code, output = cli.run(*cli.SMALL, *given, "dry_run=true", folder=tmp_path)
    assert code == 0, output
    table = read_rows(output)
    (auto,) = [name for name in table if name.endswith(" (auto)")]
    assert float(table[auto][-1].replace(",", "")) < float(table["8 (given)"][-1].replace(",", ""))
    assert "The numbers were given; auto would choose the latter (references.initial=auto" in output
    assert "revised when the first ones are trained" not in output


def test_a_trial_that_cannot_be_timed_is_reported_and_the_rest_is_estimated(tmp_path: Path) -> None:
    faults = ("search_space.choices.fault=[none,crash]", "training.total_steps=12", "training.check_every_steps=1")
    code, output = cli.run(*DEBUG, *faults, "dry_run=true", folder=tmp_path)
    assert code == 0, output
    assert "total" in read_rows(output)
    assert "not timed: quality=" in output
    assert "failed (crash: RuntimeError: the trainer has a mistake)" in output


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["search_space.choices.fault=[crash]", "search_space.baseline=null", "training.total_steps=12"],
            "did not (crash",
        ),
        (["cost.price_per_hour=-1"], "cost.price_per_hour must be at least 0, got -1"),
        (["cost.price_per_hour=cheap"], "cost.price_per_hour must be a number or null, got 'cheap'"),
        (["job=report"], "dry_run needs a job that trains, got job=report"),
        (["-m", "proxy=data25,data50"], "dry_run estimates one job, got a sweep"),
        (["experiment=replay", "backend.table=TABLE"], "got a replay, which trains nothing"),
    ],
)
def test_jobs_without_an_estimate_are_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    overrides = [override.replace("TABLE", str(write_table(tmp_path))) for override in overrides]
    flags, others = [o for o in overrides if o == "-m"], [o for o in overrides if o != "-m"]
    debug = () if "experiment=replay" in overrides else (*DEBUG, "training.check_every_steps=1")
    if flags:
        code, output = cli.run(*flags, *debug, *others, "dry_run=true", folder=tmp_path)
        assert code == 2, output
    else:
        output = cli.find_refusal(*debug, *others, "dry_run=true", f"studies_dir={tmp_path}")
    assert message in output
    assert "Traceback" not in output


def write_table(folder: Path) -> Path:
    """Write a table of learning curves."""
    path = folder / "curves.csv"
    lines = [
        f"a{model},{proxy},0,{step},{0.1 * model + 0.01 * step},{step}"
        for model in range(15)
        for proxy in ("full", "half")
        for step in (1, 2, 3)
    ]
    path.write_text("\n".join(["architecture,proxy,seed,step,score,train_seconds", *lines]) + "\n")
    return path


@pytest.mark.gate
def test_a_new_study_stores_its_estimate_and_compares_its_cost_with_it(debug_study: DebugStudy, tmp_path: Path) -> None:
    assert debug_study.output.index("estimate: ") < debug_study.output.index("variance: ")
    folder = FolderStudyStore(debug_study.copy_to(tmp_path))
    estimate = folder.read(ESTIMATE, Estimate)
    assert estimate is not None
    results = read_results(folder, time_tolerance=0.05)
    compared = {row["stage"]: row for row in estimate_tables.make_comparison(results, estimate).rows}
    trials = folder.trials.keys()
    assert compared["total"]["actual_trials"] == len(trials)
    for stage in ("variance", "references"):
        assert compared[stage]["actual_trials"] == compared[stage]["trials_middle"]
        assert compared[stage]["actual_trainings"] == compared[stage]["trainings_middle"]
    assert compared["total"]["ratio"] is not None
    before = folder.version(ESTIMATE), (folder.path / "zero_cost.json").stat().st_mtime_ns
    assert len(read_scores(FolderStudyStore(folder.path)).scores) >= 8
    code, output = cli.run("experiment=debug", "proxy=full", "backend=inline", folder=tmp_path)
    assert code == 0, output
    assert "estimate: " not in output
    assert (folder.version(ESTIMATE), (folder.path / "zero_cost.json").stat().st_mtime_ns) == before, "measured once"
    code, output = cli.run("experiment=debug", "dry_run=true", "backend=inline", folder=tmp_path)
    assert "study debug exists: its finished trials are counted here" in output
    assert folder.version(ESTIMATE) == before[0]
    assert folder.trials.keys() == trials, "the proxy task was judged before"


def test_estimate_first_false_makes_no_estimate(tmp_path: Path) -> None:
    job = ("job=measure_variance", "cost.estimate_first=false", "backend=inline")
    code, output = cli.run(*DEBUG, *job, folder=tmp_path)
    assert code == 0, output
    assert FolderStudyStore(tmp_path / "debug").version(ESTIMATE) is None


def test_a_trial_on_all_devices_is_estimated_to_occupy_the_whole_machine(tmp_path: Path) -> None:
    spread = ("training.devices=2", "backend.slots=2", "job=measure_variance")
    code, output = cli.run(*DEBUG, *spread, folder=tmp_path)
    assert code == 0, output
    estimate = FolderStudyStore(tmp_path / "debug").read(ESTIMATE, Estimate)
    assert estimate is not None
    assert estimate.slots_by_devices["2"] == 2.0
    total = estimate.total.middle
    assert total.slot_seconds == pytest.approx(2 * total.elapsed_seconds), "one trial at a time, on two slots"
    assert estimate.device_seconds(total) == pytest.approx(total.elapsed_seconds)
