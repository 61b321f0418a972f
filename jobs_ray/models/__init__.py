"""What the trials say: the Gaussian process on BoTorch, the predictor of final values, the surrogate over `X`.

Nothing here decides what to train. torch, gpytorch and botorch are imported when the first model is fitted.
"""

from typing import TYPE_CHECKING

from jobs_ray._lazy import lazy

if TYPE_CHECKING:
    from jobs_ray.models.fitting import FittedModels, ModelCache, fit_models, fit_predictor, predict
    from jobs_ray.models.prediction import CrossValidation, FittedPredictor, LastValuePredictor, Prediction, Predictor
    from jobs_ray.models.predictor import MIN_FULL, ScalingLawPredictor
    from jobs_ray.models.scale import Scale, choose_scale

__all__ = [
    "MIN_FULL",
    "CrossValidation",
    "FittedModels",
    "FittedPredictor",
    "LastValuePredictor",
    "ModelCache",
    "Prediction",
    "Predictor",
    "Scale",
    "ScalingLawPredictor",
    "choose_scale",
    "fit_models",
    "fit_predictor",
    "predict",
]

__getattr__, __dir__ = lazy(
    "jobs_ray.models",
    {
        "FittedModels": "fitting",
        "ModelCache": "fitting",
        "fit_models": "fitting",
        "fit_predictor": "fitting",
        "predict": "fitting",
        "CrossValidation": "prediction",
        "FittedPredictor": "prediction",
        "LastValuePredictor": "prediction",
        "Prediction": "prediction",
        "Predictor": "prediction",
        "MIN_FULL": "predictor",
        "ScalingLawPredictor": "predictor",
        "Scale": "scale",
        "choose_scale": "scale",
    },
)
