"""The rules that proxy tasks were judged by, as their states hold them: one line of JSON."""

import json
from collections.abc import Mapping
from typing import Any

from nasproxy.trials.overrides import flatten

ELSEWHERE = {
    "criterion": "criterion",
    "references": "references",
    "trials": "search.trials",
    "contradicted_at": "confirm.alpha",
}
"""Where settings lie in the configuration, for those that are none of the proxy search."""


def read_settings(judged_by: str | None) -> Mapping[str, Any]:
    """The settings by name; empty where they are not on record."""
    try:
        rules = json.loads(judged_by or "")
    except ValueError:
        return {}
    return rules if isinstance(rules, dict) else {}


def list_by_path(judged_by: str | None, policy: str | None) -> Mapping[str, Any]:
    """The rules by their paths in the configuration.

    Args:
        judged_by: The rules as they are on record.
        policy: In what order the tasks were judged; None where it is not on record.
    """
    settings = {ELSEWHERE.get(name, f"proxy_search.{name}"): v for name, v in read_settings(judged_by).items()}
    if policy is not None:
        settings["proxy_search.policy"] = policy
    return flatten(settings)
