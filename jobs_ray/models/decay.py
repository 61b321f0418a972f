"""What is still to come of a curve, in proportion to what it has come down so far: the scaling law in one number.

    notation   meaning                                                          shape
    drop       z_k - z_1, from the first report to time k, on its scale         (n,)
    gain       z_T - z_k, from there to the end                                 (n,)

Along c + a u^-p the gain is `ratio * drop` whatever the c and the amplitude a of a configuration, as long as the p are
alike: one full run tells the ratio, and every short run's own drop then tells its amplitude. (A power law fitted to
each curve has to find p as well, from a few reports: RMSE .206 where gain and level have .072.) On real losses it tells
next to nothing beyond the mean gain, since their amplitudes differ little; where amplitudes differ it takes a tenth to
a fifth off the error (benchmarks/README.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jobs_ray.models.scale import Scale, choose_scale
from jobs_ray.space import Array
from jobs_ray.trials import LearningCurve, Trial

_ENOUGH = 4  # runs that tell of a time
_LARGEST = 5.0  # of the ratio: curves that have hardly begun to fall say nothing of their amplitude


class Prefixes(NamedTuple):
    """What is known of some runs at a time k; `z_1`: NaN for a run that did not report at the first time."""

    F: Array
    z_1: Array
    z_k: Array

    @property
    def drop(self) -> Array:
        return self.z_k - self.z_1


def decay_ratio(gain: Array, drop: Array) -> float:
    """Of the mean gain to the mean drop, within [0, 5]; 0 where nothing came down."""
    mean = float(drop.mean())
    return min(max(float(gain.mean()) / mean, 0.0), _LARGEST) if mean > 0.0 else 0.0


def lasting(first: Array, second: Array) -> float:
    """In [0, 1]: how far the drops of many runs in the second part of a prefix are in proportion to those in the first.

    Along power laws of different amplitude they are (1). Runs that start later than others, for a low learning rate or
    a long warm-up, have come down less at first and more afterwards (0): they end where the others do.
    """
    x, y = first - first.mean(), second - second.mean()
    ratio = decay_ratio(second, first)
    spread = ratio * float(x @ x)
    return min(max(float(x @ y) / spread, 0.0), 1.0) if spread > 0.0 else 0.0


def at_common_time(finals: Sequence[Trial], partial: Sequence[Trial]) -> dict[str, float]:
    """Before the predictor stands, `{trial_id: value}`: all curves at one common time, so that like meets like.

    It is the latest that four runs have come to, or half of them (not promoted ones: there are few, and the best). The
    others are carried on by the mean gain of those that went on. Where somebody else's scheduler stops most runs at
    their first report, the search learns of more than first reports. (The time that half of them have come to, without
    the others: regret under ASHA at C = 5 / 10 .676 / .497 -> .567 / .397 where four was chosen, .547 / .354 -> .530 /
    .338 on fresh instances; in our own searches, of runs of one length, .434 / .238 -> .401 / .229 there.)
    Of losses, what they come down to at the end is added as soon as a full run tells the ratio: in proportion to each
    run's own drop as far as that is seen to last, from three reports on, and to the mean drop for the rest.
    A run that is worse later on than at that time counts as what it became: one full run that diverged says more of its
    neighbours than its first reports, which were the best of all (regret where too high a rate diverges late: 3 -> .1).
    """
    ends = sorted((t.curve.t[-1] for t in [t for t in partial if not t.promotes] or partial), reverse=True)
    common = ends[min(len(ends) // 2, _ENOUGH - 1)]
    done, begun = ([t for t in some if t.curve.t[0] <= common <= t.curve.t[-1]] for some in (finals, partial))
    there = [*done, *begun]
    values = np.array([t.curve.at(common) for t in there])
    last = np.array([t.curve.value[-1] for t in there])
    fell = last < values
    full = [i for i, t in enumerate(done) if t.curve.t[0] < common < t.curve.t[-1]]
    scale = choose_scale("auto", np.concatenate([t.curve.value for t in there])) if full else Scale(False)
    if scale.is_log:
        z = scale.forward(values)
        drop = _drops([t.curve for t in there], common, z, scale)
        ratio = decay_ratio(scale.forward(last[full]) - z[full], drop[full])
        values = scale.to_values(z + ratio * drop, drop)[0]
    values = np.where(fell, np.minimum(values, last), values)
    found = dict(zip((t.trial_id for t in there), values.tolist(), strict=True))
    for trial in partial:
        if (end := trial.curve.t[-1]) < common:
            gains = [found[t.trial_id] - t.curve.at(end) for t in there if t.curve.t[0] <= end]
            if gains:
                found[trial.trial_id] = trial.curve.value[-1] + float(np.mean(gains))
    return found


def _drops(curves: Sequence[LearningCurve], common: float, z_common: Array, scale: Scale) -> Array:
    """Up to the common time `(n,)`, shrunk to their mean as far as they do not last."""
    start = sorted(curve.t[0] for curve in curves)[len(curves) // 2]
    z_start = scale.forward(np.array([curve.at(start) for curve in curves]))
    drop = z_common - z_start
    times = np.unique(np.concatenate([curve.t for curve in curves]))
    times = times[(start < times) & (times < common)]
    if not len(times):
        return np.full_like(drop, drop.mean())
    middle = float(times[np.argmin(np.abs(np.log(times**2 / (start * common))))])
    z_middle = scale.forward(np.array([curve.at(middle) for curve in curves]))
    share = lasting(z_middle - z_start, z_common - z_middle)
    return np.asarray(drop.mean() + share * (drop - drop.mean()))
