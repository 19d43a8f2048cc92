"""Dropout before the last layer of a timm model, as a module."""

from torch import nn

from nasproxy.errors import ConfigError


def add_dropout(model: nn.Module, rate: float) -> None:
    """Insert a dropout module before a timm model's last layer.

    Most timm models call the dropout function with their own `drop_rate`; a trainer that scales regularization with
    the proxy task needs a module that it can find.

    Args:
        model: Has timm's `get_classifier`; built with a `drop_rate` of 0. Changed in place.
        rate: Dropout probability, in [0, 1); 0 changes nothing.

    Raises:
        ConfigError: The rate is not in [0, 1), or the model has no single last layer.
    """
    check_rate("dropout", rate)
    if rate == 0:
        return
    classifier = model.get_classifier()  # type: ignore[operator]
    name = next((name for name, module in model.named_modules() if module is classifier), None)
    if name is None:
        raise ConfigError(
            f"dropout needs a single last layer, got {type(model).__name__} without one: set dropout to 0"
        )
    model.set_submodule(name, nn.Sequential(nn.Dropout(rate), classifier))


def check_rate(name: str, rate: float) -> None:
    """Check that a dropout probability lies in [0, 1).

    Raises:
        ConfigError: The rate is out of range or not a number.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ConfigError(f"{name} must lie in [0, 1), got {rate!r}: give a probability, or 0 for none")
