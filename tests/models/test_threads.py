"""The process's number of torch threads is one inside and the user's own outside, whoever is inside."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from core_runs import make, search

from jobs_ray.models.threads import one_thread


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """As on a user's machine; `make test` runs some suites with one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_inside_and_the_number_of_before_outside_also_after_an_error() -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with pytest.raises(RuntimeError, match="inside"), one_thread():
        raise RuntimeError("inside")
    assert torch.get_num_threads() == 2


def test_it_may_be_nested() -> None:
    with one_thread():
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("first_out", ["first in", "last in"])
def test_overlapping_threads_leave_the_number_as_it_was(first_out: str) -> None:
    """Each restoring what it found would leave new threads with one for ever."""
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with one_thread():
            entered.set()
            leave.wait(30)

    other = threading.Thread(target=stay)
    with one_thread():
        other.start()
        assert entered.wait(30)
        assert torch.get_num_threads() == 1
        if first_out == "last in":
            leave.set()
            other.join()
    leave.set()
    other.join()
    assert torch.get_num_threads() == 2
    seen: list[int] = []
    third = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    third.start()
    third.join()
    assert seen == [2]


def test_a_search_computes_with_one_thread_and_leaves_two(monkeypatch: pytest.MonkeyPatch) -> None:
    import jobs_ray.models.regression as regression

    seen: list[int] = []
    real = regression.scipy_minimize

    def spy(*args: object, **kwargs: object) -> object:
        seen.append(torch.get_num_threads())
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(regression, "scipy_minimize", spy)
    search(make(budget=6.0), workers=1)
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2
