"""How much memory a model needs, for a batch, in training and in inference."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from piip.checks import check_count
from piip.costs.dispatch import choose_kernel
from piip.costs.gpu_functions import GPUFunctions
from piip.costs.workloads import Runner, config_of, find_workload, image_shape
from piip.ops.functional import kernel_of
from piip.tasks.models import AnyModel, AnyModelConfig

GIB = 1024**3
"""Bytes of a gibibyte."""

_HEADROOM = 0.1  # of a GPU's memory, for what is not seen


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The memory that a model needs, in bytes.

    Attributes:
        weights: parameters and buffers.
        optimizer: in training, AdamW's two numbers a parameter.
        step: at most, beside these, while a batch is run: images, activations, and in training the gradients.
    """

    weights: int
    optimizer: int
    step: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.optimizer + self.step


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a model takes of a GPU.

    Attributes:
        memory: by the number of images in the batch.
        most_images: that fit at once.
    """

    memory: Mapping[int, Memory]
    most_images: int


def estimate_memory(
    model: AnyModel | AnyModelConfig,
    *,
    batch_size: int = 1,
    training: bool = False,
    image_size: int | tuple[int, int] | None = None,
    autocast: torch.dtype | None = None,
    device: str = "cuda",
) -> Memory:
    """Estimate the memory that a model needs, without computing or allocating anything.

    The model is built again from its configuration, of tensors without numbers, and the size of each tensor that its
    operators return is counted as long as it is in use. What an operator allocates for itself alone is not seen; that
    is some per cent in training, and can be a quarter where large convolutions run without it. A detector is run as for
    `cost`, and trained as if it had found all boxes that it may sample, but without the denoising queries of a DINO.

    With autocast, weights, their gradients and what the optimizer keeps are still float32, and the weights are there in
    the other type too while a batch is run: large models take more memory for few images, and less for many.

    Args:
        model: a model, or its configuration.
        batch_size: images in the batch.
        training: whether it is trained, with AdamW, or only run.
        image_size: side of the images, or height and width; None for that of the configuration.
        autocast: the type to compute in where that is safe, or None for float32.
        device: kind of device whose kernels are used, `cuda` or `cpu`.

    Raises:
        TypeError: for something else than a model.
        ValueError: for a batch of fewer images than `least_batch`, or images that are too small.
    """
    config, shape = _batch_of(model, batch_size, image_size)
    functions = nullcontext() if device == "cpu" else GPUFunctions()
    with torch.device("cpu"), FakeTensorMode(), functions:
        runner = _build(config, training, device)
        return _memory(runner, lambda: _track(runner, shape, autocast))


def measure_memory(
    model: AnyModel | AnyModelConfig,
    device: torch.device,
    *,
    batch_size: int = 1,
    training: bool = False,
    image_size: int | tuple[int, int] | None = None,
    autocast: torch.dtype | None = None,
) -> Memory:
    """Run a batch, and see how much memory that takes; see `estimate_memory`.

    On a CUDA device it is what PyTorch allocates, on others the tensors that operators return.

    Args:
        model: a model, or its configuration.
        device: where to run it.
        batch_size: images in the batch.
        training: whether it is trained, with AdamW, or only run.
        image_size: side of the images, or height and width; None for that of the configuration.
        autocast: the type to compute in where that is safe, or None for float32.

    Raises:
        TypeError: for something else than a model.
        ValueError: for a batch of fewer images than `least_batch`, or images that are too small.
        torch.OutOfMemoryError: when it does not fit.
    """
    config, shape = _batch_of(model, batch_size, image_size)
    with device:
        runner = _build(config, training, device.type)
        if device.type == "cuda":
            return _memory(runner, lambda: _measure_cuda(runner, shape, autocast, device))
        return _memory(runner, lambda: _track(runner, shape, autocast))


def least_batch(model: AnyModel | AnyModelConfig, *, training: bool) -> int:
    """How many images a model takes at least at once: some cannot learn from a single one."""
    return find_workload(config_of(model)).least_trained if training else 1


def largest_batch(
    model: AnyModel | AnyModelConfig,
    gpu_bytes: int,
    *,
    training: bool = False,
    image_size: int | tuple[int, int] | None = None,
    autocast: torch.dtype | None = None,
) -> int:
    """How many images fit on a GPU at once, by `estimate_memory`.

    A tenth of its memory is left free, for what the estimate does not see; 0 when even `least_batch` does not fit.

    Args:
        model: a model, or its configuration.
        gpu_bytes: memory of the GPU.
        training: whether the model is trained, with AdamW, or only run.
        image_size: side of the images, or height and width; None for that of the configuration.
        autocast: the type to compute in where that is safe, or None for float32.

    Raises:
        TypeError: for something else than a model.
        ValueError: for images that are too small.
    """

    @cache
    def total(batch_size: int) -> int:
        return estimate_memory(
            model, batch_size=batch_size, training=training, image_size=image_size, autocast=autocast
        ).total

    room = int(gpu_bytes * (1 - _HEADROOM))
    if total(2) > room:
        return int(least_batch(model, training=training) == 1 and total(1) <= room)
    # From two images on (a single one is spared some copies) each takes as much as the one before it, or more: so what
    # lies above a line through two batches does not fit, and neither does what is left out here.
    batch_size = 2 + (room - total(2)) // max(1, total(3) - total(2))
    while total(batch_size) > room:
        last_image = total(batch_size) - total(batch_size - 1)
        batch_size += (room - total(batch_size)) // last_image
    return batch_size


def fit_on_gpu(
    model: AnyModel | AnyModelConfig,
    gpu_bytes: int,
    batch_sizes: Sequence[int],
    *,
    training: bool = False,
    image_size: int | tuple[int, int] | None = None,
    autocast: torch.dtype | None = None,
) -> Fit:
    """Estimate what some batches take, and how many images fit; see `estimate_memory` and `largest_batch`.

    Batches that are too small for the model are left out; where all are, the smallest possible one takes their place.
    """
    least = least_batch(model, training=training)
    memory = {
        batch_size: estimate_memory(
            model, batch_size=batch_size, training=training, image_size=image_size, autocast=autocast
        )
        for batch_size in [size for size in batch_sizes if size >= least] or [least]
    }
    most = largest_batch(model, gpu_bytes, training=training, image_size=image_size, autocast=autocast)
    return Fit(memory=memory, most_images=most)


def _batch_of(
    model: AnyModel | AnyModelConfig, batch_size: int, image_size: int | tuple[int, int] | None
) -> tuple[AnyModelConfig, tuple[int, int, int, int]]:
    """The configuration of a model, and the shape of a batch for it."""
    batch_size = check_count("batch_size", batch_size)
    config = config_of(model)
    return config, (batch_size, *image_shape(config, image_size))


def _build(config: AnyModelConfig, training: bool, device: str) -> Runner:
    runner = Runner(config).train(training)
    choose_kernel(runner, kernel_of(device))
    return runner


def _memory(runner: Runner, run: Callable[[], int]) -> Memory:
    weights = sum(tensor.untyped_storage().nbytes() for tensor in (*runner.parameters(), *runner.buffers()))
    trained = sum(parameter.numel() * parameter.element_size() for parameter in runner.parameters())
    return Memory(weights=weights, optimizer=2 * trained * runner.training, step=run())


def _track(runner: Runner, shape: Sequence[int], autocast: torch.dtype | None) -> int:
    tracker = StorageTracker((*runner.parameters(), *runner.buffers()))
    with tracker:
        _step(runner, shape, autocast)
    return tracker.peak


def _measure_cuda(runner: Runner, shape: Sequence[int], autocast: torch.dtype | None, device: torch.device) -> int:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    _step(runner, shape, autocast)
    return torch.cuda.max_memory_allocated(device) - before


def _step(runner: Runner, shape: Sequence[int], autocast: torch.dtype | None) -> None:
    """Forward, and in training backward from all that the model is trained by."""
    device = next(runner.parameters()).device
    with torch.set_grad_enabled(runner.training):
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            outputs = runner(torch.zeros(*shape))
        if runner.training:
            torch.stack([output.float().sum() for output in outputs]).sum().backward()


class StorageTracker(TorchDispatchMode):
    """Counts the bytes of all tensors that operators return, as long as there is a tensor on them.

    Attributes:
        live: bytes that there are now.
        peak: the most that there were.

    Args:
        known: tensors that do not count, nor do views of them.
    """

    def __init__(self, known: Sequence[Tensor] = ()) -> None:
        TorchDispatchMode.__init__(self)
        self.live = 0
        self.peak = 0
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._known = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, and count what it returns."""
        del types
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        self.peak = max(self.peak, self.live)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # the same for all tensors on it; Python's objects for it come and go
        if key in self._seen or key in self._known:
            return
        size = storage.nbytes()

        def gone(_: object) -> None:
            self.live -= size
            del self._seen[key]

        self._seen[key] = weakref.ref(storage, gone)
        self.live += size
