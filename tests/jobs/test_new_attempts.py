"""New attempts of failed trials, given once by the jobs of a sweep."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

from nasproxy.jobs.job import give_new_attempts
from nasproxy.jobs.sweep import SweepJob
from nasproxy.storage.study import OpenStudy, StudyFolder
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import Cause, State, Status, TrialRecord
from nasproxy.trials.spec import Recipe, Split, TrialSpec

JOBS, TRIALS = 3, 200
FAILED = TrialRecord(Status(State.FAILED, failures=1, failed_at_step=0, cause=Cause.SETUP, message="no data"))


def fail_trials(study: Path) -> None:
    store = FolderTrialStore(study / "trials")
    for seed in range(TRIALS):
        spec = TrialSpec({"width": 8}, ProxyTask(), Split.FULL, seed, Recipe({}, {}, {}, "digits", 100, 100))
        store.create(spec)
        store.write(spec.key, FAILED, generation=0)


def count_failed(study: Path) -> int:
    store = FolderTrialStore(study / "trials")
    return sum(store.read(key).status.state is State.FAILED for key in store.keys())


def test_no_job_of_a_sweep_goes_on_before_all_failed_trials_have_new_attempts(tmp_path: Path) -> None:
    study = tmp_path / "studies" / "digits"
    fail_trials(study)
    start = Barrier(JOBS)

    def begin(number: int) -> int:
        session = OpenStudy(StudyFolder(study), is_shared=True)
        start.wait()
        give_new_attempts(session, SweepJob(tmp_path / "sweep", number, ()))
        return count_failed(study)

    assert count_failed(study) == TRIALS
    with ThreadPoolExecutor(JOBS) as jobs:
        assert list(jobs.map(begin, range(JOBS))) == [0] * JOBS


def test_a_trial_that_fails_in_a_sweep_gets_no_new_attempts_in_it(tmp_path: Path) -> None:
    study = tmp_path / "studies" / "digits"
    session = OpenStudy(StudyFolder(study), is_shared=True)
    give_new_attempts(session, SweepJob(tmp_path / "sweep", 0, ()))
    fail_trials(study)
    give_new_attempts(session, SweepJob(tmp_path / "sweep", 1, ()))
    assert count_failed(study) == TRIALS
    give_new_attempts(session, None)
    assert count_failed(study) == 0
