"""What each trial is predicted to end at, for people to see: asked in Ray's loop, within an allowance of its time."""

from __future__ import annotations

import math
import time

from jobs_ray.tune.live import Predicted
from jobs_ray.tune.session import Session

SHARE = 0.05
"""Of Ray's time; a prediction costs 2 to 5 ms, and with a thousand trials in flight they would take a tenth of it."""

_MOST_S = 1.0  # saved up, so that hundreds of trials may report at the same moment


class Predictions:
    """Of one run. `known`: the last prediction of each trial that has one, `(mean, stddev)` in the user's sign."""

    def __init__(self) -> None:
        self.known: dict[str, Predicted] = {}
        self._saved_s = _MOST_S
        self._at = math.inf

    def of(self, session: Session, trial_id: str) -> Predicted | None:
        """The prediction as it stands or, where the allowance is used up, as it last was; None without one.

        By models fitted before: nothing is fitted in Ray's loop.
        """
        now = session.pulse.now()
        self._saved_s = min(self._saved_s + SHARE * max(now - self._at, 0.0), _MOST_S)
        self._at = now
        if self._saved_s > 0.0:
            began = time.thread_time()
            prediction = session.core.prediction(trial_id, fit=False)
            self._saved_s -= time.thread_time() - began
            if prediction is not None:
                self.known[trial_id] = float(prediction.mean[0]), float(prediction.stddev[0])
            else:
                self.known.pop(trial_id, None)
        return self.known.get(trial_id)
