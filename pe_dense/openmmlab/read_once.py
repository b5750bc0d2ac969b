"""What all processes of a run need of a large file, read by the first and sent to the others.

A training on 128 GPUs would else read and parse the same annotations 128 times.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed as dist

T = TypeVar("T")


def of_first_process(load: Callable[[], T]) -> T:
    """What `load()` returns in the first process, in all of them; its errors, too.

    All processes of a group must call it, in the same order; without a group it just loads. What is
    sent goes through the memory of the hosts, never through that of a GPU.

    Args:
        load: Returns what can be pickled.

    Raises:
        Exception: Whatever `load()` raised; a ValueError with its text if that cannot be sent.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return load()
    box: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            box = [(load(), None)]
        except Exception as error:  # the others wait for an answer
            box = [(None, _sendable(error))]
    dist.broadcast_object_list(box, src=0, group=_host_group(dist.group.WORLD))
    found, error = box[0]
    if error is not None:
        raise error
    return found


@functools.cache
def _host_group(world: dist.ProcessGroup) -> dist.ProcessGroup | None:
    """The group that sends through the hosts' memory: None, the whole, where that does.

    It is made once and lives as long as `world`: to close a group while the other process may still
    be reading from it ends one of the two with SIGABRT now and then.
    """
    return None if dist.get_backend(world) == "gloo" else dist.new_group(backend="gloo")


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # of this process's own making
    except Exception:
        return ValueError(str(error))
    return error
