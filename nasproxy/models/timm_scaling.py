"""Width and depth scaling of timm models."""

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any

import timm
import torch
from timm.models import model_entrypoint
from timm.models.convnext import ConvNeXt
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from nasproxy.errors import ConfigError, SpaceError
from nasproxy.models.scaling import scale_channels, scale_repeats

Scaler = Callable[[Any, float, float], dict[str, Any]]


def create(name: str, keywords: Mapping[str, Any], *, width: float, depth: float) -> nn.Module:
    """Create a timm model with scaled channels and repeats.

    Args:
        name: Name of the model.
        keywords: Keyword arguments of the model.
        width: Multiplier of the channels: `channel_multiplier` of EfficientNets and MobileNets, `channels` of ResNets,
            `dims` of ConvNeXts, `embed_dim` of vision transformers with the number of heads unchanged.
        depth: Multiplier of the repeats, rounded up: `depth_multiplier`, `layers`, `depths` or `depth`.

    Raises:
        SpaceError: The model does not accept these keywords.
        ConfigError: The model cannot be scaled in a dimension.
    """
    if width == 1 and depth == 1:
        return _build(name, timm.create_model, name, **keywords)
    generator = _find_generator(model_entrypoint(name))
    if generator is not None:
        scaled = _scale_entrypoint(name, model_entrypoint(name), generator, width, depth)
        return _build(name, scaled, **keywords)
    with torch.device("meta"):
        full = _build(name, timm.create_model, name, **keywords)
    for family, scale in SCALERS.items():
        if isinstance(full, family):
            return _build(name, timm.create_model, name, **{**keywords, **scale(full, width, depth)})
    raise _make_scaling_error(name, "width" if width != 1 else "depth")


def _build(name: str, make: Callable[..., nn.Module], *arguments: Any, **keywords: Any) -> nn.Module:
    try:
        return make(*arguments, **keywords)
    except (TypeError, ValueError, AssertionError) as error:
        given = ", ".join(f"{key}={getattr(value, '__name__', value)}" for key, value in keywords.items())
        raise SpaceError(
            f"timm must be able to build {name} with {given}, got: {error}: change the search space"
        ) from error


def _make_scaling_error(name: str, dimension: str) -> ConfigError:
    return ConfigError(
        f"a proxy task that scales {dimension} needs a model whose {dimension} timm can change (ResNets, ConvNeXts, "
        f"vision transformers, EfficientNets, MobileNets), got {name}: set proxy.{dimension} to 1, or remove the model "
        f"from the search space"
    )


def _find_generator(entrypoint: FunctionType) -> str | None:
    """Return the name of the generator function that takes the entrypoint's multipliers, or None."""
    for name in entrypoint.__code__.co_names:
        if name.startswith("_gen_"):
            parameters = inspect.signature(entrypoint.__globals__[name]).parameters
            return name if "channel_multiplier" in parameters else None
    return None


def _scale_entrypoint(
    name: str, entrypoint: FunctionType, generator: str, width: float, depth: float
) -> Callable[..., nn.Module]:
    """Copy an entrypoint with a generator that scales both multipliers, which the entrypoint hard-codes."""
    generate = entrypoint.__globals__[generator]
    signature = inspect.signature(generate)

    def scaled(*arguments: Any, **keywords: Any) -> nn.Module:
        call = signature.bind(*arguments, **keywords)
        call.apply_defaults()
        for dimension, argument, factor in (
            ("width", "channel_multiplier", width),
            ("depth", "depth_multiplier", depth),
        ):
            if factor == 1:
                continue
            if not isinstance(call.arguments.get(argument), int | float):
                raise _make_scaling_error(name, dimension)
            call.arguments[argument] *= factor
        model: nn.Module = generate(*call.args, **call.kwargs)
        return model

    namespace = {**entrypoint.__globals__, generator: scaled}
    return FunctionType(
        entrypoint.__code__, namespace, entrypoint.__name__, entrypoint.__defaults__, entrypoint.__closure__
    )


def _scale_resnet(full: Any, width: float, depth: float) -> dict[str, Any]:
    stages = [getattr(full, f"layer{n}") for n in range(1, len(full.feature_info))]
    planes = [info["num_chs"] // stage[0].expansion for info, stage in zip(full.feature_info[1:], stages, strict=True)]
    scaled: dict[str, Any] = {
        "layers": tuple(scale_repeats(len(stage), depth) for stage in stages),
        "channels": tuple(scale_channels(channels, width) for channels in planes),
    }
    if isinstance(full.conv1, nn.Sequential):  # a stem of one convolution always has 64 channels
        second: Any = full.conv1[3]
        scaled["stem_width"] = scale_channels(second.out_channels, width)
    return scaled


def _scale_convnext(full: Any, width: float, depth: float) -> dict[str, Any]:
    return {
        "depths": tuple(scale_repeats(len(stage.blocks), depth) for stage in full.stages),
        "dims": tuple(scale_channels(info["num_chs"], width) for info in full.feature_info),
    }


def _scale_vision_transformer(full: Any, width: float, depth: float) -> dict[str, Any]:
    heads = full.blocks[0].attn.num_heads
    return {
        "depth": scale_repeats(len(full.blocks), depth),
        "embed_dim": scale_channels(full.embed_dim, width, 8 * heads),
    }


SCALERS: Mapping[type[nn.Module], Scaler] = {
    ResNet: _scale_resnet,
    ConvNeXt: _scale_convnext,
    VisionTransformer: _scale_vision_transformer,
}
