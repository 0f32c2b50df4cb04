"""Which of several processes this is, and what they have together, where `torch.distributed` is set up."""

import torch.distributed as dist


def rank() -> int:
    """The number of this process; 0 where there is but one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def sum_of_processes(number: int) -> int:
    """The sum of the numbers of all processes, each of which must call this."""
    numbers = [number] * world_size()
    if len(numbers) > 1:
        dist.all_gather_object(numbers, number)
    return sum(numbers)
