"""The report page is complete, self-contained, and consistent with the stored states."""

import json
import shlex
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from nasproxy.errors import CorruptFileError
from nasproxy.report import verdict, wording
from nasproxy.report.page import Page, write_report
from nasproxy.stages.proxy_search.state import TaskState, read_tasks
from nasproxy.stages.study_results import Purpose, read_results
from nasproxy.storage.study_stores import FolderStudyStore
from nasproxy.trials.grid import span_grid
from nasproxy.trials.proxy_task import ProxyTask

NewStudy = Callable[..., Any]


class Reader(HTMLParser):
    """Collects a page's tags with their attributes, and its text."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def report(author: Any) -> Page:
    return write_report(author.folder, time_tolerance=0.05)


def best_of(author: Any) -> TaskState:
    best = read_results(author.folder, time_tolerance=0.05).best
    assert best is not None
    return best


@pytest.fixture(scope="module")
def hopeless_study(new_study: NewStudy) -> Any:
    """Write a study whose only proxy task was rejected."""
    author = new_study(8)
    author.measure_variance()
    author.select_models(start_models=8, models=6)
    author.search({"width25": ProxyTask(width=0.25)}, target=1.0)
    return author


@pytest.fixture(scope="module")
def hopeless_page(hopeless_study: Any) -> Page:
    return report(hopeless_study)


class TestPage:
    def test_is_one_self_contained_file(self, page: Page) -> None:
        reader = Reader(page)
        sources = [attrs[name] for _, attrs in reader.tags for name in ("src", "href", "srcset") if name in attrs]
        assert all((source or "").startswith(("data:image/png;base64,", "#")) for source in sources)
        assert "://" not in page.path.read_text(encoding="utf-8")
        assert not {"script", "link", "iframe"} & {tag for tag, _ in reader.tags}

    def test_shows_every_picture_and_leaves_it_as_a_file(self, page: Page) -> None:
        images = [attrs for tag, attrs in Reader(page).tags if tag == "img"]
        assert len(images) == len(page.pictures)
        assert all(attrs["alt"] for attrs in images)
        assert all(path.read_bytes().startswith(b"\x89PNG") for path in page.pictures)

    def test_figures_are_named_as_by_vertex_ai_nas(self, page: Page, full_study: Any) -> None:
        best = best_of(full_study)
        names = {path.name for path in page.pictures}
        prefix = f"proxy_task_{best.name}_accuracy"
        assert names >= {
            f"{prefix}_correlation_vs_training_steps.png",
            f"{prefix}_correlation_vs_training_time.png",
            f"{prefix}_vs_training_steps.png",
            f"{prefix}_vs_training_time.png",
            f"{prefix}_correlation_at_step_{best.final_step}.png",
            "filtered_trial_scores_iteration_1.png",
        }

    def test_free_text_is_escaped(self, page: Page) -> None:
        html = page.path.read_text(encoding="utf-8")
        assert "&lt;script&gt;alert(" in html
        assert "&lt;i&gt;own&lt;/i&gt;" in html
        assert "&lt;b&gt;images&lt;/b&gt;" in html
        assert "\x1b" not in html

    def test_the_verdict_comes_first_and_its_numbers_come_from_the_states(self, page: Page, full_study: Any) -> None:
        best = best_of(full_study)
        text = Reader(page).text
        found = best.checks[-1].correlation
        assert found is not None
        headline = f"Accepted: {best.name}, grade weak, stopped after {best.final_step} of 500 steps"
        assert text.index(headline) < text.index("Seed noise: SD")
        assert f"{found.tau:.2f} (optimistic, since it was selected for being high)" in text
        assert f"Proxy search: tau-b {found.tau:.2f} on {found.n} models, optimistic, since" in page.verdict
        assert "confidence interval" not in page.verdict, "none holds for a tau that was selected"

    def test_both_ratios_are_medians_over_the_models(self, page: Page, full_study: Any) -> None:
        results, best = read_results(full_study.folder, time_tolerance=0.05), best_of(full_study)
        (row,) = [row for row in page.tables["proxy_tasks"] if row["is_best"]]
        full = sorted(reference.train_seconds for reference in results.references)
        assert best.final_train_seconds is not None
        assert row["train_ratio"] == pytest.approx((full[4] + full[5]) / 2 / best.final_train_seconds)
        assert row["wall_ratio"] < row["train_ratio"], "start-up and validation cost the proxy task more"
        text = Reader(page).text
        assert wording.format_times(row["train_ratio"]) in text
        assert wording.format_times(row["wall_ratio"]) in text

    def test_a_trial_shared_by_stages_counts_once(self, page: Page, full_study: Any) -> None:
        *stages, total = page.tables["costs"]
        assert total["trials"] == len(full_study.folder.trials.keys()) == len(page.tables["trials"])
        for name in ("trials", "steps", "train_seconds", "wall_seconds", "failed"):
            assert sum(row[name] for row in stages) == pytest.approx(total[name])
        assert [row["trials"] for row in stages if row["stage"] == "variance"] == [5]
        assert [row["trials"] for row in stages if row["stage"] == "references"] == [30], "29 and the baseline model"
        assert total["trainings"] == total["steps"] / 500

    def test_failures_are_counted_by_cause(self, page: Page) -> None:
        assert page.tables["costs"][-1]["causes"] == "1 oom"
        assert [row["cause"] for row in page.tables["failures"]] == ["oom"]

    def test_the_limits_of_the_verdict_are_listed(self, page: Page) -> None:
        text = Reader(page).text
        for words in ("Only 10 models", "first crossing is optimistically", "selected for spread", "Not confirmed yet"):
            assert words in text


class TestFiles:
    def test_the_same_study_gives_the_same_page(self, hopeless_study: Any, hopeless_page: Page) -> None:
        before = hopeless_page.path.read_bytes()
        assert report(hopeless_study).path.read_bytes() == before

    def test_outdated_figures_are_removed_and_other_files_are_kept(self, new_study: NewStudy) -> None:
        author = new_study()
        stale = author.folder.path / "report" / "proxy_task_old_accuracy_vs_training_steps.png"
        own = author.folder.path / "report" / "mine.png"
        (author.folder.path / "report").mkdir()
        for path in (stale, own):
            path.write_bytes(b"")
        report(author)
        assert (stale.exists(), own.exists()) == (False, True)


class TestPartialStudies:
    def test_a_study_without_results(self, new_study: NewStudy) -> None:
        page = report(new_study())
        assert page.verdict.startswith("The study is not finished. Missing: the variance measurement")
        assert Reader(page).text.count("Not available yet") == 3
        assert not page.pictures

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        assert "not finished" in write_report(FolderStudyStore(tmp_path), time_tolerance=0.05).verdict

    def test_after_the_first_stage(self, new_study: NewStudy) -> None:
        author = new_study()
        author.measure_variance()
        page = report(author)
        assert "Done: the variance measurement." in page.verdict
        assert [path.name for path in page.pictures] == ["variance_learning_curves.png"]

    def test_a_too_noisy_training_is_reported_with_advice(self, new_study: NewStudy) -> None:
        author = new_study()
        author.measure_variance(max_variation=1e-6)
        text = Reader(report(author)).text
        assert "Training is too noisy to rank models reliably." in text
        assert "Final scores of one architecture differ between seeds" in text

    def test_after_the_second_stage(self, new_study: NewStudy) -> None:
        author = new_study(8)
        author.measure_variance()
        author.select_models(start_models=8, models=6)
        page = report(author)
        assert "and the selection of reference models. Missing: the proxy search." in page.verdict
        assert "Range check:" in Reader(page).text

    def test_models_that_failed_to_train_count_in_the_variance_stage(self, new_study: NewStudy) -> None:
        author = new_study(30, {0: "oom"})
        author.measure_variance(trainable_fraction=0.1)
        author.select_models()
        trials = read_results(author.folder, time_tolerance=0.05).trials.values()
        assert sum(trial.purpose == Purpose.VARIANCE for trial in trials) == 6

    def test_a_corrupt_file_is_an_error(self, new_study: NewStudy) -> None:
        author = new_study()
        (author.folder.path / "variance").mkdir()
        (author.folder.path / "variance" / "state.json").write_text("{")
        with pytest.raises(CorruptFileError, match="restore the file"):
            report(author)


class TestNothingAccepted:
    def test_the_verdict_names_the_best_tau_and_the_next_steps(self, hopeless_study: Any, hopeless_page: Page) -> None:
        page = hopeless_page
        (task,) = read_tasks(hopeless_study.folder).values()
        highest = max(check.correlation.tau for check in task.checks if check.correlation is not None)
        assert "No proxy task was accepted: none is good enough. 1 proxy task judged, none accepted." in page.verdict
        assert "Highest tau: width25 after" in page.verdict
        assert f"tau-b {wording.format_tau(highest)}" in page.verdict
        assert "Add proxy tasks that reduce less" in page.verdict
        assert "proxy=" not in page.verdict.split("Add proxy tasks")[0]

    def test_an_unfinished_search_has_no_verdict_yet(self, hopeless_study: Any, tmp_path: Path) -> None:
        folder = FolderStudyStore(Path(shutil.copytree(hopeless_study.folder.path, tmp_path / "copy")))
        path = folder.path / "proxy_search" / "tasks" / "width25.json"
        state = json.loads(path.read_text())
        state.update(stopping_state=None, final_step=None, final_train_seconds=None, checks=state["checks"][:2])
        path.write_text(json.dumps(state))
        words = verdict.judge_study(read_results(folder, time_tolerance=0.05))
        assert words.headline == "Proxy search not finished: no proxy task accepted yet"
        assert words.sentence == "0 of 1 proxy task judged to the end, none accepted."


class TestAcceptedByScore:
    def test_is_distinguished_from_acceptance_by_rank_correlation(self, new_study: NewStudy) -> None:
        author = new_study(8)
        author.measure_variance()
        author.select_models(start_models=8, models=6)
        author.search({"data50": ProxyTask(data_fraction=0.5)}, target=1.0, desired_score=0.2)
        words = verdict.judge_study(read_results(author.folder, time_tolerance=0.05))
        titles = {remark.title for remark in words.remarks}
        assert titles >= {"Accepted by score, not by rank correlation.", "Less data does not make a step cheaper."}


TASK = ProxyTask(
    data_fraction=0.5, overrides={"trainer.name": 'it\'s "a b"', "model.kind": "small", "trainer.flag": None}
)


class TestOverrides:
    def test_hydra_parses_them_to_the_original_values(self) -> None:
        lines = verdict.write_overrides(TASK, 120)
        overrides = OverridesParser.create().parse_overrides([unquoted(line) for line in lines])
        values = {override.key_or_group: override.value() for override in overrides}
        assert values.pop("trainer.name") == 'it\'s "a b"'
        assert values == {
            "proxy": "full",
            "proxy.data_fraction": 0.5,
            "search_space.model.kind": "small",
            "trainer.flag": None,
            "training.total_steps": 120,
        }

    def test_they_contain_derived_dimensions_and_define_the_same_task(self) -> None:
        ((_, task),) = span_grid({"compound": -2, "regularisation": "follow", "devices": 2}).items()
        lines = verdict.write_overrides(task, 120)
        assert lines == [
            "proxy=full",
            "proxy.width=0.8264",
            "proxy.depth=0.6944",
            "proxy.image_size=0.7561",
            "proxy.regularisation=0.5292",
            "proxy.image_mode=resize",
            "proxy.devices=2",
            "training.total_steps=120",
        ]
        pasted = {name: yaml.safe_load(value) for name, value in (line[6:].split("=") for line in lines[1:-1])}
        assert list(span_grid({"data_fraction": 1.0, **pasted}).values()) == [task]


def unquoted(line: str) -> str:
    (word,) = shlex.split(line)
    return word
