"""Several processes: what `accelerate launch` and `torchrun` tell theirs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from piip.cli.console import find_device

_FAILURES = "piip/failures"


@contextmanager
def join_processes(device: str) -> Iterator[torch.device]:
    """Join the other processes of the launcher where there are any, and give this one's device.

    Where several fail, for the same reason or because one of them did, the first one's error is raised and the
    others leave without a word.

    Args:
        device: `auto`, which gives each process a GPU of its own where there are GPUs, or the name of one.

    Raises:
        SystemExit: with 2, when another process has failed before this one.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield find_device(device)
        return
    store, rank, world_size = next(rendezvous("env://"))
    try:
        found = _own_device(device)
        backend = "nccl" if found.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
        yield found
    except Exception as error:
        # The group is not taken down here: that may wait for the others, which may be waiting for this process.
        if _is_first_failure(store):
            raise
        raise SystemExit(2) from error
    dist.destroy_process_group()


def is_main_process() -> bool:
    """Whether this is the process that prints and writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def num_processes() -> int:
    """How many processes have joined."""
    return dist.get_world_size() if dist.is_initialized() else 1


def _own_device(name: str) -> torch.device:
    device = find_device(name)
    if name == "auto" and device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    return device


def _is_first_failure(store: Store) -> bool:
    try:
        return bool(store.add(_FAILURES, 1) == 1)
    except RuntimeError:  # the process that held the store is gone
        return False
