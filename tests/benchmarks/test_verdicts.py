"""The benchmark of criteria, compared with a direct computation of its definitions."""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.population import Population, read_population, select_geometric
from benchmarks.table_studies import Draw, Outcome, judge
from benchmarks.verdicts import (
    BoundedOutcome,
    bound_confirmed,
    bound_outcome,
    main,
    parse_models,
    summarize,
    take_draw,
)
from helpers import cli
from nasproxy.execution.backends.replay.curve_table import read_table
from nasproxy.statistics.acceptance_error import TauPrior
from nasproxy.statistics.criteria.first_crossing import FirstCrossing
from nasproxy.statistics.criteria.group_sequential import GroupSequential
from nasproxy.statistics.selection_bound import bound_selected_tau
from nasproxy.trials.objective import Objective

KEYS = ("accepted", "wrong", "wrong_upper95", "stop_over_oracle", "references_added")
BOUNDS = ("coverage", "median_bound", "confirmed_coverage", "median_confirmed_bound")


def run(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.verdicts", *arguments, "--json"]
    done = subprocess.run(command, cwd=cli.ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "curves.csv"
    command = [sys.executable, "-m", "nasproxy.testing.curves", str(path), "--architectures", "60", "--checks", "40"]
    subprocess.run([*command, "--late-noise", "0.05"], cwd=cli.ROOT, check=True, timeout=120)
    return path


def made(taus: list[float], n: int = 400) -> Population:
    """Make a population with approximately the given tau at each check."""
    random = np.random.default_rng(0)
    reference = random.standard_normal(n)
    rows = []
    for tau in taus:
        rho = np.sin(np.pi * tau / 2)
        rows.append(rho * reference + np.sqrt(1 - rho**2) * random.standard_normal(n))
    steps = list(range(1, len(taus) + 1))
    return Population(np.array(rows), reference, steps, list(range(len(taus))))


def test_the_last_line_is_json_with_every_criterion(table: Path) -> None:
    found = run("--table", str(table), "--draws", "20", "--looks", "5")
    assert 0 < found["oracle"] <= 1
    assert list(found["rules"]) == ["first_crossing", "weak_prior", "alpha_spending", "group_sequential"]
    for figures in found["rules"].values():
        assert list(figures) == [*KEYS, *BOUNDS, "below_target", "below_margin"]
        assert figures["below_margin"] * figures["accepted"] == pytest.approx(figures["wrong"])
        assert figures["below_margin"] <= figures["below_target"]
        assert figures["wrong"] <= figures["wrong_upper95"]
    assert list(found["stated"]) == ["first_crossing", "group_sequential"]
    assert [error["prior"] for error in found["stated"]["group_sequential"]] == list(TauPrior)
    upper = found["rules"]["group_sequential"]["wrong_upper95"]
    wrong = round(20 * found["rules"]["group_sequential"]["wrong"])
    assert upper == pytest.approx(stats.binomtest(wrong, 20, alternative="less").proportion_ci(0.95).high)


def test_adding_references_is_counted(table: Path) -> None:
    plain = run("--table", str(table), "--draws", "20", "--looks", "5")["rules"]["group_sequential"]
    adaptive = run("--table", str(table), "--draws", "20", "--looks", "5", "--adaptive")["rules"]["group_sequential"]
    assert plain["references_added"] == 0
    assert adaptive["references_added"] > 0


def test_chosen_numbers_of_models_follow_from_the_search(table: Path) -> None:
    arguments = argparse.Namespace(models="auto", candidates=50, references="random", target=0.65)
    population = read_population(read_table(str(table)), 5, None, Objective())
    few = take_draw(population, arguments, np.random.default_rng(0)).plan.sizes
    arguments.candidates = 2000
    many = take_draw(population, arguments, np.random.default_rng(0)).plan.sizes
    assert few[-1] < many[-1] <= 60, "no more than the table has"
    options = ("--table", str(table), "--models", "auto", "--candidates", "50", "--draws", "3", "--looks", "5")
    assert set(run(*options)["rules"]) >= {"first_crossing", "group_sequential"}


def test_a_number_of_models_that_is_none_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="needs a number such as 10, or auto, got many"):
        parse_models("many")


def test_spread_references_are_selected_from_thirty_models(table: Path) -> None:
    assert (
        run("--table", str(table), "--draws", "5", "--looks", "5", "--references", "spread")["rules"]["first_crossing"][
            "accepted"
        ]
        > 0
    )


def test_the_oracle_is_the_first_check_from_which_tau_stays_at_the_target() -> None:
    assert made([0.8, 0.3, 0.8, 0.9]).oracle(0.65) == 0.75
    assert made([0.8, 0.9]).oracle(0.65) == 0.5
    assert made([0.8, 0.3]).oracle(0.65) is None


def test_population_tau_is_of_all_architectures() -> None:
    population = made([0.5])
    assert population.taus == [pytest.approx(stats.kendalltau(population.scores[0], population.reference).statistic)]


def test_the_first_crossing_is_the_first_look_of_the_drawn_models_at_the_target() -> None:
    population = made([0.1, 0.5, 0.7, 0.9])
    for draw in range(20):
        order = np.random.default_rng(draw).permutation(400).tolist()
        taus = [
            stats.kendalltau(row[order[:10]], population.reference[order[:10]]).statistic for row in population.scores
        ]
        expected = next((look for look, tau in enumerate(taus) if tau >= 0.65 - 1e-12), None)
        assert judge(Draw(population, order, 10, 10), FirstCrossing()).look == expected


def test_added_models_are_the_next_of_the_draw_up_to_thirty() -> None:
    order = list(range(400))
    draws = [Draw(made([0.6, 0.72]), order[k:], 10, 30) for k in range(0, 200, 10)]
    outcomes = [judge(draw, GroupSequential()) for draw in draws]
    assert {outcome.added for outcome in outcomes} <= {0, 5, 10, 15, 20}
    assert max(outcome.added for outcome in outcomes) > 0


def test_looks_are_geometric_and_distinct() -> None:
    assert select_geometric(list(range(1, 101)), 3) == [0, 9, 97]
    assert select_geometric([10, 20], 16) == [0, 1]
    assert select_geometric(list(range(1, 51)), 8) == [0, 1, 2, 4, 8, 15, 27, 48], (
        "from the first check if it is after 1 %"
    )


def test_coverage_counts_bounds_at_or_below_the_population_tau() -> None:
    population = made([0.5, 0.8])
    low, high = population.taus
    at_low, at_high, none = (Outcome(look, 10, 10, 10) for look in (0, 1, None))
    verdicts = [
        BoundedOutcome(at_low, low),
        BoundedOutcome(at_low, low + 0.01),
        BoundedOutcome(at_high, high - 0.2),
        BoundedOutcome(none),
    ]
    figures = summarize(population, verdicts, 0.65)
    assert figures["coverage"] == pytest.approx(2 / 3), "the draw that was not accepted does not count"
    assert figures["median_bound"] == pytest.approx(low + 0.01)


def test_without_an_accepted_draw_there_is_no_coverage() -> None:
    figures = summarize(made([0.1, 0.2]), [BoundedOutcome(Outcome(None, 10, 10, 10))] * 5, 0.65)
    assert figures["coverage"] is None
    assert figures["median_bound"] is None


def test_the_bound_of_an_accepted_draw_is_that_of_its_evidence() -> None:
    draw = Draw(made([0.9]), list(range(20)), 20, 20)
    verdict = bound_outcome(draw, judge(draw, GroupSequential()))
    assert verdict.bound == bound_selected_tau(draw.evidence(0, 20))
    assert verdict.confirmed_bound is None, "the table has no compressed schedules"


def test_the_bound_of_confirmation_runs_covers_the_population_tau_of_such_trainings() -> None:
    raced, compressed = made([0.9]), made([0.5])
    population = replace(raced, confirmed={1: compressed.scores[0] + raced.reference})
    confirmed = population.confirmed_tau(0)
    assert confirmed is not None
    verdicts = [
        bound_outcome(draw, judge(draw, GroupSequential()))
        for draw in (Draw(population, list(range(k, k + 20)), 20, 20) for k in range(0, 400, 20))
    ]
    bounds = [verdict.confirmed_bound for verdict in verdicts if verdict.confirmed_bound is not None]
    assert len(bounds) == 20
    figures = summarize(population, verdicts, 0.65)
    assert figures["confirmed_coverage"] == np.mean([bound <= confirmed for bound in bounds])
    assert figures["median_confirmed_bound"] == pytest.approx(np.median(bounds))


def test_few_models_have_no_bound_of_confirmation_runs() -> None:
    raced = made([0.9])
    draw = Draw(replace(raced, confirmed={1: raced.reference}), list(range(7)), 7, 7)
    assert bound_confirmed(draw, 0, 7) is None


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("architecture,proxy\na,full\n", (), "step"),
        ("{header}a,full,0,1,0.5,1\nb,full,0,1,0.6,1\n", (), "complete curves, got 2"),
        ("{header}a,full,0,1,0.5,1\nb,small,0,1,0.6,1\n", ("--proxy", "small"), "complete curves, got 0"),
        ("{equal}", (), "scores that differ"),
        ("{equal}", ("--proxy", "small"), "--proxy must be one of full, got small"),
        ("{equal}", ("--draws", "0"), "--draws and --looks must be at least 1"),
        ("{equal}", ("--target", "0"), "target must lie in"),
        ("{equal}", ("--models", "auto", "--adaptive"), "leave out --adaptive and spread"),
    ],
)
def test_a_table_that_cannot_be_used_gets_a_sentence(
    content: str,
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    header = "architecture,proxy,seed,step,score,train_seconds\n"
    equal = header + "".join(f"a{number},full,0,1,0.5,1\n" for number in range(12))
    path = tmp_path / "curves.csv"
    path.write_text(content.format(header=header, equal=equal))
    monkeypatch.setattr(sys, "argv", ["verdicts", "--table", str(path), *options])
    with pytest.raises(SystemExit, match="2"):
        main()
    told = capsys.readouterr().err
    assert message in told
    assert len(told.splitlines()) == 1
