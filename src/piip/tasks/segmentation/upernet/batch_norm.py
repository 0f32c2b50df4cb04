"""Batch norm over what all processes of a training see."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

_DIMS = (0, 2, 3)


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose means and variances in training are those of the maps of all processes.

    PyTorch's own `nn.SyncBatchNorm` does this on accelerators alone. On one process, and in evaluation, this is
    `nn.BatchNorm2d`; its tensors are always the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise maps (B, C, H, W). Where `torch.distributed` is set up, all processes must train together.

        Raises:
            ValueError: in training on one value of each channel, which is its own mean.
        """
        if not self.training:
            return super().forward(x)
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            return self._normalise(x)
        if x.numel() == x.shape[1]:
            raise ValueError(
                f"images: a batch norm cannot learn from one cell, and its map is {tuple(x.shape)}; train on at least "
                "two images at a time"
            )
        return super().forward(x)

    def _normalise(self, x: Tensor) -> Tensor:
        own_var, own_mean = torch.var_mean(x.float(), _DIMS, correction=0)
        own_count = x.new_full((), x.numel() // x.shape[1], dtype=torch.float32)
        count = _sum_of_processes(own_count)
        mean = _sum_of_processes(own_count * own_mean) / count
        var = _sum_of_processes(own_count * (own_var + (own_mean - mean).square())) / count
        self._remember(mean.detach(), var.detach(), count)
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None]).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics as `nn.BatchNorm2d` does, by an estimate of the variance without bias."""
        for running, value in ((self.running_mean, mean), (self.running_var, var * count / (count - 1))):
            if running is not None and self.momentum is not None:
                running.lerp_(value.to(running.dtype), self.momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class _SumOfProcesses(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone()  # the losses of all processes depend on what this one has added
        dist.all_reduce(total)
        return total


def _sum_of_processes(x: Tensor) -> Tensor:
    total: Tensor = _SumOfProcesses.apply(x)
    return total
