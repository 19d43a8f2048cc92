"""Acceptance at the first crossing of the target."""

from nasproxy.statistics.acceptance import Evidence, Verdict, check_target, decide_acceptance


class FirstCrossing:
    """Accepts at the first check whose tau reaches the target: common practice, but optimistically biased.

    A single crossing suffices; the rule does not correct for the number of models, checks or proxy tasks.

    Args:
        target: Tau to reach, in (0, 1].

    Raises:
        ConfigError: The target is out of range.

    Source: the stop rule of Vertex AI NAS (proxy-task search controller).
    """

    min_models = 5

    def __init__(self, *, target: float = 0.65) -> None:
        check_target(target)
        self.target = target

    def judge(self, evidence: Evidence) -> Verdict:
        """Accept if the tau of the last check reaches the target."""
        return decide_acceptance(evidence, lambda n: self.target, target=self.target)
