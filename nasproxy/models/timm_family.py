"""Search space over existing timm models: a model name and keyword arguments."""

import difflib
from collections.abc import Mapping
from typing import Any

import timm
from timm.layers import get_act_layer
from timm.models import get_pretrained_cfg
from torch import nn

from nasproxy.errors import SpaceError
from nasproxy.models.dropout import add_dropout
from nasproxy.models.timm_scaling import create
from nasproxy.trials.spec import Choice

OURS = ("num_classes", "in_chans", "img_size")
REFUSED = (
    "pretrained",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "checkpoint_path",
    "cache_dir",
    "features_only",
    "device",
    "dtype",
)
"""Refused keywords: all architectures are trained from random weights, on the study's data and device."""


def build(
    architecture: Mapping[str, Choice],
    *,
    width: float,
    depth: float,
    num_classes: int,
    channels: int,
    image_size_px: int,
    fixed: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build an untrained timm model, with weights initialized from torch's default generator.

    Args:
        architecture: `model`, a name of `timm.list_models()`; all other choices are keyword arguments of the model,
            such as `drop_path_rate` or `act_layer`.
        width: Multiplier of the channels.
        depth: Multiplier of the number of blocks.
        num_classes: Number of classes.
        channels: Channels of an image.
        image_size_px: Side of an image; passed to models of fixed input size.
        fixed: Keyword arguments of every model that are not searched.

    Raises:
        SpaceError: The model does not exist, or does not accept these keywords.
        ConfigError: The width or depth of the model cannot be scaled.
    """
    name = _read_name(architecture)
    keywords = _merge_keywords(architecture, fixed or {})
    dropout = keywords.pop("drop_rate", 0.0)
    size = {"img_size": image_size_px} if _has_fixed_size(name) else {}
    keywords |= {"num_classes": num_classes, "in_chans": channels, **size}
    model = create(name, keywords, width=width, depth=depth)
    add_dropout(model, dropout)
    return model


def _read_name(architecture: Mapping[str, Choice]) -> str:
    if "model" not in architecture:
        raise SpaceError(
            f"timm_family needs the choice 'model', got {', '.join(architecture)}: add it, with names of timm models"
        )
    name = architecture["model"]
    if not isinstance(name, str) or not timm.is_model(name):
        close = difflib.get_close_matches(str(name), timm.list_models(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "see timm.list_models()"
        raise SpaceError(f"model must be a name of timm {timm.__version__}, got {name!r}: {hint}")
    return name


def _merge_keywords(architecture: Mapping[str, Choice], fixed: Mapping[str, Any]) -> dict[str, Any]:
    searched = {key: value for key, value in architecture.items() if key != "model"}
    for key in [*searched, *fixed]:
        if key in OURS:
            raise SpaceError(f"timm_family must not be given {key}, which it sets from the data: remove it")
        if key in REFUSED:
            raise SpaceError(
                f"timm_family must not be given {key}, since all models are trained from random weights: remove it"
            )
        if key in searched and key in fixed:
            raise SpaceError(f"{key} must be either a choice or fixed, got both: remove one of them")
    keywords = {**fixed, **searched}
    if isinstance(keywords.get("act_layer"), str):
        keywords["act_layer"] = _resolve_activation(keywords["act_layer"])
    return keywords


def _resolve_activation(name: str) -> Any:
    """Resolve an activation by name, since some models accept only its class."""
    try:
        return get_act_layer(name)
    except KeyError:
        raise SpaceError(
            f"act_layer must be an activation of timm, got {name!r}: choose relu, silu, gelu, hard_swish, ..."
        ) from None


def _has_fixed_size(name: str) -> bool:
    pretrained = get_pretrained_cfg(name)
    return bool(pretrained and pretrained.fixed_input_size)
