"""The joint posterior of a list against the Gaussian process itself, conditioned point by point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP

from jobs_ray.models.joint import JointPosterior
from jobs_ray.models.regression import marginals
from jobs_ray.models.surrogate import Surrogate, fit_surrogate


def fitted(n: int = 25, p: int = 4) -> tuple[Surrogate, Any]:
    rng = np.random.default_rng(0)
    F = rng.standard_normal((n, p))
    noise = np.where(np.arange(n) % 3 == 0, 0.0, 0.1)  # finals and predictions
    return fit_surrogate(F, -((F[:, 0] - 0.5) ** 2) + 0.3 * F[:, 1], noise), rng.standard_normal((12, p))


def listed(joint: JointPosterior) -> tuple[Any, Any]:
    return marginals(joint, torch.arange(len(joint.mean), dtype=torch.double)[:, None])


def test_it_is_what_the_process_says_of_the_points_together() -> None:
    surrogate, F = fitted()
    joint = surrogate.joint(F)
    together = surrogate.regression.model.posterior(torch.tensor(F))
    np.testing.assert_allclose(joint.mean, together.mean.detach().squeeze(-1), atol=1e-8)
    np.testing.assert_allclose(joint.covariance, together.distribution.covariance_matrix.detach(), atol=1e-6)
    mean, variance = listed(joint)
    own = surrogate.posterior(F)
    np.testing.assert_allclose(mean, [surrogate.standardised(value) for value in own[0]], atol=1e-9)
    np.testing.assert_allclose(np.sqrt(variance) * surrogate.regression.scale, own[1], rtol=1e-6)


def test_believing_one_after_the_other_is_conditioning_on_all() -> None:
    surrogate, F = fitted()
    joint = surrogate.joint(F)
    before = joint.covariance.clone()
    chosen = [3, 7, 8]
    believing = joint
    for point in chosen:
        believing = believing.believing(point)
    naive = surrogate.with_pending(F[chosen])
    mean, variance = listed(believing)
    expected = naive.posterior(F)
    np.testing.assert_allclose(mean, [surrogate.standardised(value) for value in expected[0]], atol=1e-6)
    np.testing.assert_allclose(np.sqrt(variance) * surrogate.regression.scale, expected[1], rtol=1e-3)
    assert torch.equal(joint.covariance, before)


def test_a_point_believed_twice_does_no_harm() -> None:
    surrogate, F = fitted()
    joint = surrogate.joint(np.repeat(F[:1], 6, axis=0))
    for point in (0, 0, 1, 2):
        joint = joint.believing(point)
    assert np.all(np.isfinite(listed(joint)[1]))
    assert np.all(listed(joint)[1] > 0)


def test_of_a_model_of_the_users_there_is_none() -> None:
    def plain(train_X: Any, train_Y: Any, train_Yvar: Any) -> Any:
        return SingleTaskGP(train_X, train_Y, train_Yvar)

    X = np.random.default_rng(1).random((8, 2))
    surrogate = fit_surrogate(X, X.sum(axis=1), np.zeros(8), hook=plain)
    with pytest.raises(TypeError, match="SingleTaskGP"):
        surrogate.joint(X)


@pytest.mark.parametrize("shape", [(1, 4), (40, 4)])
def test_lists_of_any_length(shape: tuple[int, int]) -> None:
    surrogate, _ = fitted()
    joint = surrogate.joint(np.random.default_rng(2).standard_normal(shape))
    assert joint.covariance.shape == (shape[0], shape[0])
