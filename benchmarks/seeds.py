"""Several seeds of one architecture in one training: their weights stacked, their steps taken together by vmap."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

Step = Callable[[Tensor, Tensor], None]
RATE = 0.01


def one_seed(build: Callable[[], nn.Module], device: torch.device) -> Step:
    """Steps of a single training, as anyone writes them."""
    torch.manual_seed(0)
    model = build().to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)

    def step(images: Tensor, labels: Tensor) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def many_seeds(build: Callable[[], nn.Module], seeds: int, device: torch.device) -> tuple[Step, dict[str, Tensor]]:
    """Steps of as many trainings as seeds, each on images of its own.

    Args:
        build: Makes the architecture; called once for each seed.
        seeds: Trainings.
        device: Where they train.

    Returns:
        The step, on images (seeds, n, channels, height, width) and labels (seeds, n); and the weights that it changes,
        each of shape (seeds, ...).
    """
    models = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        models.append(build().to(device).train())
    weights, buffers = stack_module_state(models)  # type: ignore[arg-type]
    weights = {name: weight.detach() for name, weight in weights.items()}
    frame = models[0]

    def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        # Stacked buffers are changed in place, so that each seed keeps the statistics of its own normalisation.
        return nn.functional.cross_entropy(functional_call(frame, (weights, buffers), (images,)), labels)

    gradients = vmap(grad(loss), randomness="different")

    def step(images: Tensor, labels: Tensor) -> None:
        found = gradients(weights, buffers, images, labels)
        torch._foreach_add_(list(weights.values()), [found[name] for name in weights], alpha=-RATE)

    return step, weights
