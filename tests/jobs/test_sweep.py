"""Records of a sweep's jobs, and what the merge makes of them."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from nasproxy.errors import ConfigError
from nasproxy.jobs.sweep import JobRecord, SweepJob, check_rules, collect_tasks, find_merged, find_merges, read_jobs
from nasproxy.stages.proxy_search.state import TaskState
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.proxy_task import ProxyTask

ONE, TWO = Path("/studies/one"), Path("/studies/two")
RULES = {"criterion.target": 0.65}
QUARTER, HALF, NARROW = ProxyTask(data_fraction=0.25), ProxyTask(data_fraction=0.5), ProxyTask(width=0.5)
JOBS = (
    JobRecord(0, ("proxy=data25", "study=one"), ONE, {"data25": QUARTER}, RULES, has_ended=True),
    JobRecord(1, ("proxy=data50", "study=one"), ONE, {"data50": HALF}, RULES, has_ended=True),
    JobRecord(2, ("proxy=width50", "study=two"), TWO, {"width50": NARROW}, RULES, has_ended=True),
)


def test_the_tasks_of_a_merge_do_not_depend_on_the_order_of_the_jobs() -> None:
    for jobs in permutations(JOBS):
        assert list(collect_tasks(jobs, FolderStudyStore(ONE)).items()) == [("data50", HALF), ("data25", QUARTER)]
        assert list(find_merges(jobs).items()) == [(ONE, JOBS[0]), (TWO, JOBS[2])]


def test_jobs_that_failed_or_never_ended_have_no_part_in_the_merge() -> None:
    failed, lost = replace(JOBS[0], error="no data"), replace(JOBS[2], has_ended=False)
    assert collect_tasks([failed, JOBS[1]], FolderStudyStore(ONE)) == {"data50": HALF}
    assert find_merges([failed, JOBS[1], lost]) == {ONE: JOBS[1]}


def test_a_job_that_judges_no_proxy_task_needs_no_merge() -> None:
    assert find_merges([replace(job, tasks={}, rules={}) for job in JOBS]) == {}


def test_a_merge_includes_tasks_decided_on_before_and_refuses_two_settings_of_one_name(tmp_path: Path) -> None:
    study = FolderStudyStore(tmp_path / "one")
    for name in ("width50", "data50"):
        study.write(f"proxy_search/tasks/{name}", TaskState(name, 0, NARROW, "rules", (), 100))
    jobs = [replace(job, study=study.path) for job in JOBS]
    assert collect_tasks(jobs[:1], study) == {"data50": NARROW, "width50": NARROW, "data25": QUARTER}
    with pytest.raises(ConfigError, match="proxy task 'data50' must keep its setting during a study"):
        collect_tasks(jobs, study)


def test_jobs_that_share_a_study_need_the_same_rules() -> None:
    check_rules([JOBS[0], JOBS[1], replace(JOBS[1], tasks={}, rules={})])
    other = replace(JOBS[1], rules={"criterion.target": 0.7})
    with pytest.raises(ConfigError, match=r"criterion.target: 0.65 -> 0.7: name a .* 'study=one-\$\{hydra:job.num\}'"):
        check_rules([JOBS[0], other])


def test_a_record_tells_whether_its_job_failed_or_still_runs(tmp_path: Path) -> None:
    jobs = [SweepJob(tmp_path, number, (f"seed={number}",)) for number in (2, 1, 0)]
    for job in jobs:
        job.start()
    jobs[0].end("no data")
    jobs[1].end()
    SweepJob(tmp_path, 0, (), is_merge=True).start()
    records = read_jobs(tmp_path)
    assert [(job.number, job.is_good, job.has_ended, job.error) for job in records] == [
        (0, False, False, None),
        (1, True, True, None),
        (2, False, True, "no data"),
    ]
    assert [job.number for job in read_jobs(tmp_path, merges=True)] == [0]


def test_a_merge_without_a_record_has_failed_and_leaves_the_others_their_result(tmp_path: Path) -> None:
    three = Path("/studies/three")
    merges = [JobRecord(1, (), TWO, has_ended=True), JobRecord(2, (), three, has_ended=True, error="no data")]
    assert find_merged([ONE, TWO, three], merges) == {ONE: False, TWO: True, three: False}
    assert find_merged([ONE], [JobRecord(0, (), has_ended=True, error="it has no valid configuration")]) == {ONE: False}


def test_only_the_first_job_of_a_study_in_a_sweep_retries_failed_trials(tmp_path: Path) -> None:
    first, second = SweepJob(tmp_path, 0, ()), SweepJob(tmp_path, 1, (), is_merge=True)
    assert [first.is_first_of(ONE), second.is_first_of(ONE), second.is_first_of(TWO)] == [True, False, True]
