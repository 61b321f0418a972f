"""Your own BoTorch model and acquisition function in a JoBS search: an ARD GP, upper confidence bound.

    python examples/own_botorch_model.py

The search stays what it is (short runs, predictions, confirmations); only the model over configurations and the rule
that picks the next one are yours. What the two functions receive is said in `jobs_ray/models/hooks.py`.
"""

from __future__ import annotations

from botorch.acquisition import AcquisitionFunction, UpperConfidenceBound
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.model import Model
from gpytorch.mlls import ExactMarginalLogLikelihood
from torch import Tensor

from jobs_ray import FINISHED, Decision, JoBSOptimizer, Mixture, Real

FULL = 25


def ard_gp(train_X: Tensor, train_Y: Tensor, train_Yvar: Tensor) -> Model:
    """One length scale per dimension (BoTorch's own default), the variance of each prediction as its noise."""
    model = SingleTaskGP(train_X, train_Y, train_Yvar)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


def optimistic(model: Model, best_f: float, X_pending: Tensor | None) -> AcquisitionFunction:
    """Upper confidence bound. Trials in flight: the model as if they had come out at their mean."""
    if X_pending is not None:
        mean = model.posterior(X_pending).mean.detach()
        model = model.condition_on_observations(X_pending, mean, noise=mean.new_full(mean.shape, 1e-4))
    return UpperConfidenceBound(model, beta=2.0)


def loss(config: dict, t: int) -> float:
    """Stands in for your training: a power law of the step."""
    final = 1.0 + (config["mixture"]["code"] - 0.6) ** 2 + (config["lr"] / 1e-3 - 1.0) ** 2 / 50.0
    return final + (0.5 + config["mixture"]["prose"]) * t**-0.7


def main(budget: float = 6.0) -> None:
    space = {"mixture": Mixture(["code", "prose", "maths"]), "lr": Real(1e-4, 1e-2, log=True)}
    optimizer = JoBSOptimizer(
        space, mode="min", max_t=FULL, budget=budget, seed=0, surrogate=ard_gp, acquisition=optimistic
    )
    number = 0
    while (asked := optimizer.ask(name := f"trial-{number}")) is not FINISHED:
        number += 1
        for t in range(1, FULL + 1):
            if optimizer.report(name, t, loss(asked.config, t)) is Decision.STOP:
                break
        optimizer.tell(name)
    print(f"{number} trials; recommended: {optimizer.recommendation()}")


if __name__ == "__main__":
    main()
