"""GP-EI on full runs with BoTorch's own model and acquisition function.

SingleTaskGP (its dimension-scaled priors) on the features of rivals_gp, LogExpectedImprovement; trials in flight enter
at their posterior mean. The acquisition is maximised as in rivals_gp (random points, then local moves), because the
space has a simplex, integers and choices in it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.data import Array
from benchmarks.rivals_asked import quiet
from benchmarks.rivals_gp import GPEI
from jobs_ray.models.threads import one_thread


class BotorchEI(GPEI):
    """See the module."""

    def score(self, rows: Array, y: Array, pending: Array) -> Any:
        with quiet():  # importing it warns
            import torch
            from botorch.acquisition import LogExpectedImprovement
            from botorch.fit import fit_gpytorch_mll
            from botorch.models import SingleTaskGP
            from botorch.models.transforms import Normalize
            from gpytorch.mlls import ExactMarginalLogLikelihood

        features = self.problem.coding.features
        sample = torch.tensor(features(self.problem.coding.random(512, np.random.default_rng(0))))
        bounds = torch.stack([sample.min(0).values, sample.max(0).values])
        bounds[1] = torch.maximum(bounds[1], bounds[0] + 1e-6)

        def gp(rows: Array, z: Array) -> Any:
            Z = torch.tensor(features(rows))
            scale = Normalize(Z.shape[-1], bounds=bounds)
            return SingleTaskGP(Z, torch.tensor(z)[:, None], input_transform=scale, outcome_transform=None)

        z = (y - y.mean()) / max(float(y.std()), 1e-9)
        with one_thread(), quiet():
            model = gp(rows, z)
            fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
            if len(pending):
                with torch.no_grad():
                    guess = model.posterior(torch.tensor(features(pending))).mean[:, 0].numpy()
                rows, z = np.concatenate([rows, pending]), np.concatenate([z, guess])
                state = model.state_dict()
                model = gp(rows, z)
                model.load_state_dict(state)
                model.eval()
            with torch.no_grad():
                best = float(model.posterior(torch.tensor(features(rows))).mean.max())
            acquisition = LogExpectedImprovement(model, best_f=best)

        def values(new: Array) -> Array:
            with one_thread(), quiet(), torch.no_grad():
                return np.asarray(acquisition(torch.tensor(features(new))[:, None, :]).numpy())

        return values
