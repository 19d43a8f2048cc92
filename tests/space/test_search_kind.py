"""What a search space searches."""

import pytest

from nasproxy.errors import SpaceError
from nasproxy.space import SearchSpace
from nasproxy.space.search_kind import SearchKind, find_search_kind


@pytest.mark.parametrize(
    ("augmentation", "kind"),
    [
        ([], SearchKind.ARCHITECTURE),
        (["policy"], SearchKind.BOTH),
        (["policy", "depth"], SearchKind.AUGMENTATION),
        (["pol"], SearchKind.ARCHITECTURE),
    ],
)
def test_choices_and_groups_of_choices_may_decide_augmentation(augmentation: list[str], kind: SearchKind) -> None:
    assert find_search_kind(["policy.0.op", "policy.1.op", "depth"], augmentation) is kind


def test_a_path_that_the_space_does_not_have_is_refused() -> None:
    with pytest.raises(SpaceError, match="needs choices or groups of choices in augmentation, got 'ops': name some of"):
        SearchSpace("test", {"depth": [1, 2]}, augmentation=("ops",))
