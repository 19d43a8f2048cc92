"""A ladder that keeps shares of the candidates, without a certificate: what the certified ladder is compared with.

At each look it keeps the share that the m best reference models needed there, and the looks with the least expected
cost are its rungs. It reads both from the same models, so the luckiest looks are chosen, and no risk can be stated.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from nasproxy.statistics.missing import Floats
from nasproxy.statistics.strategies import BestShare, Place, Rung, Strategy

NAME = "shares"


def design_shares(scores: Mapping[Place, Floats], costs: Mapping[Place, float], finals: Floats, best: int) -> Strategy:
    """Design the ladder of shares from the curves of reference models on the full schedule.

    Args:
        scores: Scores of the models at each place, shape (n_models,), higher is better.
        costs: Cost of training one model to each place, in full trainings.
        finals: Scores after full training, same shape.
        best: Number of best reference models that must be kept.
    """
    kept = np.argsort(-finals, kind="stable")[:best]
    places = sorted(scores, key=lambda place: costs[place])
    shares = {place: min(1.0, (1 + _worst_rank(scores[place], kept)) / (finals.size + 1)) for place in places}
    spent: dict[Place, float] = {}
    before: dict[Place, Place | None] = {}
    for place in places:
        ways: list[tuple[float, Place | None]] = [(costs[place], None)]
        ways += [
            (spent[other] + shares[other] * (costs[place] - costs[other]), other)
            for other in spent
            if shares[other] > shares[place]
        ]
        spent[place], before[place] = min(ways, key=lambda way: way[0])
    totals = {place: spent[place] + shares[place] * (1 - costs[place]) for place in places}
    last = min(totals, key=lambda place: totals[place])
    if totals[last] >= 1:
        return Strategy(NAME, (), needs_study=True)
    chosen: list[Place | None] = [last]
    while chosen[0] is not None:
        chosen.insert(0, before[chosen[0]])
    rungs = [
        Rung(place, BestShare(shares[place] / (1.0 if earlier is None else shares[earlier])))
        for earlier, place in pairwise(chosen)
        if place is not None
    ]
    return Strategy(NAME, tuple(rungs), needs_study=True)


def _worst_rank(scores: Floats, kept: np.typing.NDArray[np.intp]) -> int:
    """Return the worst rank of the kept models among all, 1 for the best."""
    return 1 + max(int(np.count_nonzero(scores > scores[model])) for model in kept)
