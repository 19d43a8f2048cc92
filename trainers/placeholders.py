"""Placeholders in the arguments and environment of a command, filled with the values of a trial."""

import json
import string
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from nasproxy.errors import ConfigError
from nasproxy.execution.worker.context import TrialContext
from nasproxy.trials.proxy_task import DIMENSIONS

ARCHITECTURE = "architecture."


def describe_trial(trial: TrialContext) -> dict[str, Any]:
    """Describe a trial to a program, as JSON values.

    Dimensions of the proxy task are multipliers of full training; `devices` is a number.
    """
    task, recipe = trial.proxy_task, trial.spec.recipe
    return {
        "model_dir": str(trial.model_dir.resolve()),
        "checkpoint_dir": str((trial.model_dir / "checkpoints").resolve()),
        "architecture": dict(trial.architecture),
        "seed": trial.seed,
        "split": trial.spec.split.value,
        "total_steps": trial.total_steps,
        "check_every_steps": recipe.check_every_steps,
        "check_steps": list(trial.check_steps),
        "proxy_task": {name: getattr(task, name) for name in DIMENSIONS},
        "device": trial.device,
        "devices": trial.spec.devices,
        "threads": trial.threads,
        "precision": recipe.precision,
        "micro_batch": recipe.micro_batch,
    }


def list_values(trial: TrialContext, own: Mapping[str, Any]) -> dict[str, Any]:
    """List the value of each placeholder.

    Args:
        trial: Trial that the values describe.
        own: User-defined values by the names of their placeholders.

    Raises:
        ConfigError: A user-defined value has the name of a value of the trial.
    """
    told = describe_trial(trial)
    choices = {f"{ARCHITECTURE}{choice}": value for choice, value in trial.architecture.items()}
    known = {**told["proxy_task"], **told, **choices, "python": sys.executable}
    taken = sorted(set(own) & set(known))
    if taken:
        raise ConfigError(f"trainer.values must not redefine placeholders of the trial, got {taken[0]!r}: rename it")
    return {**known, **own}


def fill_template(name: str, template: str, known: Mapping[str, Any]) -> str:
    """Fill the placeholders of a text such as `--width={width}`; `{width:.2f}` formats, `{{` is a brace.

    `{architecture.kernel?3}` gives a default for a choice that not every architecture has.

    Args:
        name: Config key of the text, for the error message.
        template: Text with placeholders.
        known: Values by placeholder.

    Raises:
        ConfigError: A placeholder is unknown, or its format does not match the value.
    """
    if not isinstance(template, str):
        raise ConfigError(f"{name} must be text, got {template!r}: put it in quotes")
    try:
        return "".join(
            before + _fill_field(field, form, conversion, known)
            for before, field, form, conversion in string.Formatter().parse(template)
        )
    except KeyError as error:
        raise ConfigError(
            f"{name} must use known placeholders, got {{{error.args[0]}}}: choose from {_join_names(known)}; write "
            f"{{{{ for a brace"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{name} must be text with placeholders such as {{seed}} or {{width:.2f}}, got {template!r}: {error}; "
            f"write {{{{ and }}}} for braces"
        ) from None


def _fill_field(field: str | None, form: str | None, conversion: str | None, known: Mapping[str, Any]) -> str:
    if field is None:
        return ""
    if conversion is not None:
        raise ValueError(f"conversion !{conversion} is not supported")
    name, mark, instead = field.partition("?")
    if mark and name.startswith(ARCHITECTURE) and name not in known:
        return instead
    return format(known[name], form) if form else write_value(known[name])


def write_value(value: Any) -> str:
    """Format a value for a program: text unchanged, lists separated by commas, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(write_value, value))
    return json.dumps(value)


def _join_names(known: Iterable[str]) -> str:
    return ", ".join(sorted(known))
