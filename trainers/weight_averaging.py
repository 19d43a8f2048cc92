"""Averages of a training's weights: steadier from check to check than the weights, and mostly better."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nasproxy.trainers.settings import ClassifierSettings

Tensors = list[Tensor] | tuple[Tensor, ...]


class WeightAverage:
    """The average of a model's weights and of its norms' statistics, where the settings want one."""

    def __init__(self, model: nn.Module, settings: ClassifierSettings, total_steps: int) -> None:
        self._model = model
        self._start = settings.smoothing_start_fraction * total_steps
        self._averaged = None if settings.smoothing == "none" else _averaged(model, settings)

    def update(self, step: int) -> None:
        """Take in the weights after `step` finished steps."""
        if self._averaged is not None and step > self._start:
            self._averaged.update_parameters(self._model)

    @property
    def model(self) -> nn.Module:
        """What is scored and kept: the averaged model, and until averaging starts the one that is trained."""
        if self._averaged is None or self._averaged.n_averaged == 0:
            return self._model
        return self._averaged.module

    def state_dict(self) -> dict[str, Tensor]:
        """The average as it stands; empty where there is none."""
        return {} if self._averaged is None else self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        if self._averaged is not None:
            self._averaged.load_state_dict(state)


def _averaged(model: nn.Module, settings: ClassifierSettings) -> AveragedModel:
    def update(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        # The count that is given lies on the weights' device; to read it there would wait for all that the device has
        # to do, at every step. The model's own lies on the CPU.
        average = get_ema_multi_avg_fn(compute_decay(settings, int(averaged.n_averaged)))  # type: ignore[no-untyped-call]
        average(averages, weights, count)

    averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True).requires_grad_(False).eval()
    return averaged


def compute_decay(settings: ClassifierSettings, count: int) -> float:
    """The share that an average of `count` weights keeps when another comes.

    The mean of all keeps count / (count + 1). A moving average begins at 2/11 and so soon forgets its first weights,
    as TensorFlow's ExponentialMovingAverage does. Torch's own function for the mean fails at norms' counters.
    """
    if settings.smoothing == "swa":
        return count / (count + 1)
    return min(settings.smoothing_decay, (1 + count) / (10 + count))
