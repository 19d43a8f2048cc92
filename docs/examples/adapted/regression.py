"""Fit a small network to a function of ten variables; a lower mean squared error is better."""

import torch
from sklearn.datasets import make_friedman1
from torch import nn
from torch.nn.functional import mse_loss

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "silu": nn.SiLU}


def fit(trial, hidden, activation, weight_decay, steps, train_size, eval_every=20, seed=0):
    inputs, targets = (torch.tensor(each, dtype=torch.float32) for each in make_friedman1(2000, random_state=0))
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, hidden), ACTIVATIONS[activation](), nn.Linear(hidden, 1), nn.Flatten(0))
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        batch = torch.randint(train_size, (50,))
        optimizer.zero_grad()
        mse_loss(model(inputs[batch]), targets[batch]).backward()
        optimizer.step()
        schedule.step()
        if step % eval_every == 0:
            with torch.no_grad():
                loss = mse_loss(model(inputs[1000:]), targets[1000:]).item()
            trial.report(step, {"val_mse": loss})
            if trial.should_stop(step):
                return


def train(trial):
    size = round(1000 * trial.proxy_task.data_fraction)
    fit(trial, **trial.architecture, steps=trial.total_steps, train_size=size, seed=trial.seed)
