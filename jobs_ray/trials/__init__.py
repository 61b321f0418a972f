"""What was asked and observed: frozen records of trials and their learning curves, and their JSON form.

Values are *maximised* throughout; the sign flips once, at the edge of the optimiser.
"""

from jobs_ray.trials.curve import LearningCurve
from jobs_ray.trials.meter import Meter
from jobs_ray.trials.state import StateError
from jobs_ray.trials.table import TrialTable
from jobs_ray.trials.trials import Kind, Phase, Trial, TrialStatus

__all__ = ["Kind", "LearningCurve", "Meter", "Phase", "StateError", "Trial", "TrialStatus", "TrialTable"]
