"""Said before (or at the very start of) training: what will go wrong, and the remedy, one line each."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from ray.tune.trainable import FunctionTrainable, Trainable

from jobs_ray.cluster import state_api_error
from jobs_ray.space import SpaceError
from jobs_ray.space.template import is_parameter
from jobs_ray.tune.nodes import join
from jobs_ray.tune.run_context import unwrapped

_TRAINERS = {
    "TorchTrainer",
    "TensorflowTrainer",
    "JaxTrainer",
    "DataParallelTrainer",
    "LightGBMTrainer",
    "XGBoostTrainer",
}
_CLOSURE_DEPTH = 5


def refuse_reused_function_actors(tune_controller: Any, trial: Any) -> None:
    """Raises ValueError for `reuse_actors=True` with a function trainable.

    A function that is stopped early does not end: its thread waits in `tune.report`, so the actor cannot be
    reset and the next trial fails (ray/tune/trainable/function_trainable.py, `reset_config`).
    """
    # the controller does not publish the setting, and Ray passes it to nobody else
    if getattr(unwrapped(tune_controller), "_reuse_actors", False) and _is_function(trial):
        raise ValueError(
            "reuse_actors=True does not work with a function trainable that is stopped early: its actor cannot "
            "be reset; remove reuse_actors from tune.TuneConfig, or write a class trainable with reset_config"
        )


def refuse_missing_save(trial: Any) -> None:
    """Raises ValueError for a class that saves nothing where Ray saves each trial at its end, as it does by default:
    every trial would fail there, with nothing but a NotImplementedError to tell why."""
    kind = trial.get_trainable_cls()
    if kind is None or not trial.checkpoint_at_end or _is_function(trial):
        return
    if kind.save_checkpoint is Trainable.save_checkpoint and kind.save is Trainable.save:
        raise ValueError(
            f"{kind.__name__} has no save_checkpoint, and Ray saves each trial of a class at its end: all would fail. "
            "Write save_checkpoint and load_checkpoint (a promoted trial goes on from there with resume_key), or give "
            "tune.RunConfig(checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False))"
        )


def _refuse_parameters_of_the_core(config: Any, path: str = "") -> None:
    """Raises SpaceError for a parameter of ours within a trial's configuration: Ray takes it for a constant object, and
    shows it to no searcher."""
    if is_parameter(config):
        raise SpaceError(
            f"parameter {path!r} is a {type(config).__name__} of jobs_ray, which Ray Tune passes on as a constant; "
            "write a tune.* domain or jobs_ray.mixture(...) into param_space, or give JoBSSearcher the whole space"
        )
    for key, value in config.items() if isinstance(config, Mapping) else ():
        _refuse_parameters_of_the_core(value, join(path, key))


def warnings_before_training(trial: Any, *, max_concurrency: int | None, stopped_by_us: bool) -> Iterator[str]:
    """What can be known from the settings and the first trial, before it trains.

    stopped_by_us: short runs are ended by the scheduler, not by the trainable itself (`steps_key`). Raises SpaceError.
    """
    _refuse_parameters_of_the_core(trial.config)
    if max_concurrency is None:
        yield (
            "max_concurrent_trials is not set, so Ray may keep one configuration waiting that was chosen before "
            "the results it should know; set it in tune.TuneConfig to what your cluster runs at once"
        )
    if stopped_by_us and _uses_ray_train(trial) and state_api_error() is not None:
        yield (
            "the trainable runs Ray Train, and a trial that the scheduler stops would leave its workers' "
            "placement group behind, because Ray's State API does not answer: the next trial would hang. "
            "Install 'ray[default]' and start Ray with its dashboard, or let the runs end themselves: "
            "JoBSSearcher(steps_key='max_steps')"
        )


def repeated(times: int) -> str:
    """Behind a Repeater."""
    return (
        f"each configuration is {times} whole trials, whose mean counts, as a Repeater has it; they share the budget, "
        "and none is stopped early"
    )


def few_samples(num_samples: int, budget: float, unit: str = "full runs") -> str:
    """The trials are used up long before the budget; Tune's default is a single one."""
    return (
        f"num_samples={num_samples} ends the search after {num_samples} trial{'' if num_samples == 1 else 's'}, before "
        f"the budget of {budget:g} {unit} is spent; set num_samples=-1 in tune.TuneConfig, and the budget ends it"
    )


def small_space(size: int) -> str:
    """There are fewer configurations than trials to come, as far as that is known."""
    return (
        f"the space has {size} configuration{'' if size == 1 else 's'}, and none is tried twice: each is trained once "
        "in full at most, which may end the search before the budget or num_samples does"
    )


def no_length(budget: float) -> str:
    """A budget counts full runs, and how long one is is not known."""
    return (
        f"a budget of {budget:g} full runs without max_t: a full run is as long as the longest trial, so a trainable "
        "that never ends by itself runs for ever; set max_t if yours does not"
    )


def ended_early(t: float, granted: float, max_t: float) -> str:
    """A trial ended by itself at `t`, before it was told to."""
    return (
        f"a trial ended by itself at t={t:g}, before t={granted:g} that it was to train to, so max_t={max_t:g} is more "
        f"than trials reach: the budget buys fewer of them than planned; set max_t={t:g}"
    )


def warnings_at_short_t(short_t: float, times: list[float], has_metric: bool, metric: str) -> Iterator[str]:
    """What the first trial's reports tell about the plan. `times`: increasing, to the end of its short run."""
    if short_t not in times:
        yield (
            f"no report falls on short_t={short_t:g}: reports came at t={', '.join(f'{t:g}' for t in times[-3:])}, "
            f"so short runs end at t={times[-1]:g}; report at short_t, or set short_t={times[-1]:g}"
        )
    if not has_metric:
        yield (
            f"no report up to t={times[-1]:g} had a usable {metric!r}: at short_t={short_t:g} nothing can be "
            "predicted; evaluate earlier, or set a larger short_t"
        )


def no_prediction(quality: Mapping[str, Any]) -> str:
    """`quality`: of `JoBSOptimizer.predictor_quality`, with an R2 that is not above 0."""
    return (
        f"by {quality['n']} full runs, reports up to t={quality['t']:g} tell nothing of the final values "
        f"(leave-one-out R2 {quality['r2']:.2f}); with short_t='auto' short runs are lengthened now. "
        "If it stays so, a less noisy metric helps (a loss, not an accuracy), or full runs only: no JoBSScheduler"
    )


def cut_short(t: float, longest: float, learned: bool) -> str:
    """A trial ended at `t`, shorter than a full run. `learned`: the length of one is that of the longest seen."""
    return (
        f"a trial ended at t={t:g}, before the t={longest:g} of "
        + ("the longest one" if learned else "a full run")
        + ": such trials (stopped by another scheduler, or a class that ends itself early) are not final, their final "
        "values are predicted, and only a trial as long as "
        + (
            "the longest is recommended as confirmed; set max_t to the length of a full run"
            if learned
            else "that is recommended as confirmed"
        )
    )


def _is_function(trial: Any) -> bool:
    trainable = trial.get_trainable_cls()
    return inspect.isclass(trainable) and issubclass(trainable, FunctionTrainable)


def _uses_ray_train(trial: Any) -> bool:
    """Whether the function trainable mentions a Ray Train trainer (a guess from its code: names it uses)."""
    return _is_function(trial) and _mentions(trial.get_trainable_cls()._trainable_func, _CLOSURE_DEPTH)


def _mentions(function: Any, depth: int) -> bool:
    code = getattr(function, "__code__", None)
    if code is None or depth == 0:
        return False
    if _TRAINERS & set(code.co_names):
        return True
    cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    return any(_mentions(inner, depth - 1) for inner in cells)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # the access is the question
    except ValueError:
        return False
    return True
