"""The computation graph of a SpineNet architecture: each block's level, function and input features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nasproxy.errors import SpaceError
from nasproxy.models.choices import Choices
from nasproxy.trials.spec import Choice

STEM_FEATURES = 2
OUTPUT_LEVELS = (3, 4, 5, 6, 7)
MIDDLE_LEVEL = 5
LEVELS = (1, 7)
"""The finest and the coarsest level of a block."""


@dataclass(frozen=True)
class Block:
    """One block of the graph; blocks compute consecutive features.

    Attributes:
        level: Level of the block's feature, whose side is the image's divided by 2**level.
        function: Block function, such as `bottleneck`.
        inputs: Numbers of the two input features.
        is_output: Whether the feature goes to the head.
        extra: Features that are added without resampling, because no other block uses them.
        is_needed: Whether an output depends on the feature.
    """

    level: int
    function: str
    inputs: tuple[int, int]
    is_output: bool = False
    extra: tuple[int, ...] = ()
    is_needed: bool = True


def read_graph(architecture: Mapping[str, Choice], functions: Sequence[str]) -> tuple[Block, ...]:
    """Read the blocks of an architecture in the order of computation.

    Args:
        architecture: Choices, as in `nasproxy.models.spinenet.build`.
        functions: Allowed block functions.

    Raises:
        SpaceError: A choice is missing or unknown, or its value is invalid for a graph.
    """
    choices = Choices(architecture, "spinenet")
    count = choices.count("levels")
    blocks = [
        _read_block(choices, f"blocks.{i}", STEM_FEATURES + i, functions, base=f"levels.{i}", has_offset=True)
        for i in range(count)
    ]
    for i in range(len(OUTPUT_LEVELS)):
        number = STEM_FEATURES + count + i
        output = _read_block(choices, f"outputs.{i}", number, functions, base=f"output_levels.{i}")
        blocks.append(replace(output, is_output=True))
    choices.finish()
    levels = sorted(block.level for block in blocks if block.is_output)
    if tuple(levels) != OUTPUT_LEVELS:
        raise SpaceError(
            f"output_levels must contain each of {OUTPUT_LEVELS} once, got {levels}: change the search space"
        )
    return _mark_needed(_add_unused_features(blocks))


def _read_block(
    choices: Choices, name: str, number: int, functions: Sequence[str], *, base: str, has_offset: bool = False
) -> Block:
    """Read the block that computes feature `number`."""
    level = choices.whole(base) + (choices.whole(f"{name}.level_offset") if has_offset else 0)
    function = choices.one_of(f"{name}.block_fn", functions)
    first, second = (choices.whole(f"{name}.inputs.{i}") for i in range(2))
    if not LEVELS[0] <= level <= LEVELS[1]:
        raise SpaceError(f"{name} must have a level from {LEVELS[0]} to {LEVELS[1]}, got {level}: change {base}")
    if first == second or not all(0 <= feature < number for feature in (first, second)):
        raise SpaceError(
            f"{name}.inputs must be two different features from 0 to {number - 1}, got {first} and {second}: change "
            f"the search space"
        )
    return Block(level, function, (first, second))


def _add_unused_features(blocks: Sequence[Block]) -> list[Block]:
    """Add to each output the earlier features of the same shape that no block has used yet."""
    is_used = [False] * (STEM_FEATURES + len(blocks))
    joined: list[Block] = []
    for block in blocks:
        for feature in block.inputs:
            is_used[feature] = True
        extra = [
            number
            for number, other in enumerate(joined, start=STEM_FEATURES)
            if block.is_output and not is_used[number] and _have_equal_shape(other, block)
        ]
        for feature in extra:
            is_used[feature] = True
        joined.append(replace(block, extra=tuple(extra)))
    return joined


def _have_equal_shape(one: Block, other: Block) -> bool:
    """Return whether the features of two blocks have the same shape."""
    widens = [block.function == "bottleneck" for block in (one, other)]
    return one.level == other.level and widens[0] == widens[1]


def _mark_needed(blocks: Sequence[Block]) -> tuple[Block, ...]:
    """Set `is_needed` of each block."""
    needed: set[int] = set()
    marked: list[Block] = []
    for number, block in reversed(list(enumerate(blocks, start=STEM_FEATURES))):
        is_needed = block.is_output or number in needed
        if is_needed:
            needed.update(block.inputs, block.extra)
        marked.append(replace(block, is_needed=is_needed))
    return tuple(reversed(marked))
