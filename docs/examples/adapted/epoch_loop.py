"""Classify handwritten digits with a small network, trained for some epochs."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def load(train_size=1024):
    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
    return inputs[:train_size], targets[:train_size], inputs[1024:], targets[1024:]


def main(trial, hidden, layers, activation, learning_rate=0.1, seed=0):
    torch.manual_seed(seed)
    inputs, targets, valid_inputs, valid_targets = load(round(1024 * trial.proxy_task.data_fraction))
    sizes = [64] + [hidden] * layers
    body = [part for size in zip(sizes, sizes[1:]) for part in (nn.Linear(*size), ACTIVATIONS[activation]())]
    model = nn.Sequential(*body, nn.Linear(hidden, 10))
    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    path = trial.checkpoint_dir / "last.pt"
    step, weights = torch.load(path) if path.exists() else (0, model.state_dict())
    model.load_state_dict(weights)
    while not trial.should_stop(step):
        torch.manual_seed(seed + step)  # a resumed training draws the same batches
        for batch in torch.randperm(len(targets)).split(64)[: trial.total_steps - step]:
            optimizer.zero_grad()
            cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
            step += 1
        with torch.no_grad():
            accuracy = (model(valid_inputs).argmax(1) == valid_targets).float().mean()
        trial.report(step, {"accuracy": accuracy})
        torch.save((step, model.state_dict()), path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)


def train(trial):
    main(trial, seed=trial.seed, **trial.architecture)
