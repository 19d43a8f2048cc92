"""Classify handwritten digits with a LightningModule, written for the package `lightning`."""

import lightning as L
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from nasproxy.training.lightning import TrialCallback, resume_path

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


class Digits(L.LightningModule):
    def __init__(self, channels=8, kernel=3, activation="relu", learning_rate=0.01):
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(
            nn.Conv2d(1, channels, kernel, padding=kernel // 2),
            ACTIVATIONS[activation](),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(channels * 16, 10),
        )
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, index):
        images, labels = batch
        return self.loss(self.model(images), labels)

    def validation_step(self, batch, index):
        images, labels = batch
        logits = self.model(images)
        self.log("val_loss", self.loss(logits, labels))
        self.log("val_acc", (logits.argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), self.hparams.learning_rate)
        steps = self.trainer.estimated_stepping_batches
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def load(train_size=1200):
    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels)
    train = DataLoader(TensorDataset(inputs[:train_size], targets[:train_size]), batch_size=50, shuffle=True)
    return train, DataLoader(TensorDataset(inputs[1200:], targets[1200:]), batch_size=597)


def train(trial):
    L.seed_everything(trial.seed)
    model = Digits(**trial.architecture)
    trainer = L.Trainer(
        max_steps=trial.total_steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        callbacks=[TrialCallback(trial, monitor="val_acc", mode="max")],
    )
    batches = load(round(1200 * trial.proxy_task.data_fraction))
    trainer.fit(model, *batches, ckpt_path=resume_path(trial), weights_only=True)
