"""What a figure says and how sure it is: rates and means with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np
from scipy.stats import binomtest, bootstrap


def rate(right: int, count: int) -> dict[str, float]:
    """A share, `right` of `count` (at least 1), with Wilson's 95 % interval."""
    interval = binomtest(int(right), int(count)).proportion_ci(method="wilson")
    return _rounded(right / count, interval.low, interval.high, count)


def mean_with_interval(values: Sequence[float], seed: int = 0, share: bool = False,
                       scenes: Sequence[Hashable] | None = None) -> dict[str, float]:
    """Mean with its 95 % interval and the number of values.

    `share`: each value is 0 or 1 (or the mean of such). Their interval is Wilson's: for a few dozen trials a percentile
    bootstrap holds the truth too seldom (n = 25: down to 85 %). All else: percentile bootstrap of 2,000 resamples.

    `scenes`: of which scene each value is. Values of one scene are alike, so where a scene has several, whole scenes
    are resampled (cluster bootstrap); otherwise they make no difference.
    """
    data = np.asarray(values, float)
    if scenes is not None and len(set(scenes)) < len(data):
        return _of_scenes(data, scenes, seed, share)
    if share and np.isin(data, (0, 1)).all():
        return rate(int(data.sum()), len(data))
    mean = low = high = float(data.mean())
    if data.std() > 0:
        low, high = bootstrap((data,), np.mean, n_resamples=2000, method="percentile",
                              rng=np.random.default_rng(seed)).confidence_interval
    return _rounded(mean, low, high, len(data))


def difference_with_interval(differences: Sequence[float], seed: int = 0, share: bool = False,
                             scenes: Sequence[Hashable] | None = None) -> dict[str, float]:
    """Mean of paired differences with its 95 % interval and their number; `scenes` as for `mean_with_interval`.

    `share`: each is the difference of two outcomes that are 0 or 1. Then the interval is Agresti and Min's (Statistics
    in Medicine 2005), which holds for small samples too: half a pair is added to each of the four cells, and the
    difference is normal. Where no pair differs, a bootstrap would say that there is no difference at all; this says how
    large it may be.
    """
    data = np.asarray(differences, float)
    clustered = scenes is not None and len(set(scenes)) < len(data)
    if not share or not np.isin(data, (-1, 0, 1)).all() or (clustered and data.std() > 0):
        return mean_with_interval(differences, seed, scenes=scenes)
    pairs = len(set(scenes)) if clustered else len(data)  # alike in all: as many as there are scenes
    gained, lost = (pairs * float((data == sign).mean()) for sign in (1, -1))
    middle = (gained - lost) / (pairs + 2)
    wide = 1.96 * sqrt(gained + lost + 1 - (gained - lost) ** 2 / (pairs + 2)) / (pairs + 2)
    return _rounded(data.mean(), max(middle - wide, -1), min(middle + wide, 1), len(data))


def _of_scenes(data: np.ndarray, scenes: Sequence[Hashable], seed: int, share: bool) -> dict[str, float]:
    """A mean whose values come several to a scene."""
    place = {scene: i for i, scene in enumerate(dict.fromkeys(scenes))}
    sums, counts = np.zeros(len(place)), np.zeros(len(place))
    for value, scene in zip(data, scenes, strict=True):
        sums[place[scene]] += value
        counts[place[scene]] += 1
    if share:
        return share_with_interval(sums[None], counts[None], seed)
    drawn = np.random.default_rng(seed).multinomial(len(place), np.full(len(place), 1 / len(place)), size=2000)
    low, high = np.percentile(drawn @ sums / (drawn @ counts), [2.5, 97.5])
    return _rounded(data.mean(), low, high, len(data))


def share_with_interval(right: np.ndarray, count: np.ndarray, seed: int = 0) -> dict[str, float]:
    """A share of judgements by several people on several things, with its 95 % interval over other people *and* other
    things; "count" is the number of judgements.

    `right`, `count`: (people, things), how many of whose judgements on what were right, and how many there are (at
    least one). People and things are resampled at once, 2,000 times (Owen's pigeonhole bootstrap, 2007), and whichever
    there is only one of is kept; the interval is the percentiles'. Judgements of one person, or on one thing, are
    alike, so they count for less than as many independent ones. Where all are right, or all wrong, resampling says
    nothing: then Wilson's interval for as many judgements as there are things.
    """
    right, count = np.asarray(right, float), np.asarray(count, float)
    share = right.sum() / count.sum()
    if share in (0, 1):
        things = int((count.sum(axis=0) > 0).sum())
        return {**rate(round(share) * things, things), "count": int(count.sum())}
    rng = np.random.default_rng(seed)
    # How often each person, and each thing, is drawn.
    people, things = (rng.multinomial(n, np.full(n, 1 / n), size=2000) for n in count.shape)
    drawn = np.einsum("bi,ij,bj->b", people, count, things)
    won = np.einsum("bi,ij,bj->b", people, right, things)
    low, high = np.percentile(won[drawn > 0] / drawn[drawn > 0], [2.5, 97.5])
    return _rounded(share, low, high, int(count.sum()))


def _rounded(value: float, low: float, high: float, count: int) -> dict[str, float]:
    return {"value": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4),
            "count": count}
