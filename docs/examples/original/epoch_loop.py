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


def main(hidden=64, layers=1, activation="relu", learning_rate=0.1, epochs=20, seed=0):
    torch.manual_seed(seed)
    inputs, targets, valid_inputs, valid_targets = load()
    sizes = [64] + [hidden] * layers
    body = [part for size in zip(sizes, sizes[1:]) for part in (nn.Linear(*size), ACTIVATIONS[activation]())]
    model = nn.Sequential(*body, nn.Linear(hidden, 10))
    optimizer = torch.optim.SGD(model.parameters(), learning_rate)
    for epoch in range(epochs):
        for batch in torch.randperm(len(targets)).split(64):  # 16 steps
            optimizer.zero_grad()
            cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (model(valid_inputs).argmax(1) == valid_targets).float().mean()
        print(f"epoch {epoch + 1}: accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
