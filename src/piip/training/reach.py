"""Finding the parameters that a loss depends on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def reached_parameters(loss: Tensor) -> set[nn.Parameter]:
    """The parameters that a loss depends on, from its graph alone: no gradient is computed."""
    found: set[nn.Parameter] = set()
    seen: set[Any] = {None}
    pending: list[Any] = [loss.grad_fn]
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if isinstance(variable, nn.Parameter):
            found.add(variable)
        pending.extend(source for source, _ in node.next_functions)
    return found


def freeze_unreached(model: nn.Module, loss: Tensor) -> list[str]:
    """Freeze the parameters that a loss does not depend on.

    A head that reads only some branches leaves the last interactions of the others without gradients, and training on
    several processes would wait for those in vain.

    Returns:
        Their names.
    """
    reached = reached_parameters(loss)
    unreached = [name for name, p in model.named_parameters() if p.requires_grad and p not in reached]
    for name in unreached:
        model.get_parameter(name).requires_grad_(False)
    return unreached


@contextmanager
def kept_trainable(model: nn.Module) -> Iterator[None]:
    """Let what is frozen inside be trainable again afterwards, however that ends."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
