"""Averages of weights over training (EMA, SWA), whose scores vary less from check to check."""

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nasproxy.trainers.settings import ClassifierSettings

Tensors = list[Tensor] | tuple[Tensor, ...]


class WeightAverage:
    """Average of a model's parameters and buffers, if the settings enable it."""

    def __init__(self, model: nn.Module, settings: ClassifierSettings, total_steps: int) -> None:
        self._model = model
        self._start = settings.smoothing_start_fraction * total_steps
        self._averaged = None if settings.smoothing == "none" else _make_average(model, settings)

    def update(self, step: int) -> None:
        """Update the average with the weights after `step` finished steps."""
        if self._averaged is not None and step > self._start:
            self._averaged.update_parameters(self._model)

    @property
    def model(self) -> nn.Module:
        """The model to validate and save: the averaged one, or the trained one before averaging starts."""
        if self._averaged is None or self._averaged.n_averaged == 0:
            return self._model
        return self._averaged.module

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of the average; empty without averaging."""
        return {} if self._averaged is None else self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state of the average."""
        if self._averaged is not None:
            self._averaged.load_state_dict(state)


def _make_average(model: nn.Module, settings: ClassifierSettings) -> AveragedModel:
    def update(averages: Tensors, weights: Tensors, count: Tensor | int) -> None:
        # The given count is on the weights' device, and reading it would synchronize the device at every step; the
        # averaged model's own count is on the CPU.
        average = get_ema_multi_avg_fn(compute_decay(settings, int(averaged.n_averaged)))  # type: ignore[no-untyped-call]
        average(averages, weights, count)

    averaged = AveragedModel(model, multi_avg_fn=update, use_buffers=True).requires_grad_(False).eval()
    return averaged


def compute_decay(settings: ClassifierSettings, count: int) -> float:
    """Compute the decay with which an average of `count` weights is updated.

    For SWA, count / (count + 1) gives the mean. For EMA, the decay rises from 2/11, as in TensorFlow's
    ExponentialMovingAverage, so that early weights are forgotten soon. Torch's own SWA function fails for integer
    buffers, such as batch-norm counters.
    """
    if settings.smoothing == "swa":
        return count / (count + 1)
    return min(settings.smoothing_decay, (1 + count) / (10 + count))
