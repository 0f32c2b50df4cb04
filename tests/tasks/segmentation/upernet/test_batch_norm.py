"""Batch norm over several processes against PyTorch's over all that they see."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from piip.tasks.segmentation.upernet.batch_norm import SyncedBatchNorm2d
from tiny_models import images, randomised

SHARES = (3, 1)  # images of each process


X, WEIGHT = images(4, 5, 6, 7, seed=1), images(4, 5, 6, 7, seed=2)


def train(norm: nn.Module, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Statistics of two steps, the output of the second, and the gradients of a loss that weighs its values."""
    norm.train()
    norm(x * 2 + 1)
    x = x.clone().requires_grad_()
    out = norm(x)
    (out * weight).sum().backward()
    gradients = {name: parameter.grad for name, parameter in norm.named_parameters()}
    return {"out": out.detach(), "x": x.grad, **gradients, **dict(norm.named_buffers())}


def pytorchs() -> nn.BatchNorm2d:
    """The same norm, of PyTorch."""
    norm = nn.BatchNorm2d(5)
    norm.load_state_dict(randomised(SyncedBatchNorm2d(5)).state_dict())
    return norm


def one_of_two(rank: int, port: int, folder: Path) -> None:
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=f"{port}")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    norm = randomised(SyncedBatchNorm2d(5))
    x, weight = (whole.split(SHARES)[rank] for whole in (X, WEIGHT))
    wrapped = nn.parallel.DistributedDataParallel(norm)  # which averages the gradients of the parameters
    found = train(wrapped, x, weight)
    torch.save({name.removeprefix("module."): tensor for name, tensor in found.items()}, folder / f"{rank}.pt")
    norm.eval()
    torch.testing.assert_close(norm(x), nn.BatchNorm2d.forward(norm, x))
    for dtype in (torch.float64, torch.bfloat16):
        other = randomised(SyncedBatchNorm2d(5)).to(dtype)
        again = train(other, x.to(dtype), weight.to(dtype))
        assert again["out"].dtype == again["running_var"].dtype == dtype
        for name in ("out", "running_mean", "running_var"):
            close = {"rtol": 0.05, "atol": 0.05} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
            torch.testing.assert_close(again[name].float(), found[f"module.{name}" if name != "out" else name], **close)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_are_as_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(one_of_two, (port, tmp_path), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    expected = train(pytorchs(), X, WEIGHT)
    for name in ("out", "x"):
        together = torch.cat([own[name] for own in found])
        torch.testing.assert_close(together, expected[name], rtol=1e-4, atol=1e-5)
    for own in found:
        for name in ("weight", "bias"):
            torch.testing.assert_close(own[name], expected[name] / 2, rtol=1e-4, atol=1e-5)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(own[name], expected[name], rtol=1e-5, atol=1e-6)


def test_one_process_is_pytorchs() -> None:
    expected = train(pytorchs(), X, WEIGHT)
    for name, tensor in train(randomised(SyncedBatchNorm2d(5)), X, WEIGHT).items():
        assert torch.equal(tensor, expected[name]), name


def test_one_cell_cannot_be_learned_from() -> None:
    norm = SyncedBatchNorm2d(5)
    with pytest.raises(ValueError, match="train on at least two images at a time"):
        norm.train()(images(1, 5, 1, 1))
    assert norm.eval()(images(1, 5, 1, 1)).shape == (1, 5, 1, 1)
