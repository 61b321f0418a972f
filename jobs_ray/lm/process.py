"""What a process that trains for us alone (a Tune actor, a worker of a group) sets for itself."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# As large as an allocation may be for glibc to serve it from a thread's own heap; above, 1,000 faults a step came back
_LARGEST = 32 << 20
_NEVER = 1 << 30
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
_THEIRS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def own_process() -> None:
    """Silence transformers' progress bars, and keep freed memory for the next step."""
    import transformers

    # progress bars of every save and load would drown the user's terminal
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    keep_freed_memory()


def leave_others_gpus() -> None:
    """In a Tune actor that holds no GPU: see none. Ray (since 2.60) no longer hides those of the machine from it, and
    it would train on the first of them, beside whoever holds that. Before anything asks CUDA."""
    import ray

    if not ray.is_initialized():
        return
    context = ray.get_runtime_context()
    # the user's own process, where they try a trainable by hand, has no actor's id: it keeps what it sees
    if context.get_actor_id() is not None and not context.get_accelerator_ids().get("GPU"):
        os.environ.update(NO_GPU)


def keep_freed_memory() -> bool:
    """Tell glibc not to give freed memory back to the system; whether it was told.

    On CPUs a step frees its activations, and glibc returns them to the kernel and asks for them again at the next
    step: 850 to 3,800 page faults a step of the demo's size, a tenth of the time or more (`benchmarks.throughput`).
    What it keeps is the peak, which the next step needs anyway. Nothing is done where the user has set glibc's own
    variables, or where there is no glibc.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _NEVER)) and bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST))


def give_back_memory() -> None:
    """What was kept, once a trial has ended: the next one in this process starts with what the first one had."""
    if (malloc_trim := _of_glibc("malloc_trim")) is not None:
        malloc_trim(0)


def _of_glibc(name: str) -> Any:
    """A function of glibc's malloc; None without glibc (musl has none), or where the user has set its variables."""
    if sys.platform != "linux" or any(variable in os.environ for variable in _THEIRS):
        return None
    return getattr(ctypes.CDLL(None), name, None)
