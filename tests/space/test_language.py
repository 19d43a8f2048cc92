"""The language of search spaces: accepted and rejected inputs."""

import pytest
import yaml

from nasproxy.errors import SpaceError
from nasproxy.space import SearchSpace


def space(text):
    return SearchSpace("test", yaml.safe_load(text))


def described(searched):
    return {
        decision.path: (list(decision.options.values), {c.path: list(c.values) for c in decision.conditions})
        for decision in searched.declared
    }


def every(searched):
    return [searched.architecture(place) for place in range(searched.size)]


def test_a_choice_that_does_not_exist_does_not_distinguish_architectures():
    searched = space("""
        op: [conv, mbconv]
        expand: {oneof: [1, 3, 6], when: {op: mbconv}}
    """)
    assert every(searched) == [{"op": "conv"}, *({"op": "mbconv", "expand": n} for n in (1, 3, 6))]
    assert (searched.points, searched.size, searched.decisions) == (6, 4, 2)


def test_members_of_a_repeated_group_are_equal_except_for_but():
    searched = space("""
        blocks:
          repeat: 3
          each:
            op: [conv, mbconv]
            expand: {oneof: [1, 3], when: {op: mbconv}}
            inner: {kernel: [3, 5], stride: [1, 2]}
          but:
            0: {expand: [1, 6], inner.kernel: [7]}
            2: {inner: {stride: [1]}}
    """)
    assert described(searched) == {
        "blocks.0.op": (["conv", "mbconv"], {}),
        "blocks.0.expand": ([1, 6], {}),
        "blocks.0.inner.kernel": ([7], {}),
        "blocks.0.inner.stride": ([1, 2], {}),
        "blocks.1.op": (["conv", "mbconv"], {}),
        "blocks.1.expand": ([1, 3], {"blocks.1.op": ["mbconv"]}),
        "blocks.1.inner.kernel": ([3, 5], {}),
        "blocks.1.inner.stride": ([1, 2], {}),
        "blocks.2.op": (["conv", "mbconv"], {}),
        "blocks.2.expand": ([1, 3], {"blocks.2.op": ["mbconv"]}),
        "blocks.2.inner.kernel": ([3, 5], {}),
        "blocks.2.inner.stride": ([1], {}),
    }


def test_a_searched_depth_is_a_condition_on_members():
    searched = space("""
        depth: [1, 2, 3]
        layers:
          repeat: 3
          each: {kernel: [3, 5]}
          but:
            1: {when: {depth: [2, 3]}}
            2: {when: {depth: 3}}
    """)
    assert searched.size == 2 + 4 + 8
    assert searched.architecture(0) == {"depth": 1, "layers.0.kernel": 3}


def test_groups_can_be_repeated_within_groups_and_single_choices_too():
    searched = space("stages: {repeat: 2, each: {repeat: 3, each: [a, b], but: {1: [c]}}}")
    assert searched.architecture(0) == {f"stages.{i}.{j}": "c" if j == 1 else "a" for i in range(2) for j in range(3)}
    assert searched.size == 2**4


def test_conditions_are_looked_up_in_their_group_first_then_outwards():
    searched = space("""
        op: [x, y]
        stage:
          op: [a, b]
          block:
            near: {oneof: [1, 2], when: {op: a}}
            far: {oneof: [1, 2], when: {stage.op: b}}
        other:
          root: {oneof: [1, 2], when: {op: y}}
          when: {op: [x, y]}
    """)
    assert {path: conditions for path, (_, conditions) in described(searched).items() if conditions} == {
        "stage.block.near": {"stage.op": ["a"]},
        "stage.block.far": {"stage.op": ["b"]},
        "other.root": {"op": ["y"]},
    }


def test_all_conditions_must_hold_including_those_of_the_group():
    searched = space("""
        a: [0, 1]
        b: [0, 1, 2]
        group:
          when: {a: 1}
          c: {oneof: [0, 1], when: {b: [1, 2]}}
          d: [0, 1]
    """)
    assert searched.size == 3 + (1 * 2 + 2 * 2 * 2)
    assert {"a": 1, "b": 0, "group.d": 1} in every(searched)


def test_a_condition_on_a_choice_that_is_absent_does_not_hold():
    searched = space("""
        a: [0, 1]
        b: {oneof: [0, 1], when: {a: 1}}
        c: {oneof: [0, 1], when: {b: [0, 1]}}
    """)
    assert searched.size == 1 + 2 * 2
    assert every(searched)[0] == {"a": 0}


def test_conditions_distinguish_true_from_one_but_not_one_from_one_point_zero():
    searched = space("""
        flag: [true, 1, 0]
        a: {oneof: [x, y], when: {flag: true}}
        b: {oneof: [x, y, z], when: {flag: 1.0}}
    """)
    assert searched.size == 2 + 3 + 1


def test_several_values_have_slots():
    searched = space("""
        inputs: {manyof: [1, 2, 3, 4], k: 2, distinct: true, sorted: true}
        order: {manyof: [2, 3, 3], k: 3}
        free: {manyof: [a, b], k: 2, distinct: false}
    """)
    assert list(searched.architecture(0).items()) == [
        ("inputs.0", 1), ("inputs.1", 2), ("order.0", 2), ("order.1", 3), ("order.2", 3), ("free.0", "a"),
        ("free.1", "a"),
    ]  # fmt: skip
    assert searched.decisions == 7
    assert searched.points == 6 * 6 * 4
    assert searched.size == 6 * 3 * 4


def test_dotted_keys_and_whole_numbers_are_names_of_groups():
    dotted = space("{stage.channels: [8, 16], stage.kernel: [3, 5], 1: [a, b]}")
    nested = space("{stage: {channels: [8, 16], kernel: [3, 5]}, '1': [a, b]}")
    assert described(dotted) == described(nested)
    assert list(described(dotted)) == ["stage.channels", "stage.kernel", "1"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {oneof: []}", r"choice 'a' of 'test' needs a list of values, got \[\]"),
        ("a: {oneof: [1, 1]}", "choice 'a' of 'test' needs different values, got 1 twice"),
        ("a: {oneof: [1, .inf]}", "takes finite numbers, got inf"),
        ("a: {oneof: [1, 2], among: 3}", "'a' of 'test' has 'among' beside `oneof`, where only when may stand"),
        ("a: {oneof: [1, 2], k: 1}", "has 'k' beside `oneof`"),
        ("a: {oneof: [1, 2], manyof: [1, 2]}", "has 'manyof' beside `oneof`"),
        ("a: {manyof: [1, 2], k: 1, b: [1]}", "has 'b' beside `manyof`, where only k, distinct, sorted, when may"),
        ("a: {manyof: [1, 2]}", "needs a whole k from 1 to 2, for each entry is chosen once at most, got None"),
        ("a: {manyof: [1, 2], k: 3}", "needs a whole k from 1 to 2, .* got 3"),
        ("a: {manyof: [1, 2], k: 0, distinct: false}", "needs a whole k of at least 1, got 0"),
        ("a: {manyof: [1, 2], k: true}", "needs a whole k from 1 to 2, .* got True"),
        ("a: {manyof: [1, 2], k: 1, sorted: yes please}", "needs `sorted` to be true or false, got 'yes please'"),
        ("a: {manyof: [1, 1], k: 1, sorted: true}", "needs different values, got 1 twice"),
        ("a: {manyof: [1, 1], k: 1, distinct: false}", "needs different values, got 1 twice"),
        ("a: {}", "group 'a' of 'test' needs choices, got none"),
        ("a: {one_of: [1, 2]}", "group 'a' of 'test' needs `oneof` written so, got 'one_of': rename it"),
        ("a: {ManyOf: [1, 2], b: [1, 2]}", "group 'a' of 'test' needs `manyof` written so, got 'ManyOf'"),
        ("a: {b: [1, 2], k: [1, 2]}", "group 'a' of 'test' needs other names than 'k', a word of the language"),
        ("a: {repeat: 2, each: {b: [1, 2]}, c: [1]}", "has 'c' beside `repeat`, where only each, but, when may stand"),
        ("a: {repeat: 0, each: {b: [1, 2]}}", "needs a whole `repeat` of at least 1, got 0"),
        ("a: {each: {b: [1, 2]}}", "needs a whole `repeat` of at least 1, got None"),
        ("a: {repeat: 2}", "needs `each` beside `repeat`"),
        ("a: {repeat: 2, each: {b: [1, 2]}, but: [1]}", r"needs `but` to map members to choices, got \[1\]"),
        ("a: {repeat: 2, each: {b: [1, 2]}, but: {2: {b: [1]}}}", "has members 0 to 1, got '2' in `but`"),
        ("a: {repeat: 2, each: {b: [1, 2]}, but: {0: {c: [1]}}}", r"'a.0.c' .* must be one of .* `each` has \(b\)"),
        ("a: {repeat: 2, each: {b: []}}", r"choice 'a.0.b' of 'test' needs a list of values, got \[\]"),
        ("a b: [1, 2]", "needs names of letters, digits, '_' and '-' .* got 'a b'"),
        ("{a: {'': [1, 2]}}", "group 'a' of search space 'test' needs names .* got ''"),
        ("a.: [1, 2]", "needs names .* got 'a.'"),
        ("a..b: [1, 2]", "needs names .* got '.b'"),
        ("yes: [1, 2]", "needs names .* got True"),
        ("1.5: [1, 2]", "needs names .* got 1.5"),
        ("{a.b: [1, 2], a: {b: [1, 2]}}", "choice 'a.b' of 'test' is declared twice"),
        ("{a: [1, 2], a.b: [1, 2]}", "choice 'a' of 'test' is declared twice"),
        ("{0: [1, 2], '0': [1, 2]}", "choice '0' of 'test' is declared twice"),
        ("{a: {manyof: [1, 2], k: 1}, a.0: [1, 2]}", "choice 'a' of 'test' has '0' beside `manyof`"),
        ("oneof: [1, 2]", "'test' needs choices with names"),
        ("[1, 2]", r"'test' needs choices, got \[1, 2\]"),
        ("{a: [1, 2], when: {a: 1}}", "needs choices with names"),
    ],
)
def test_trees_that_violate_the_language_are_refused(text, message):
    with pytest.raises(SpaceError, match=message):
        space(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{b: {oneof: [1, 2], when: {a: 1}}, a: [1, 2]}", "'b' .* has a condition on something later, 'a'"),
        ("{a: {oneof: [1, 2], when: {a: 1}}}", "'a' .* has a condition on something later, 'a'"),
        ("{b: [1, 2], g: {c: {oneof: [1, 2], when: {b: 1}}, b: [1, 2]}}", "on something later, 'g.b'"),
        (
            "{a: [1, 2], b: {oneof: [1, 2], when: {c: 1}}}",
            "has a condition on 'c', which neither its group nor one around it has",
        ),
        ("{a: {b: [1, 2]}, c: {oneof: [1, 2], when: {a: 1}}}", "has a condition on 'a', which is a group"),
        ("{a: {manyof: [1, 2], k: 1}, b: {oneof: [1, 2], when: {a: 1}}}", "'a', which chooses several: add a choice"),
        ("{a: {manyof: [1, 2], k: 1}, b: {oneof: [1, 2], when: {a.0: 1}}}", "'a', which chooses several"),
        ("{a: [1, 2], b: {oneof: [1, 2], when: {a: 3}}}", r"on 'a' being 3, which is not among its values \[1, 2\]"),
        ("{a: [1, 2], b: {oneof: [1, 2], when: {a: [1, true]}}}", "on 'a' being True, which is not among its values"),
        ("{a: [1, 2], b: {oneof: [1, 2], when: {a: []}}}", r"'b.when.a' of 'test' needs a list of values, got \[\]"),
        ("{a: [1, 2], b: {oneof: [1, 2], when: {}}}", "needs `when` to map choices to values"),
        ("{a: [1, 2], b: {oneof: [1, 2], when: a}}", "needs `when` to map choices to values, .* got 'a'"),
        ("{a: {x: [1, 2]}, b: {oneof: [1, 2], when: {a.x: 1, a: {x: 2}}}}", "has a choice twice in `when`"),
        (
            "{a: [1, 2], g: {when: {a: 1}, b: {oneof: [1, 2], when: {a: 2}}}}",
            "'g.b' of 'test' has conditions on 'a' that never hold together",
        ),
        (
            "{a: [1, 2], b: {oneof: [1, 2], when: {a: 1}}, c: {oneof: [1, 2], when: {b: 1, a: 2}}}",
            "choice 'c' must exist in some architecture, and its conditions never hold together",
        ),
        (
            "blocks: {repeat: 2, each: {op: [a, b], x: {oneof: [1, 2], when: {op: b}}}, but: {1: {op: [a]}}}",
            "'blocks.1.x' .* has a condition on 'blocks.1.op' being 'b', which is not among its values",
        ),
    ],
)
def test_an_invalid_condition_is_refused(text, message):
    with pytest.raises(SpaceError, match=message):
        space(text)


def test_too_complex_conditions_are_refused_quickly():
    choices = {f"a{i}": [0, 1] for i in range(30)}
    last = {f"b{i}": {"oneof": [0, 1], "when": {f"a{i}": 1}} for i in range(30)}
    with pytest.raises(SpaceError, match="conditions up to choice 'a16' depend on too many earlier choices at once"):
        SearchSpace("test", {**choices, **last})
