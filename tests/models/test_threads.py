"""The process's number of BLAS threads is one inside and the user's own outside, whoever is inside."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest
from core_runs import make, search
from threadpoolctl import threadpool_info, threadpool_limits

from jobs_ray.models.threads import one_blas_thread
from jobs_ray.search.optimizer import JoBSOptimizer


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As on a user's machine; `make test` runs some suites with one."""
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip(f"BLAS cannot use two threads here ({os.cpu_count()} processors)")
        yield


def test_one_inside_and_the_number_of_before_outside_also_after_an_error() -> None:
    with one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(RuntimeError, match="inside"), one_blas_thread():
        raise RuntimeError("inside")
    assert blas_threads() == {2}


@pytest.mark.parametrize("first_out", ["first in", "last in"])
def test_overlapping_threads_leave_the_number_as_it_was(first_out: str) -> None:
    """Each restoring what it found would leave the process with one thread for ever."""
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with one_blas_thread():
            entered.set()
            leave.wait(30)

    other = threading.Thread(target=stay)
    with one_blas_thread():
        other.start()
        assert entered.wait(30)
        assert blas_threads() == {1}
        if first_out == "last in":
            leave.set()
            other.join()
            assert blas_threads() == {1}
    leave.set()
    other.join()
    assert blas_threads() == {2}


def test_a_proposal_is_computed_with_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    optimizer = make(budget=6.0)
    search(optimizer, workers=1)
    seen: list[set[int]] = []
    decide = type(optimizer._policy).decide

    def spy(*args: object, **kwargs: object) -> object:
        seen.append(blas_threads())
        return decide(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(type(optimizer._policy), "decide", spy)
    assert isinstance(optimizer, JoBSOptimizer)
    optimizer.propose()
    assert seen == [{1}]
    assert blas_threads() == {2}
