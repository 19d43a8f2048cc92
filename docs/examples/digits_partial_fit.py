"""Train with scikit-learn: a linear classifier on random features of the handwritten digits.

python run.py experiment=example_sklearn

It does not import nasproxy: it reads its trial as JSON from NASPROXY_TRIAL, reports in a file, and continues from its
checkpoint if there is one.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import joblib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

TRAIN_SIZE = 1200
BATCH_SIZE = 32
SHAPES = {"relu": lambda x: np.maximum(x, 0.0), "cosine": np.cos, "sign": np.sign}


def main() -> None:
    """Train to the last step, or until SIGTERM."""
    trial = json.loads(os.environ["NASPROXY_TRIAL"])
    architecture, task = trial["architecture"], trial["proxy_task"]
    told_to_end: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told_to_end.append(number))

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    train, valid = order[: round(TRAIN_SIZE * task["data_fraction"])], order[TRAIN_SIZE:]
    count = max(1, round(architecture["features"] * task["width"]))
    inputs = random_features(images / 16, count, architecture["scale"], architecture["shape"], trial["seed"])

    checkpoint = Path(trial["checkpoint_dir"]) / "classifier.joblib"
    if checkpoint.exists():
        step, classifier = joblib.load(checkpoint)
    else:
        step, classifier = 0, new_classifier(trial)

    seconds = 0.0
    with Path(trial["model_dir"], "reports.jsonl").open("a", buffering=1) as reports:
        for end in (check for check in trial["check_steps"] if check > step):
            began = time.perf_counter()
            while step < end:
                # The images of a step depend on seed and step only, so that a resumed training gives the same scores.
                batch = np.random.default_rng((trial["seed"], step)).choice(train, BATCH_SIZE)
                classifier.partial_fit(inputs[batch], labels[batch], classes=np.arange(10))
                step += 1
            seconds += time.perf_counter() - began  # of training only, since this program started
            score = float(classifier.score(inputs[valid], labels[valid]))
            reports.write(json.dumps({"step": step, "accuracy": score, "train_seconds": seconds}) + "\n")
            save(checkpoint, (step, classifier))
            if told_to_end:
                sys.exit()


def new_classifier(trial: dict) -> SGDClassifier:
    """Create an untrained classifier; the proxy task scales its regularisation."""
    values, task = trial["values"], trial["proxy_task"]
    return SGDClassifier(
        loss="log_loss",
        alpha=values["alpha"] * task["regularisation"],
        learning_rate="constant",
        eta0=values["learning_rate"],
        average=True,
        random_state=trial["seed"],
    )


def random_features(images: np.ndarray, count: int, scale: float, shape: str, seed: int) -> np.ndarray:
    """Compute the features that the architecture describes, shape (n_images, count)."""
    random = np.random.default_rng(seed)
    weights = random.normal(0.0, scale / np.sqrt(images.shape[1]), (images.shape[1], count))
    offsets = random.uniform(-np.pi, np.pi, count)
    return SHAPES[shape](images @ weights + offsets) / np.sqrt(count)


def save(path: Path, content: object) -> None:
    """Replace the file atomically: a kill leaves the old one or the new one, complete."""
    new = path.with_suffix(".new")
    joblib.dump(content, new)
    new.replace(path)


if __name__ == "__main__":
    main()
