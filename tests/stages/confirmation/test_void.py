"""Which confirmation runs are void, and what is said of them."""

import pytest

from nasproxy.stages.confirmation.void import LONGEST_ERROR, Void, VoidReason, find_void
from nasproxy.trials.records import Cause, Check, State, Status, TrialRecord

DONE = Status(State.DONE)
STEP, NEEDED = 20, 7


def record(score: float | None, status: Status = DONE) -> TrialRecord:
    return TrialRecord(status, () if score is None else (Check(STEP, score, 1.0),))


def failed(cause: Cause, message: str | None = None) -> Status:
    return Status(State.FAILED, cause=cause, message=message)


def records(scores: list[float | None]) -> list[TrialRecord]:
    return [record(score) for score in scores]


RACED = records([n / 10 for n in range(10)])


def find(runs: list[TrialRecord], raced: list[TrialRecord] = RACED, *, allow_identical: bool = False) -> Void | None:
    return find_void(runs, raced, step=STEP, needed=NEEDED, allow_identical=allow_identical)


class TestIdenticalScores:
    def test_the_scores_of_the_proxy_search_void_the_confirmation(self) -> None:
        void = find(RACED)
        assert void is not None
        assert void.reason is VoidReason.IDENTICAL_SCORES
        assert "scored exactly as the proxy search after 20 steps" in void.description
        assert "{total_steps} in trainer.command" in void.advice
        assert "confirm.allow_identical=true" in void.advice

    def test_one_other_score_is_enough_to_test_the_verdict(self) -> None:
        assert find([*RACED[:9], record(0.91)]) is None

    def test_they_may_be_allowed(self) -> None:
        assert find(RACED, allow_identical=True) is None

    def test_a_coarse_metric_repeats_itself_by_chance(self) -> None:
        coarse = records([0.25, 0.5, 0.5, 0.75, 0.75, 0.75, 1.0, 1.0, 1.0, 1.0])
        assert find(coarse, coarse) is None

    def test_models_without_one_of_the_scores_are_left_out(self) -> None:
        diverged = record(None, failed(Cause.NAN))
        assert find([diverged, *RACED[1:]]) is not None
        assert find([diverged] * 4 + RACED[4:]) is None, "fewer than needed are equal"

    def test_a_program_that_trains_on_is_told_its_error_and_only_advice_that_works(self) -> None:
        beyond = failed(Cause.CRASH, "the program must end after step 20")
        void = find([record(n / 10, beyond) for n in range(10)])
        assert void is not None
        assert void.reason is VoidReason.IDENTICAL_SCORES
        assert "10 of 10 confirmation runs failed (10 crash), the first with the program must end" in void.description
        assert "allow_identical" not in void.advice, "the failures would void it still"


class TestFailedTrials:
    @pytest.mark.parametrize(("count", "is_void"), [(3, False), (4, True), (10, True)])
    def test_too_few_models_are_left(self, count: int, is_void: bool) -> None:
        runs = [record(None, failed(Cause.CRASH if n else Cause.LOST)) for n in range(count)]
        void = find([*runs, *records([0.5 + n / 7 for n in range(10 - count)])])
        assert (void is not None) is is_void
        if void is not None:
            assert void.reason is VoidReason.FAILED_TRIALS
            assert dict(void.failed) == {"crash": count - 1, "lost": 1}
            assert f"{10 - count} of at least 7 models are left" in void.description
            assert "run the command again" in void.advice

    def test_a_crash_after_the_last_check_counts_whatever_the_score(self) -> None:
        void = find([record(0.5 + n / 7, failed(Cause.CRASH)) for n in range(10)])
        assert void is not None
        assert void.reason is VoidReason.FAILED_TRIALS

    def test_models_that_run_out_of_memory_or_diverge_are_results(self) -> None:
        causes = [Cause.OOM, Cause.NAN] * 5
        assert find([record(None, failed(cause)) for cause in causes]) is None

    def test_a_programs_error_is_one_short_printable_line(self) -> None:
        error = failed(Cause.CRASH, "Error:\x1b[31m red\n" + "x" * 1000)
        void = find([record(None, error) for _ in range(10)])
        assert void is not None
        assert void.error is not None
        assert void.error.startswith("Error: [31m red xxx")
        assert len(void.error) == LONGEST_ERROR + 3
