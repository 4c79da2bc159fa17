"""What a figure says and how sure it is: rates and means with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest, bootstrap


def rate(right: int, count: int) -> dict[str, float]:
    """A share, `right` of `count` (at least 1), with Wilson's 95 % interval."""
    interval = binomtest(int(right), int(count)).proportion_ci(method="wilson")
    return _rounded(right / count, interval.low, interval.high, count)


def mean_with_interval(values: Sequence[float], seed: int = 0, share: bool = False) -> dict[str, float]:
    """Mean with its 95 % bootstrap interval (percentile, 2,000 resamples) and the number of values.

    `share`: each value is 0 or 1. Where all are alike, resampling says nothing: then Wilson's interval of a rate.
    """
    data = np.asarray(values, float)
    mean = low = high = float(data.mean())
    if share and mean in (0, 1):
        return rate(int(data.sum()), len(data))
    if data.std() > 0:
        low, high = bootstrap((data,), np.mean, n_resamples=2000, method="percentile",
                              rng=np.random.default_rng(seed)).confidence_interval
    return _rounded(mean, low, high, len(data))


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
