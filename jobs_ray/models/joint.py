"""The joint posterior of a list of points, and what it becomes as points of the list are taken for known.

    notation     meaning                                                 shape
    mean         posterior means, standardised                           (k,)
    covariance   posterior covariance of the noise-free values           k x k

To believe that point i came out at its mean leaves all means as they are and takes c_i c_i^T / (c_ii + noise) off the
covariance (c_i its column): one k x k product, where conditioning the Gaussian process anew would factorise n x n.
"""

from __future__ import annotations

from typing import Any

from botorch.models.model import Model
from botorch.posteriors import GPyTorchPosterior
from gpytorch.distributions import MultivariateNormal
from torch import Tensor

from jobs_ray.models.threads import one_thread


def pointwise(mean: Tensor, variance: Tensor) -> GPyTorchPosterior:
    """Of `b x 1 x p` points, each on its own, from `(b,)` each."""
    return GPyTorchPosterior(MultivariateNormal(mean.unsqueeze(-1), variance[:, None, None]))


class JointPosterior(Model):  # type: ignore[misc]
    """A BoTorch model whose X are the numbers of the points in the list, `b x 1 x 1`.

    noise: variance that an observation has besides.
    """

    num_outputs = 1

    def __init__(self, mean: Tensor, covariance: Tensor, noise: float) -> None:
        super().__init__()
        self.mean, self.covariance, self.noise = mean, covariance, noise

    def posterior(self, X: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Of each point on its own."""
        rows = X[:, 0, 0].long()
        variance = self.covariance.diagonal()[rows].clamp_min(1e-10)  # less, and gpytorch warns
        return pointwise(self.mean[rows], variance)

    @one_thread()
    def believing(self, point: int) -> JointPosterior:
        """As if `point` had come out at its mean ("kriging believer", see `Surrogate.with_pending`)."""
        column = self.covariance[:, point]
        less = column[:, None] * column / (column[point] + self.noise)
        return JointPosterior(self.mean, self.covariance - less, self.noise)
