"""Read the rules by which a proxy task was judged, stored in its state as one line of JSON."""

import json
from collections.abc import Mapping
from typing import Any

from nasproxy.stages.proxy_search.settings import ProxySearchSettings
from nasproxy.trials.overrides import flatten

ELSEWHERE = {
    "criterion": "criterion",
    "references": "references",
    "trials": "search.trials",
    "contradicted_at": "confirm.alpha",
}
"""Configuration paths of rules that are not settings of the proxy search."""


def read_settings(judged_by: str | None) -> Mapping[str, Any]:
    """Read the rules by name; empty if they are not stored or not valid JSON."""
    try:
        rules = json.loads(judged_by or "")
    except ValueError:
        return {}
    return rules if isinstance(rules, dict) else {}


def read_criterion_setting(judged_by: str | None, name: str) -> float | None:
    """Read a number among the settings of the criterion; None if it is not stored."""
    criterion = read_settings(judged_by).get("criterion")
    value = criterion.get(name) if isinstance(criterion, dict) else None
    return float(value) if isinstance(value, int | float) else None


def read_time_tolerance(judged_by: str | None) -> float:
    """Read the share by which a task had to be cheaper than the best one; the default if it is not stored."""
    tolerance = read_settings(judged_by).get("time_tolerance")
    return float(tolerance) if isinstance(tolerance, int | float) else ProxySearchSettings.time_tolerance


def list_by_path(judged_by: str | None, policy: str | None) -> Mapping[str, Any]:
    """List the rules by their paths in the configuration.

    Args:
        judged_by: The stored rules.
        policy: Policy of the proxy search; None if it is not stored.
    """
    settings = {ELSEWHERE.get(name, f"proxy_search.{name}"): v for name, v in read_settings(judged_by).items()}
    if policy is not None:
        settings["proxy_search.policy"] = policy
    return flatten(settings)
