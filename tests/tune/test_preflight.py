"""Warnings before training that need no run: Ray Train without the State API, and how a trainer is recognised."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray._private import ray_constants
from ray._private.worker import global_worker
from ray.tune.trainable import wrap_function
from ray.util.state import list_placement_groups
from tune_trainables import STEPS, Class, function

from jobs_ray import JoBSCallback, JoBSScheduler, JoBSSearcher
from jobs_ray.tune import preflight
from jobs_ray.tune.capacity import Capacity


def trains(config: dict[str, Any], data: Any = None) -> None:
    from ray.train.torch import TorchTrainer

    TorchTrainer(lambda: None).fit()


def trial_of(trainable: Any) -> Any:
    kind = trainable if isinstance(trainable, type) else wrap_function(trainable)
    return SimpleNamespace(get_trainable_cls=lambda: kind, config={}, storage=None)


@pytest.mark.parametrize(
    ("trainable", "found"),
    [(trains, True), (tune.with_parameters(trains, data=[1]), True), (function, False), (Class, False)],
)
def test_a_ray_train_run_is_recognised_in_the_trainable(trainable: Any, found: bool) -> None:
    assert preflight._uses_ray_train(trial_of(trainable)) is found


@pytest.mark.parametrize(("answers", "steps_key", "warned"), [(False, None, 1), (True, None, 0), (False, "s", 0)])
def test_train_without_the_state_api_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: bool,
    steps_key: str | None,
    warned: int,
) -> None:
    monkeypatch.setattr(preflight, "state_api_error", lambda: None if answers else ConnectionError("no dashboard"))
    searcher, scheduler, callback = JoBSSearcher(max_t=STEPS, steps_key=steps_key), JoBSScheduler(), JoBSCallback()
    searcher.set_max_concurrency(2)
    # as a Tuner sets them up and makes the first trial
    searcher.set_search_properties("loss", "min", {"x": tune.uniform(0.0, 1.0)}, num_samples=2)
    scheduler.set_search_properties("loss", "min", num_samples=2)
    callback.setup()
    assert isinstance(searcher.suggest("first"), dict)
    callback.on_step_begin(0, [trial_of(trains)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "State API" in line]
    assert len(lines) == warned
    assert all("ray[default]" in line and "steps_key" in line for line in lines)


class OfAnotherRay(BaseHTTPRequestHandler):
    """Answers as the State API of a Ray with no placement groups."""

    def do_GET(self) -> None:
        found = {"result": [], "total": 0, "num_after_truncation": 0, "num_filtered": 0, "partial_failure_warning": ""}
        body = json.dumps({"result": True, "msg": "", "data": {"result": found}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


def test_another_rays_dashboard_does_not_answer_for_a_ray_without_one(cluster: str) -> None:
    """Ray without a dashboard still names the default address of one, 127.0.0.1:8265, where another Ray may be."""
    where = (ray_constants.DASHBOARD_ADDRESS.encode(), ray_constants.KV_NAMESPACE_DASHBOARD)
    gcs = global_worker.gcs_client
    before = gcs.internal_kv_get(*where)
    with ThreadingHTTPServer(("127.0.0.1", 0), OfAnotherRay) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        gcs.internal_kv_put(where[0], f"127.0.0.1:{other.server_port}".encode(), True, where[1])
        try:
            assert list_placement_groups(address=cluster, raise_on_missing_output=False) == []  # the trap
            error = preflight.state_api_error(timeout_s=2)
        finally:
            gcs.internal_kv_put(where[0], before, True, where[1])
            other.shutdown()
    assert isinstance(error, ConnectionError)
    assert "without its dashboard" in str(error)


def test_slots_of_the_cluster(cluster: str) -> None:
    def trials(**resources: float) -> list[Any]:
        return [SimpleNamespace(placement_group_factory=SimpleNamespace(required_resources=resources))]

    slots = Capacity()
    assert slots.free(3, None, trials(CPU=1.0))
    assert not slots.free(4, None, trials(CPU=1.0))
    assert slots.free(7, None, trials(CPU=0.5))
    assert slots.free(100, 200, trials(CPU=1.0))  # the user's own limit counts instead
    assert not slots.free(200, 200, [])
    assert slots.free(100, None, [])  # nothing known yet
    assert slots.free(1, None, trials(CPU=64.0))  # a cluster that must grow has to see the demand
