from pathlib import Path
from typing import Any, Literal

import pytest

from nasproxy.errors import ConfigError, DataError
from nasproxy.targets import build_target, check_arguments, list_targets, load_target


def make(
    size: int,
    *,
    rate: float = 0.1,
    mode: Literal["a", "b"] = "a",
    names: tuple[str, ...] = (),
    given: object = None,
) -> tuple[object, ...]:
    return (size, rate, mode, given, names)


def say(text: str | None = None) -> str | None:
    return text


def refuse() -> None:
    raise DataError("data needs images, got none: add some")


def read() -> str:
    return Path("/nowhere/at/all").read_text()


def fail() -> None:
    raise RuntimeError("boom")


def end(error: BaseException) -> None:
    raise error


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "targets_under_test", sys.modules[__name__])


def node(name: str, **arguments: object) -> dict[str, object]:
    return {"_target_": f"targets_under_test.{name}", **arguments}


def test_a_node_is_built_with_arguments_of_the_caller_and_defaults() -> None:
    assert build_target("thing", node("make", size=3, rate=1), given="x") == (3, 1, "a", "x", ())


def test_a_list_is_accepted_for_another_sequence_type() -> None:
    check_arguments("thing", node("make", size=3, names=["a", "b"]), given={})


@pytest.mark.parametrize("value", [2024_10_05, 1.5, True])
def test_a_number_in_place_of_text_is_refused_with_how_to_quote_it(value: object) -> None:
    with pytest.raises(ConfigError, match=r"thing\.text must be .*: quote it, as in 'thing\.text=\"VALUE\"'"):
        check_arguments("thing", node("say", text=value), given={})


@pytest.mark.parametrize("value", [5, 0.5, True, "text", [], [1]])
def test_a_target_that_is_not_a_mapping_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="thing needs a _target_, the dotted path of a function or class, got"):
        load_target("thing", value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "thing needs 'size', which"),
        ({"size": "big"}, "thing.size must be int, got 'big'"),
        ({"size": 1.5}, "thing.size must be int, got 1.5"),
        ({"size": 1, "rate": "fast"}, "thing.rate must be float, got 'fast'"),
        ({"size": 1, "mode": "c"}, "thing.mode must be .*got 'c'"),
        ({"size": 1, "colour": 2}, "thing has no 'colour': .* takes mode, names, rate, size"),
        ({"size": 1, "rat": 2}, "thing has no 'rat': targets_under_test.make has 'rate'"),
        ({"size": 1, "given": 2}, "thing has no 'given': .* takes mode, names, rate, size"),
        ({"size": 1, "rate": []}, "thing.rate must be float, got \\[\\]"),
        ({"size": 1, "rate": {}}, "thing.rate must be float, got {}"),
        ({"size": [1]}, "thing.size must be int, got \\[1\\]"),
        ({"size": 1, "names": ["a", 2024_10_05]}, "thing.names must be .*got \\['a', 20241005\\]"),
        ({"size": 1, "names": 2024_10_05}, "thing.names must be"),
    ],
)
def test_arguments_are_checked_against_the_signature(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_arguments("thing", node("make", **arguments), given={"given": None})


@pytest.mark.parametrize("target", [None, "nothing", "os.nothing", "math.pi", "no.such.module"])
def test_a_missing_or_invalid_target_is_refused(target: str | None) -> None:
    with pytest.raises(ConfigError, match=r"thing(\._target_ must name| needs a _target_)"):
        load_target("thing", {"_target_": target})


def test_an_error_of_nasproxy_is_raised_unchanged() -> None:
    with pytest.raises(DataError, match="data needs images, got none"):
        build_target("thing", node("refuse"))


def test_an_error_of_user_code_names_its_target() -> None:
    with pytest.raises(
        ConfigError, match=r"from targets_under_test\.fail: RuntimeError: boom \(.*test_targets\.py, line \d+\)"
    ):
        build_target("thing", node("fail"))


def test_an_error_names_the_line_in_user_code() -> None:
    with pytest.raises(ConfigError, match=r"FileNotFoundError: .*nowhere.* \(.*test_targets\.py, line \d+\)$"):
        build_target("thing", node("read"))


@pytest.mark.parametrize("error", [SystemExit, SystemExit(3), GeneratorExit("done")])
def test_a_target_cannot_end_the_program(error: BaseException) -> None:
    with pytest.raises(ConfigError, match=r"thing \(targets_under_test.end\) must not end the program, and raised"):
        build_target("thing", node("end"), error=error)


def test_a_target_can_be_interrupted() -> None:
    with pytest.raises(KeyboardInterrupt, match="now"):
        build_target("thing", node("end"), error=KeyboardInterrupt("now"))


@pytest.mark.parametrize(
    ("statement", "error", "message"),
    [
        ("sys.exit(0)", ConfigError, r"thing._target_ must be importable, got .*: SystemExit: 0 \(.*, line 1\)"),
        ("raise KeyboardInterrupt('now')", KeyboardInterrupt, "now"),
    ],
)
def test_importing_a_target_cannot_end_the_program_and_can_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, error: type[BaseException], message: str
) -> None:
    (tmp_path / "module_under_test.py").write_text(f"import sys; {statement}")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match=message):
        load_target("thing", {"_target_": "module_under_test.make"})


def test_every_target_of_a_tree_is_found() -> None:
    tree = {"a": {"_target_": "x.y", "b": [{"_target_": "z"}]}, "c": 1}
    assert list_targets(tree) == ["x.y", "z"]
