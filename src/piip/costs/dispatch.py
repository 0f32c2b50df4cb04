"""Counting multiply-adds operator by operator, as they are dispatched."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula
from torch.utils.module_tracker import ModuleTracker

from piip.ops import DeformableAttention, Kernel

Modules = tuple[str, ...]
"""Names of modules."""


@register_flop_formula(torch.ops.piip.deformable_gather)
def _deformable_flops(
    value: Sequence[int], _sizes: Sequence[int], _locations: Sequence[int], weights: Sequence[int], **_: object
) -> int:
    """Each sample adds four cells, weighted, to the numbers of its head. Where the cells are is not counted.

    PyTorch's formulas are in operations, two for a multiply-add.
    """
    return 2 * 4 * math.prod(weights) * value[-1]


def choose_kernel(model: nn.Module, kernel: Kernel) -> None:
    """Let all deformable attention of a model use one kernel; `gather` is a single operator."""
    for module in model.modules():
        if isinstance(module, DeformableAttention):
            module.kernel = kernel


class PartCounter(TorchDispatchMode):
    """Counts the multiply-adds of what runs inside, by PyTorch's formulas.

    Those are of matrix products, attention and convolutions. `torch.utils.flop_counter.FlopCounterMode` has the sums
    of modules, in which a module that runs by itself and inside another cannot be told apart.

    Attributes:
        total: multiply-adds of all operators.
        by_part: of each part.

    Args:
        parts: of which modules each part consists, by their names from the outermost module on that runs.
    """

    def __init__(self, parts: Mapping[str, Modules]) -> None:
        TorchDispatchMode.__init__(self)
        self.total = 0
        self.by_part = Counter(dict.fromkeys(parts, 0))
        self._part_of = {module: part for part, modules in parts.items() for module in modules}
        self._running = ModuleTracker()

    def __enter__(self) -> Self:
        """Begin to count."""
        self._running.__enter__()
        TorchDispatchMode.__enter__(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave off."""
        TorchDispatchMode.__exit__(self, kind, error, trace)
        self._running.__exit__(kind, error, trace)

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operator, and count it where there is a formula for it."""
        del types
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(getattr(func, "overloadpacket", None))
        if formula is not None:
            multiply_adds = formula(*args, **(kwargs or {}), out_val=result) // 2
            self.total += multiply_adds
            part = self._part()
            if part is not None:
                self.by_part[part] += multiply_adds
        return result

    def _part(self) -> str | None:
        """The part of a module that is running."""
        for name in self._running.parents:
            words = name.split(".")
            for length in range(1, len(words)):
                part = self._part_of.get(".".join(words[1 : length + 1]))
                if part is not None:
                    return part
        return None
