"""Lets threads of a process group come to rest before a process forks (Python below 3.12).

A data loader forks its workers. If at that moment a thread of gloo takes or leaves the
interpreter (it does when it drops the tensors of a collective that has just ended), the lock of
the interpreter's list of threads is held, the child inherits it held, and Python 3.10 and 3.11
wait for it in the child before they make it new: the worker never starts, and the run stands still
without a word. Seen in one of some hundred starts on two loaded cores, by gdb in
`_PyThreadState_DeleteExcept`; Python 3.12 makes the lock new first.
"""

from __future__ import annotations

import os
import sys
import time

import torch.distributed as dist

NEEDED = sys.version_info < (3, 12)
SECONDS = 0.05  # what gloo does with the interpreter takes microseconds
_state = {"registered": False}


def settle() -> None:
    """Give other threads time to leave the interpreter, where there is a process group."""
    if dist.is_available() and dist.is_initialized():
        time.sleep(SECONDS)  # without the interpreter's lock, which they may be waiting for


def fork_when_quiet() -> None:
    """Make every later `os.fork` of this process wait first; a second call changes nothing."""
    if NEEDED and not _state["registered"] and hasattr(os, "register_at_fork"):  # not on Windows
        os.register_at_fork(before=settle)
        _state["registered"] = True
