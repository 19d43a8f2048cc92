"""What the program says, and with which status it ends, where code or packages that it needs let it down."""

from pathlib import Path

import pytest

from helpers import cli

DEBUG = ("experiment=debug", "references.initial=8", "references.max=0", "cost.estimate_first=false")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["proxy=generator", "proxy.generator._target_=sys.exit"], "proxy.generator (sys.exit) must not end the"),
        (["proxy=generator", "proxy.generator._target_=helpers.user_code.leave"], "user_code.py, line"),
        (["proxy=generator", "proxy.generator._target_=helpers.script_without_main.x"], "must be importable, got"),
        (["data.loader={_target_:helpers.user_code.leave}"], "data.loader (helpers.user_code.leave) must not end"),
        (["selection={_target_:helpers.user_code.leave}"], "selection (helpers.user_code.leave) must not end"),
        (["criterion={_target_:helpers.user_code.leave}"], "criterion (helpers.user_code.leave) must not end"),
        (["tracking={_target_:helpers.user_code.leave}"], "tracking (helpers.user_code.leave) must not end"),
        (["backend={_target_:helpers.user_code.leave}"], "backend (helpers.user_code.leave) must not end"),
        (["trainer._target_=helpers.user_code.hurried"], "the trainer's check must not end the program, and raised"),
        (["trainer._target_=helpers.script_without_main.train"], "trainer._target_ must be importable, got"),
        (["trainer._target_=helpers.module_that_ends_its_process.train"], "and ended with exit status 0: does code"),
        (
            ["search_space=digits_cnn", "data=digits", "search_space.model._target_=helpers.user_code.leave"],
            "search_space.model (helpers.user_code.leave) must not end",
        ),
        (["criterion={_target_:helpers.user_code.ImpatientJudge}"], "code that the configuration names must not end"),
    ],
)
def test_code_of_a_study_cannot_end_the_program_in_silence(tmp_path: Path, overrides: list[str], sentence: str) -> None:
    code, output = cli.run(*DEBUG, *overrides, folder=tmp_path)
    assert code == 2, output
    assert sentence in output.splitlines()[-1]
    assert output.splitlines()[-1].startswith("nasproxy: ")
    assert "Traceback" not in output


def test_a_trainer_that_ends_its_worker_is_named_in_its_trials_status(tmp_path: Path) -> None:
    code, output = cli.run(*DEBUG, "trainer={_target_:helpers.user_code.leave}", folder=tmp_path)
    assert code == 2, output
    assert "SystemExit: 0" in output.splitlines()[-1]
