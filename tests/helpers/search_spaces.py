"""Search spaces for tests: a published one, one with all features, and random small ones by Hypothesis."""

import itertools

from hypothesis import strategies as st

MBCONV = {"block_fn": "mbconv"}
MNASNET = {
    "blocks": {
        "repeat": 7,
        "each": {
            "repeats": [-1, 0, 1],
            "block_fn": ["conv", "mbconv"],
            "expand": {"oneof": [1, 3, 6], "when": MBCONV},
            "kernel": [3, 5],
            "se": {"oneof": [0, 0.25], "when": MBCONV},
            "filters": [0.75, 1, 1.25],
        },
        # Blocks with one repeat in the reference cannot have fewer.
        "but": {0: {"repeats": [0, 1]}, 6: {"repeats": [0, 1]}},
    }
}
SPINENET = {
    "blocks": {
        "repeat": 11,
        "each": {
            "offset": [-1, 0, 1, 2],
            "block": ["residual", "bottleneck"],
            "inputs": {"manyof": [1, 2, 3, 4], "k": 2, "sorted": True},
        },
    },
    "outputs": {"repeat": 5, "each": {"manyof": [1, 2, 3, 4], "k": 2, "sorted": True}},
    "order": {"manyof": [2, 3, 3, 3, 4, 4, 4, 4, 4, 5, 5], "k": 11},
    "output_order": {"manyof": [3, 4, 5, 6, 7], "k": 5},
}
AUTOAUGMENT = {
    "policies": {
        "repeat": 5,
        "each": {
            "operations": {
                "repeat": 2,
                "each": {
                    "operation": [f"operation{i}" for i in range(13)],
                    "magnitude": list(range(11)),
                    "probability": [i / 10 for i in range(11)],
                },
            }
        },
    }
}
FEATURES = {
    "activation": ["relu", "silu"],
    "stem": {"kernel": [3, 5]},
    "blocks": {
        "repeat": 2,
        "each": {
            "op": ["conv", "mbconv"],
            "expand": {"oneof": [1, 3], "when": {"op": "mbconv"}},
            "deep": {"when": {"expand": 3}, "se": [True, False]},
        },
        "but": {1: {"expand": [3, 6]}},
    },
    "inputs": {"manyof": [1, 2, 3, 4], "k": 2, "sorted": True},
    "order": {"manyof": [2, 3, 3], "k": 3},
    "free": {"manyof": ["a", "b"], "k": 2, "distinct": False, "when": {"stem.kernel": 5}},
    "head": {"when": {"activation": ["relu"]}, "dropout": [0.0, 0.2]},
}


@st.composite
def trees(draw):
    """Draw a tree of a few choices of both kinds, with or without groups and conditions."""
    tree, single = {}, {}
    first_of_group = draw(st.integers(0, 4))
    for i in range(draw(st.integers(1, 4))):
        path = f"x{i}" if i < first_of_group else f"group.x{i}"
        choice = draw(leaves())
        conditions = draw(st.lists(st.sampled_from(sorted(single)), unique=True, max_size=2)) if single else []
        if conditions:
            choice["when"] = {
                other: draw(st.lists(st.sampled_from(single[other]), unique=True, min_size=1)) for other in conditions
            }
        if "oneof" in choice:
            single[path] = choice["oneof"]
        tree[path] = choice
    return tree


@st.composite
def leaves(draw):
    """Draw a choice without conditions."""
    values = draw(st.integers(1, 3)) if draw(st.booleans()) else 2
    if draw(st.booleans()):
        return {"oneof": list(range(values))}
    is_distinct, is_sorted = draw(st.booleans()), draw(st.booleans())
    entries = list(range(values))
    if is_distinct and not is_sorted:
        entries += draw(st.lists(st.sampled_from(entries), max_size=1))
    k = draw(st.integers(1, min(2, len(entries))))
    return {"manyof": entries, "k": k, "distinct": is_distinct, "sorted": is_sorted}


def points(tree):
    """List all combinations of the choices of a tree, including those without effect."""
    options = [[(path, picked) for picked in _listed(choice)] for path, choice in tree.items()]
    return [dict(point) for point in itertools.product(*options)]


def effective(tree, point):
    """Return the choices of a combination that exist, given the others."""
    kept = {}
    for path, choice in tree.items():
        when = choice.get("when", {})
        if all(other in kept and kept[other][0] in values for other, values in when.items()):
            kept[path] = point[path]
    return kept


def spelled_out(tree, point):
    """Convert a combination to an architecture."""
    return {
        (f"{path}.{slot}" if "manyof" in tree[path] else path): value
        for path, picked in point.items()
        for slot, value in enumerate(picked)
    }


def _listed(choice):
    if "oneof" in choice:
        return [(value,) for value in choice["oneof"]]
    entries, k = choice["manyof"], choice["k"]
    if choice["distinct"]:
        return list((itertools.combinations if choice["sorted"] else itertools.permutations)(entries, k))
    if choice["sorted"]:
        return list(itertools.combinations_with_replacement(entries, k))
    return list(itertools.product(entries, repeat=k))
