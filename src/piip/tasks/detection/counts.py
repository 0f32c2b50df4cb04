"""What the losses of a detector are divided by, on one process or many."""

import torch
import torch.distributed as dist
from torch import Tensor


def average_count(count: int, device: torch.device) -> Tensor:
    """The number of samples of a process, on average over all of them; at least one on all together.

    Training averages the gradients of the processes. With its own number under its losses, each process would weigh
    the samples of the others differently from its own; with this one, several processes compute the losses of one.

    Args:
        count: of this process. Where `torch.distributed` is set up, all of them must call this.
        device: of the result.
    """
    total = torch.full((), float(count), device=device)
    world_size = 1
    if dist.is_available() and dist.is_initialized():
        world_size = dist.get_world_size()
        dist.all_reduce(total)
    return total.clamp_(min=1) / world_size
