"""The Gaussian process of the project, a BoTorch model: the surrogate and each head of the predictor are one.

    notation   meaning                                                          shape
    X          features                                                         ... x n x p
    s          sd of an observation's known error (0 where we ask): one more    ... x n x 1
               column of X, that only the model itself sees
    L, M       columns of X in the linear and in the Matern term                n x q, n x r
    Y, Yvar    standardised values, and the variances s^2 of their known errors n x 1

    k(i, j) = 1 + a^2 <L_i, L_j> / q + b^2 Matern52(|M_i - M_j| / l) + c^2 mean over columns of Matern52(|M_i - M_j|)
                + .9 s_i s_j Matern52(|M_i - M_j| / sqrt r)

and in the likelihood .1 s^2 and a learned noise: a predictor errs alike for alike configurations, so ten predictions
of neighbours are not ten facts. (Independent errors let the surrogate grow certain of a region from short runs alone,
and the search stayed there: regret at C = 10 on the emulator .15 without the correlation, .12 with it.)

Five hyperparameters `a, b, l, c` and the noise, each with a log-normal prior, so that the data say how additive they
are; the predictor's heads go without the additive term (c = 0), which only the surrogate asks for. No length scale per
dimension (ARD is over-confident in the heads, DESIGN section 3; in the surrogate worse at C = 5, a tie at 10 and 40, at
20 -.012 +- .009 on fresh problems: benchmarks/README.md; columns scaled by the slopes of a first fit's posterior mean:
+.051 +- .017 at C = 10, +.001 +- .012 at 20, eight families). gpytorch's own kernels composed to the same sum cost 2.5
times as much in a fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from botorch.models import SingleTaskGP
from gpytorch.kernels import Kernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood
from gpytorch.means import ZeroMean
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from jobs_ray.models.joint import pointwise
from jobs_ray.models.priors import LogNormal, Priors

_SHARED = 0.9  # share of a known error's variance that neighbours have in common
# of the additive term, in standard deviations of a feature: the root of a weight is 4.5 above its mean at a vertex of
# nine domains, and with knots up to 2.5 only the search lost such an optimum (emulator, C = 10: .115 -> .167)
_KNOTS = (-2.5, 6.25, 15)
_FLOOR = 1e-6  # gpytorch rounds smaller fixed noises up, with a warning


class Hyperparameters(NamedTuple):
    """Logarithms of a^2, b^2, l, of the noise variance and of c^2 (minus infinity without the additive term)."""

    linear: float
    matern: float
    lengthscale: float
    noise: float
    additive: float = -math.inf


class _Pieces(NamedTuple):
    """What of the kernel does not depend on the hyperparameters: a fit computes it once."""

    gram: Tensor
    apart: Tensor
    errors: Tensor | None  # covariance of the known errors; None where none is known
    additive: Tensor | None  # the additive term at c = 1; None without it


class FinalValueKernel(Kernel):  # type: ignore[misc]
    """The kernel above in one `forward`. `linear`, `matern`: the columns of X in its two terms."""

    def __init__(self, linear: slice, matern: slice, priors: Priors) -> None:
        super().__init__()
        self.linear, self.matern = linear, matern
        self._add("linear", priors.linear.squared())
        self._add("matern", priors.matern.squared())
        self._add("lengthscale", priors.lengthscale)
        self.additive = priors.additive is not None
        if priors.additive is not None:
            self._add("additive", priors.additive.squared())

    def _add(self, name: str, prior: LogNormal) -> None:
        raw = torch.nn.Parameter(torch.tensor([[math.log(prior.median)]], dtype=torch.double))
        self.register_parameter(f"raw_{name}", raw)
        self.register_constraint(f"raw_{name}", prior.constraint())
        self.register_prior(f"{name}_prior", prior.prior(), partial(_value_of, name=f"raw_{name}"))

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
        if not diag:
            return self.combine(self.pieces(x1, x2))
        # gpytorch asks for the diagonal with equal rows only
        linear = self.raw_linear.exp() / x1[..., self.linear].shape[-1]
        own = linear * (x1[..., self.linear] * x2[..., self.linear]).sum(-1, keepdim=True)
        variance: Tensor = 1.0 + own + self.raw_matern.exp() + _SHARED * x1[..., -1:] * x2[..., -1:]
        if self.additive:
            basis = additive_basis(x1[..., self.matern])
            variance = variance + self.raw_additive.exp() * (basis * basis).sum(-1, keepdim=True)
        return variance.squeeze(-1)

    def pieces(self, x1: Tensor, x2: Tensor) -> _Pieces:
        L1, L2, M1, M2 = x1[..., self.linear], x2[..., self.linear], x1[..., self.matern], x2[..., self.matern]
        s1, s2 = x1[..., -1:], x2[..., -1:]
        apart = torch.cdist(M1, M2)
        known = bool(s1.any()) and bool(s2.any())
        errors = _SHARED * s1 * s2.mT * matern52(apart / math.sqrt(M1.shape[-1])) if known else None
        additive = additive_basis(M1) @ additive_basis(M2).mT if self.additive else None
        return _Pieces(L1 @ L2.mT / L1.shape[-1], apart, errors, additive)

    def combine(self, pieces: _Pieces) -> Tensor:
        matern = self.raw_matern.exp() * matern52(pieces.apart / self.raw_lengthscale.exp())
        K: Tensor = 1.0 + self.raw_linear.exp() * pieces.gram + matern
        if pieces.additive is not None:
            K = K + self.raw_additive.exp() * pieces.additive
        return K if pieces.errors is None else K + pieces.errors


def _value_of(module: Any, name: str) -> Tensor:
    value: Tensor = getattr(module, name).exp()
    return value


def matern52(r: Tensor) -> Tensor:
    """Matern-5/2 correlation at distances in length scales."""
    s = math.sqrt(5.0) * r
    correlation: Tensor = (1.0 + s + s * s / 3.0) * torch.exp(-s)
    return correlation


def additive_basis(M: Tensor) -> Tensor:
    """`n x r` -> `n x (r * knots)`: inner products of these are the mean over columns of a 1-dimensional Matern-5/2.

    Each column is a process of its own that is known through its values at the knots (Nystroem; within .02 of the
    kernel between them). Beside n x n x r distances it costs a fifth.
    """
    knots = torch.linspace(*_KNOTS, dtype=M.dtype)
    chol = torch.linalg.cholesky(matern52((knots[:, None] - knots).abs()))
    values = matern52((M.unsqueeze(-1) - knots).abs())
    basis: Tensor = values @ torch.linalg.inv(chol).mT
    return basis.flatten(-2) / math.sqrt(M.shape[-1])


class FinalValueGP(SingleTaskGP):  # type: ignore[misc]
    """`train_X` n x p, `train_Y` n x 1 (standardised), `train_Yvar` n x 1, as any BoTorch model; see the module.

    `train_inputs` has the column s besides; `posterior` and `condition_on_observations` take `... x p` without it.
    """

    def __init__(
        self, train_X: Tensor, train_Y: Tensor, train_Yvar: Tensor, kernel: FinalValueKernel, noise: Any
    ) -> None:
        """`noise`: the prior of the learned noise, or another model's `likelihood.second_noise_covar` to share."""
        likelihood = FixedNoiseGaussianLikelihood(((1.0 - _SHARED) * train_Yvar.squeeze(-1)).clamp_min(_FLOOR))
        if isinstance(noise, LogNormal):
            prior = noise.squared()
            noise = FixedNoiseGaussianLikelihood(
                likelihood.noise, True, noise_prior=prior.prior(), noise_constraint=prior.constraint()
            ).second_noise_covar
        likelihood.second_noise_covar = noise
        super().__init__(
            torch.cat([train_X, train_Yvar.sqrt()], -1), train_Y, likelihood=likelihood, covar_module=kernel,
            mean_module=ZeroMean(), outcome_transform=None,
        )  # fmt: skip
        self._factored: tuple[Tensor, Tensor] | None = None
        self._pieces: _Pieces | None = None

    @property
    def hyperparameters(self) -> Hyperparameters:
        kernel, noise = self.covar_module, self.likelihood.second_noise_covar
        raw = [kernel.raw_linear, kernel.raw_matern, kernel.raw_lengthscale, noise.raw_noise]
        raw += [kernel.raw_additive] if kernel.additive else []
        return Hyperparameters(*(float(value.detach()) for value in raw))

    def posterior(self, X: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Of the noise-free value. `b x 1 x p`, as analytic acquisition functions ask: no batch of b models for it."""
        if X.ndim != 3 or X.shape[-2] != 1 or args or any(kwargs.values()):
            return super().posterior(pad(X, (0, 1)), *args, **kwargs)
        return pointwise(*self.marginals(X.squeeze(-2)))

    def marginals(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and variance `(m,)` of the noise-free value at `m x p`, without botorch's objects around them:
        for one point they take as long as the rest."""
        X, mean, half = self._conditioned(X)
        variance = self.covar_module.forward(X, X, diag=True) - half.square().sum(0)
        return mean, variance.clamp_min(1e-10)  # less, and gpytorch warns

    def joint(self, X: Tensor) -> tuple[Tensor, Tensor, float]:
        """Posterior mean `(m,)` and covariance `m x m` of the noise-free values at `m x p`; variance of exact ones."""
        X, mean, half = self._conditioned(X)
        covariance = self.covar_module.forward(X, X) - half.mT @ half
        return mean, covariance, _FLOOR + math.exp(self.hyperparameters.noise)

    def _conditioned(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        X, (chol, alpha) = pad(X, (0, 1)), self.factored()  # the column s = 0
        cross = self.covar_module.forward(X, self.train_inputs[0])
        return X, cross @ alpha, torch.linalg.solve_triangular(chol, cross.mT, upper=False)

    def condition_on_observations(self, X: Tensor, Y: Tensor, noise: Tensor | None = None, **kwargs: Any) -> Any:
        """The same hyperparameters with `m x p` and `m x 1` more; exact unless `noise` (m x 1) is given."""
        train_X, s = self.train_inputs[0].split([X.shape[-1], 1], -1)
        Yvar = torch.cat([s.square(), torch.zeros_like(Y) if noise is None else noise])
        Y = torch.cat([self.train_targets.unsqueeze(-1), Y])
        kernel, learned = self.covar_module, self.likelihood.second_noise_covar
        return FinalValueGP(torch.cat([train_X, X]), Y, Yvar, kernel, learned).eval()

    def leave_out(self, folds: Sequence[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        """Mean and variance `(n,)` of each *observation* from the data without its fold, in closed form.

        Rasmussen & Williams 2006, section 5.4.2, for blocks: mean_I = y_I - (K^-1_II)^-1 (K^-1 y)_I.
        """
        chol, alpha = self.factored()
        inverse, z = torch.cholesky_inverse(chol), self.train_targets
        mean, variance = torch.empty_like(z), torch.empty_like(z)
        for rows in folds:
            fold = torch.from_numpy(rows)
            covariance = torch.linalg.inv(inverse[fold][:, fold])
            mean[fold], variance[fold] = z[fold] - covariance @ alpha[fold], covariance.diagonal()
        return mean, variance

    def compute_custom_loss(self, mll: Any) -> Tensor:
        """What botorch's fit minimises: `-mll(...)`, densely. The lazy operators take twice the time."""
        chol, alpha = self._factor()
        value = 0.5 * self.train_targets @ alpha + chol.diagonal().log().sum()
        for _, module, prior, closure, _ in self.named_priors():  # the mll's own would give the likelihood's twice
            loc, sd = prior.base_dist.loc, prior.base_dist.scale
            log = closure(module).log()
            value = value + ((log - loc).square() / (2.0 * sd**2) + log).sum()
        loss: Tensor = value / len(self.train_targets)
        return loss

    def factored(self) -> tuple[Tensor, Tensor]:
        """Cholesky factor (n x n) of the covariance of the observations, and its inverse times them (n,)."""
        if self._factored is None:
            with torch.no_grad():
                self._factored = self._factor()
        return self._factored

    def train(self, mode: bool = True) -> Any:
        self._factored = None
        return super().train(mode)

    def _factor(self) -> tuple[Tensor, Tensor]:
        if self._pieces is None:
            X = self.train_inputs[0]
            self._pieces = self.covar_module.pieces(X, X)
        chol = torch.linalg.cholesky(self.covar_module.combine(self._pieces) + torch.diag(self.likelihood.noise))
        return chol, torch.cholesky_solve(self.train_targets.unsqueeze(-1), chol).squeeze(-1)
