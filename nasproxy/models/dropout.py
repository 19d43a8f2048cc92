"""Dropout before the last layer of a timm model, as a module."""

from torch import nn

from nasproxy.errors import ConfigError


def add_dropout(model: nn.Module, rate: float) -> None:
    """Drop features before a timm model's last layer.

    Most of timm's models drop by a function and a number of their own, `drop_rate`; a module is what a trainer finds
    when it scales regularisation with a proxy task.

    Args:
        model: Has timm's `get_classifier`; built with a `drop_rate` of 0. It is changed.
        rate: Probability with which a feature is dropped; 0 changes nothing.

    Raises:
        ConfigError: The rate is not in [0, 1), or the model has not one last layer.
    """
    check_rate("dropout", rate)
    if rate == 0:
        return
    classifier = model.get_classifier()  # type: ignore[operator]
    name = next((name for name, module in model.named_modules() if module is classifier), None)
    if name is None:
        raise ConfigError(f"{type(model).__name__} has not one last layer to drop features before: set dropout to 0")
    model.set_submodule(name, nn.Sequential(nn.Dropout(rate), classifier))


def check_rate(name: str, rate: float) -> None:
    """Hold a probability of dropping against its range.

    Raises:
        ConfigError: It is not in [0, 1).
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ConfigError(f"{name} must lie in [0, 1), got {rate!r}: 0 drops nothing")
