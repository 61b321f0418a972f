"""One BLAS thread while the models are fitted, and the process's own number again afterwards.

Our matrices have at most a few hundred rows. On them BLAS threads cost more than they bring, and they spin while they
wait: a suggestion from 100 full runs takes 11 ms with one thread and 36 ms with two (two idle cores), twice the
processor time of that, taken from Ray and from the trials on the same machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock

from threadpoolctl import ThreadpoolController

_turn = Lock()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Context manager, or decorator of a function.

    The number belongs to the process. Of several threads inside at once one sets and restores it (if each restored what
    it found, the process might be left with one thread); the others take it as they find it, and never wait.
    """
    if not _turn.acquire(blocking=False):
        yield
        return
    try:
        with _controller().limit(limits=1, user_api="blas"):
            yield
    finally:
        _turn.release()


@cache
def _controller() -> ThreadpoolController:
    """Of the libraries loaded when it is first needed: those of numpy and scipy, and no others matter here."""
    return ThreadpoolController()
