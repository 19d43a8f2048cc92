"""Advice for spaces whose choices decide augmentation: such a search is no architecture search."""

from collections.abc import Collection, Iterator

from nasproxy.report.wording import Remark
from nasproxy.space import SearchSpace
from nasproxy.space.search_kind import SearchKind, find_search_kind
from nasproxy.stages.study_results import StudyResults

TITLES = {
    SearchKind.AUGMENTATION: "This is an augmentation search, not an architecture search.",
    SearchKind.BOTH: "Architecture and augmentation are searched together.",
}


def advise_on_augmentation(choices: Collection[str], augmentation: Collection[str]) -> Remark | None:
    """Give advice on a space whose choices decide augmentation; None for an architecture search.

    Args:
        choices: Paths of the space's choices.
        augmentation: Paths of the choices, or groups of them, that decide augmentation.

    Source: Documentation of Vertex AI NAS, which advises to reduce the data rather than the steps for such a search,
    and not to mix it with an architecture search.
    """
    kind = find_search_kind(choices, augmentation)
    if kind is SearchKind.ARCHITECTURE:
        return None
    decide = f"{', '.join(augmentation)} {'decides' if len(augmentation) == 1 else 'decide'} augmentation"
    if kind is SearchKind.BOTH:
        return Remark(
            TITLES[kind],
            f"In this space {decide}, the other choices the architecture. Search one after the other: short trainings "
            f"and small models favour weak augmentation, whatever the architecture.",
        )
    return Remark(
        TITLES[kind],
        f"In this space {decide}, and nothing else is searched. Strong augmentation pays only late in training: use "
        f"proxy tasks with less data, as many epochs, and a schedule that ends, as in experiment=augmentation_search, "
        f"rather than ones that stop early.",
    )


def advise_on_kind(space: SearchSpace) -> Iterator[str]:
    """Yield a line of advice for a space whose choices decide augmentation."""
    remark = advise_on_augmentation([decision.path for decision in space.declared], space.augmentation)
    if remark is not None:
        yield f"advice: {remark.title} {remark.text}"


def remark_on_augmentation(results: StudyResults) -> Iterator[Remark]:
    """Remark on a study whose space decides augmentation, with the step at which the accepted task stops."""
    augmentation = results.base.get("search_space.augmentation") or ()
    choices = {path for reference in results.references for path in reference.architecture}
    remark = advise_on_augmentation(choices, augmentation)
    if remark is None:
        return
    best, stops = results.best, ""
    if best is not None and best.final_step is not None:
        stops = f" {best.name} stops after {best.final_step:,} of {best.total_steps:,} steps."
    yield Remark(remark.title, remark.text + stops)
