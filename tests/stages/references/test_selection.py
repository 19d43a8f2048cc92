"""Parts that all selections of reference models share."""

import pytest

from nasproxy.errors import StageStoppedError
from nasproxy.stages.references.selection import check_failures
from nasproxy.stages.references.state import Iteration, SelectionState
from nasproxy.trials.records import Cause, State, Status, TrialRecord

FAILED = TrialRecord(Status(State.FAILED, cause=Cause.NAN))


def test_a_failure_report_of_a_later_round_states_the_failures_of_earlier_rounds() -> None:
    keys = tuple(f"key{number}" for number in range(10))
    rounds = (Iteration(tuple(range(10)), 0.1, 10, failed=(0, 1)), Iteration(tuple(range(2, 10)), 1.0, 100))
    state = SelectionState(tuple({"quality": number} for number in range(10)), keys, rounds)
    records = {key: TrialRecord() for key in keys} | {"key5": FAILED}
    with pytest.raises(StageStoppedError) as stopped:
        check_failures(state, records, max_ratio=0.2)
    first, _, row, _ = str(stopped.value).splitlines()
    assert first.endswith("and 3 did (30%), 2 of them in earlier rounds, the others in this:")
    assert row.split()[:3] == ["nan", "1", "trials/key5"]
    check_failures(state, records, max_ratio=0.3)
