"""Log-normal priors of positive hyperparameters, with the bounds of their fit; their raw parameters are logarithms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from gpytorch.constraints import Interval
from gpytorch.priors import LogNormalPrior
from torch import Tensor


def _double(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.double)


@dataclass(frozen=True)
class LogNormal:
    """Log-normal prior of one positive hyperparameter: its median, and the sd of its logarithm."""

    median: float
    sd: float

    def squared(self) -> LogNormal:
        """The prior of its square."""
        return LogNormal(self.median**2, 2.0 * self.sd)

    def prior(self) -> LogNormalPrior:
        """Shifted by sd^2: its MAP in the value is the MAP in the logarithm (gpytorch adds no Jacobian)."""
        return LogNormalPrior(_double(math.log(self.median) + self.sd**2), _double(self.sd))

    def constraint(self) -> LogInterval:
        """Four sds around the median; botorch hands the bounds to L-BFGS-B."""
        lower, upper = (self.median * math.exp(sign * 4.0 * self.sd) for sign in (-1.0, 1.0))
        return LogInterval(_double(lower), _double(upper), _double(self.median))


class LogInterval(Interval):  # type: ignore[misc]  # gpytorch is not typed
    """Bounds of a positive hyperparameter whose raw parameter is its logarithm."""

    def __init__(self, lower: Tensor, upper: Tensor, initial_value: Tensor) -> None:
        super().__init__(lower, upper, torch.exp, torch.log, initial_value)

    def transform(self, tensor: Tensor) -> Tensor:
        return tensor.exp()

    def inverse_transform(self, transformed_tensor: Tensor) -> Tensor:
        return transformed_tensor.log()


@dataclass(frozen=True)
class Priors:
    """Priors in units of the standardised values and of the features; standard deviations, not variances."""

    linear: LogNormal
    matern: LogNormal
    lengthscale: LogNormal
    noise: LogNormal
    additive: LogNormal | None = None  # no additive term
