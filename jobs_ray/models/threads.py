"""One torch thread while the models are fitted and asked, and the process's own number again afterwards.

Our matrices have at most a few hundred rows. On them threads cost more than they bring, and they spin while they wait:
processor time taken from Ray and from the trials on the same machine (BLAS, two idle cores: a suggestion from 100 full
runs took 36 ms with two threads and 11 with one).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch

_turn = Lock()


@contextmanager
def one_thread() -> Iterator[None]:
    """Context manager, or decorator of a function; may be nested.

    torch's number belongs to a thread, but one that first uses torch takes over what was set last, whoever set it. So
    of several threads inside at once one sets and restores it (if each restored what it found, the process might be
    left with one thread); the others compute with the number they have, and never wait.
    """
    if not _turn.acquire(blocking=False):
        yield
        return
    try:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
    finally:
        _turn.release()
