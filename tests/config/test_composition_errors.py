"""Errors of configurations that cannot be composed: one sentence with a suggested name or value."""

import os
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from nasproxy.config import schema
from nasproxy.config.composition_errors import FULL_ERROR, Composition
from nasproxy.config.renamed import REMOVED_KEYS, RENAMED_CHOICES, RENAMED_KEYS, find_new_key
from nasproxy.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"


def composed(*overrides: str) -> DictConfig:
    """Compose and read a configuration, as the command does."""
    schema.register_schema()
    with Composition(), initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [*overrides])
    schema.read_config(config)
    return config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.totalsteps=1"], "the configuration has no training.totalsteps: did you mean training.total_steps?"),
        (["total_steps=1"], "the configuration has no total_steps: did you mean training.total_steps?"),
        (["trainr.x=1"], "the configuration has no trainr: did you mean trainer?"),
        (["confirm.zzz=1"], "the configuration has no confirm.zzz: confirm has enabled, fresh_models, alpha"),
        (["trainer.zzz=1"], "and +trainer.zzz=VALUE adds it"),
        (["proxy=data42"], "proxy has no choice 'data42': did you mean proxy=data25?"),
        (["proxy=[data50,widht]"], "proxy has no choice 'widht': did you mean proxy=width?"),
        (["job=search"], "job has no choice 'search': did you mean job=search_proxy_task?"),
        (["trainer=imageclassifier"], "did you mean trainer=image_classifier?"),
        (["backend=slurm"], "backend has no choice 'slurm': choose among inline, local, replay"),
        (["training.total_steps=many"], "training.total_steps must be a whole number, got 'many'"),
        (["training.total_steps=1e26"], "training.total_steps must be a whole number, got 1e+26"),
        (["training.accelerator=gpu"], "training.accelerator must be one of auto, cpu, cuda, got 'gpu'"),
        (["training.check_at=[a]"], "training.check_at[0] must be a whole number, got 'a'"),
        (["training.check_at=5"], "training.check_at must be a list in brackets or null, got 5"),
        (["training=5"], "training must be a section with total_steps"),
        (["data.holdout_fraction=null"], "data.holdout_fraction must be a number, got null"),
        (["data.fingerprint=[]"], "data.fingerprint must be text or null, got []"),
        (["search_space.model=5"], "search_space.model must be a mapping of names to values, got 5"),
        (["proxy=null"], "a group must be given the name of a choice"),
        (["proxy=[5]"], "a group must be given the name of a choice"),
        (["proxy=data50,data25"], "write 'proxy=[data50,data25]', or add -m to run a job for each"),
        (["proxy.width=0.5,1"], "write 'proxy.width=[0.5,1]', or add -m to run a job for each"),
        (["seed=0,1"], "seed must be one value, got 0,1: add -m to run a job for each"),
        (["proxy.tasks=[{a"], "proxy.tasks=[{a cannot be read: write KEY=VALUE"),
        (["~nothing"], "'nothing' does not exist"),
        (["+foo=1"], "the configuration has no foo"),
        (["++training.foo=1"], "the configuration has no training.foo"),
        (["+variance.x=1"], "the configuration has no variance.x"),
        (["+job.x=1"], "the configuration has no job.x"),
        (["+data.x=1"], "the configuration has no data.x"),
        (["+proxy.witdh=0.5"], "the configuration has no proxy.witdh: did you mean proxy.width?"),
        (["+search_space.x=1"], "the configuration has no search_space.x"),
        (["~training"], "training cannot be removed"),
        (["~seed"], "seed cannot be removed"),
        (["trainer.noise=nan", "experiment=debug"], "trainer.noise must be a finite number, got nan"),
        (["controller.poll_seconds=inf"], "controller.poll_seconds must be a finite number, got inf"),
        (["proxy.tasks=[{name: a, width: nan}]"], "proxy.tasks.0.width must be a finite number, got nan"),
        ([f"training.total_steps={10**26}"], "training.total_steps must be at most 9223372036854775807 in size"),
        (["study=2024_10_05"], "study must be text, got the number 20241005: quote it, as in 'study=\"VALUE\"'"),
        (["search_space.name=1e3"], "search_space.name must be text, got the number 1000.0: quote it"),
        (["studies_dir=7"], "studies_dir must be text, got the number 7: quote it"),
        (["data.fingerprint=1_000"], "data.fingerprint must be text, got the number 1000: quote it"),
        (["training.precision=32"], "training.precision must be text, got the number 32: quote it"),
        (["study="], "study must be text, got an empty one"),
        (["job.stages=[]"], "job.stages must hold at least one stage"),
    ],
)
def test_an_invalid_override_gives_one_sentence_with_advice(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        composed(*overrides)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_quoted_text_is_not_converted() -> None:
    for text in ("2024_10_05", "1e3", "1.10", "nan", "true"):
        assert schema.read_config(composed(f'study="{text}"')).study == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("training: {totalsteps: 1}", "experiment/mine.yaml: the configuration has no training.totalsteps: did you"),
        ("training: {total_steps: many}", "experiment/mine.yaml: training.total_steps must be a whole number"),
        ("variance: {gate: warn}", "experiment/mine.yaml: variance.gate is named variance.on_failure now"),
        ("run: {poll_seconds: 1}", "experiment/mine.yaml: run is named controller now"),
        ("selection: {models: 5}", "selection.models is named references.initial now"),
        ("defaults: [override /job: search]", "job has no choice 'search'"),
        ("defaults: [override /jbo: design]", "Could not override 'jbo'"),
        ("training: {total_steps: 1", "a file or override is unusable: while parsing"),
        ("seed: 1\nseed: 2", "found duplicate key seed"),
        ("study: 2024_10_05", "study must be text, got the number 20241005: quote it"),
        ("study: 1.10", "study must be text, got the number 1.1: quote it"),
        ("study: yes", "study must be text, got the truth value True: quote it"),
    ],
)
def test_an_error_in_a_users_file_is_reported(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        composed(f"hydra.searchpath=[{tmp_path}]", "experiment=mine")


OLD_VALUES = {
    "variance.gate": "warn",
    "failures.nan": "fail",
    "training.device": "cpu",
    "job.steps": "[report]",
    "backend.direction": "min",
}


@pytest.mark.parametrize("old", [*(key for key in RENAMED_KEYS if key != "run"), "run.poll_seconds"])
def test_a_renamed_key_is_refused_with_its_new_name_which_composes(old: str) -> None:
    new, value = find_new_key(old), OLD_VALUES.get(old, "1")
    with pytest.raises(ConfigError, match=re.escape(f"{old} is named {new} now: set {new} instead")):
        composed(f"{old}={value}")
    with pytest.raises(ConfigError, match=r"is named .* now"):
        composed(f"+{old}={value}")
    composed(f"{new}={value}")


@pytest.mark.parametrize("old", REMOVED_KEYS)
def test_a_removed_key_is_refused_with_what_replaces_it(old: str) -> None:
    for override in (f"{old}=4", f"+{old}=4"):
        with pytest.raises(ConfigError, match=f"{re.escape(old)} does not exist any more: remove it, the decision"):
            composed(override)


@pytest.mark.parametrize("old", [choice for choice in RENAMED_CHOICES if not (CONF / f"{choice}.yaml").exists()])
def test_a_renamed_choice_is_refused_with_its_replacement_which_composes(old: str) -> None:
    with pytest.raises(ConfigError, match="any more: take") as caught:
        composed(old.replace("/", "="))
    composed(str(caught.value).rpartition("take ")[2])


def test_a_product_of_proxy_files_is_refused_with_its_parts_which_compose() -> None:
    with pytest.raises(ConfigError, match=re.escape("'proxy=[data50,width25,image75_crop]'")) as caught:
        composed("proxy=data50_width25_image75_crop")
    assert composed(str(caught.value).split("'")[-2]).proxy.width == 0.25


def test_hydras_own_error_is_raised_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FULL_ERROR, "1")
    with pytest.raises(Exception, match=r"Could not override 'training\.totalsteps'"):
        composed("training.totalsteps=1")
    assert os.environ[FULL_ERROR] == "1"


def test_an_error_of_a_job_is_not_reported_as_a_composition_error() -> None:
    with pytest.raises(ValueError, match="a bug"), Composition():
        raise ValueError("a bug")
    assert FULL_ERROR not in os.environ
