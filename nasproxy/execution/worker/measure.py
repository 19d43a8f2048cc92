"""Measurements of a trial's untrained model."""

from collections.abc import Sequence
from pathlib import Path

from nasproxy.data.dataset import TrialImages
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.zero_cost_scores import ZeroCost
from nasproxy.trials.spec import TrialSpec, to_canonical_json


def measure_zero_costs(specs: Sequence[TrialSpec]) -> list[ZeroCost | None]:
    """Score the models of trials without training them.

    Returns:
        Scores in the order of `specs`; None if the trainer brings its own data and model, or the model cannot be
        built.

    Raises:
        NasproxyError: The data cannot be loaded.
    """
    import torch

    torch.set_num_threads(1)  # more threads do not pay for single images
    splits: dict[str, TrialImages] = {}
    return [_measure_zero_cost(spec.applied(), splits) for spec in specs]


def _measure_zero_cost(spec: TrialSpec, splits: dict[str, TrialImages]) -> ZeroCost | None:
    from nasproxy.models.complexity import measure_complexity

    if spec.recipe.data.get("loader") is None:
        return None
    context, task = TrialContext(Path(), spec), spec.proxy_task
    shape = to_canonical_json([spec.recipe.data, task.image_size, task.image_mode])
    if shape not in splits:
        splits[shape] = context.load_data()
    try:
        return measure_complexity(context.build_model(splits[shape]), splits[shape].image_shape)
    except Exception:  # the model is user code; if it cannot be built, its trial fails and reports the reason
        return None
