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


def _rounded(value: float, low: float, high: float, count: int) -> dict[str, float]:
    return {"value": round(float(value), 4), "low": round(float(low), 4), "high": round(float(high), 4),
            "count": count}
