"""Overhead of starting a trial: time from submit to the first line of trainer code, in a new process.

    python -m benchmarks.overhead [--trials 20]

nasproxy starts trials from the warm fork server; Ray Tune is measured in the same run if it is installed:
`pip install 'ray[tune]'`.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median

from nasproxy.execution.backends.backend import BackendContext
from nasproxy.execution.backends.local import LocalBackend
from nasproxy.execution.orders import run_preflight
from nasproxy.execution.work_order import OrderTemplate
from nasproxy.execution.worker.context import TrialContext
from nasproxy.storage.trial_stores import FolderTrialStore
from nasproxy.trials.proxy_task import ProxyTask
from nasproxy.trials.records import State
from nasproxy.trials.spec import Recipe, Split, TrialSpec

MODULE = "benchmarks.overhead"
"""Import name of this module in a worker."""


def stamp(trial: TrialContext) -> None:
    """Train nothing and write the start time; the monotonic clock is shared by all processes of a machine."""
    now = time.monotonic()
    (trial.model_dir / "began").write_text(repr(now))
    trial.report(trial.total_steps, {"accuracy": 0.5}, 0.0)


def measure_nasproxy(trials: int) -> dict[str, float]:
    """Measure nasproxy's local backend, in milliseconds."""
    recipe = Recipe({}, {"_target_": f"{MODULE}.stamp"}, {"loader": None}, "none", 1, 1)
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder)
        store, orders = FolderTrialStore(study / "trials"), OrderTemplate(study, ("benchmarks",))
        backend = LocalBackend(context=BackendContext(store, study, preload=(MODULE,)), slots=1)
        began = time.monotonic()
        run_preflight(backend, orders, [])
        warm_ms = 1000 * (time.monotonic() - began)
        starts, whole = [], []
        for seed in range(trials):
            spec = TrialSpec({"choice": 0}, ProxyTask(), Split.FULL, seed, recipe)
            digest = store.create(spec)
            submitted = time.monotonic()
            backend.submit(orders.train(spec, digest))
            while not backend.poll(1.0):
                pass
            whole.append(1000 * (time.monotonic() - submitted))
            assert store.read(spec.key).status.state is State.DONE
            starts.append(1000 * (float((store.folder(spec.key).path / "began").read_text()) - submitted))
        backend.close()
    return {
        "server_warm_up_ms": warm_ms,
        "start_ms_median": median(starts),
        "start_ms_worst": max(starts),
        "trial_ms_median": median(whole),
    }


def measure_ray_tune(trials: int) -> dict[str, float] | None:
    """Measure Ray Tune with a trial that imports torch, in milliseconds; None if it is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
        from ray import tune
    except ImportError:  # also without the dependencies of ray.tune
        return None

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    def trainable(config: dict[str, float]) -> None:
        import torch  # noqa: F401  a trial needs it before its own first line

        now = time.monotonic()
        Path(f"{config['folder']}/{config['number']}").write_text(repr(now))

    with tempfile.TemporaryDirectory() as folder:
        starts = []
        for number in range(trials):
            submitted = time.monotonic()
            space = {"number": number, "folder": folder}
            tune.Tuner(trainable, param_space=space, run_config=tune.RunConfig(storage_path=folder, verbose=0)).fit()
            starts.append(1000 * (float(Path(f"{folder}/{number}").read_text()) - submitted))
    ray.shutdown()
    return {"start_ms_median": median(starts), "start_ms_worst": max(starts)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    trials = parser.parse_args().trials
    result = {"nasproxy": measure_nasproxy(trials), "ray_tune": measure_ray_tune(min(trials, 5))}
    for name, figures in result.items():
        for what, value in (figures or {}).items():
            print(f"{name:10} {what:20} {value:10.1f}")
    if result["ray_tune"] is None:
        print("Ray Tune is not installed, so it was not measured: pip install 'ray[tune]'")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
