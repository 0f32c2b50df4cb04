"""The functions of PyTorch that do other things on GPUs than on CPUs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map


class GPUFunctions(TorchFunctionMode):
    """Lets functions of PyTorch on the CPU return and keep what they do on CUDA devices, but for the numbers.

    PyTorch has a list for each kind of device of what autocast computes in float32, and RMS norms are one operator on
    CUDA devices alone. Of what models here consist of, all that is different is named here: a test compares it with
    PyTorch's list for CUDA.
    """

    _IN_FLOAT32 = frozenset({F.layer_norm, F.group_norm, F.rms_norm, F.interpolate})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function."""
        del types
        kwargs = kwargs or {}
        if torch.is_autocast_enabled("cpu"):
            if func in self._IN_FLOAT32:
                args, kwargs = tree_map(_as_float32, (args, kwargs))
            elif func is torch.cat:  # it reads tensors of several types itself, which autocast on CPUs makes one before
                with torch.autocast("cpu", enabled=False):
                    return func(*args, **kwargs)
        return _rms_norm(*args, **kwargs) if func is F.rms_norm else func(*args, **kwargs)


def _rms_norm(x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """A layer norm without bias, one operator everywhere: it keeps the same for the backward pass, and the means."""
    del eps
    return F.layer_norm(x, shape, weight)


def _as_float32(argument: Any) -> Any:
    return argument.float() if isinstance(argument, Tensor) else argument
