"""Where models are."""

import torch
from torch import nn


def check_device(name: str | torch.device, argument: str = "device") -> torch.device:
    """The device of a name, which can be used.

    Args:
        name: as of PyTorch.
        argument: what the message calls it.

    Raises:
        ValueError: for what is no device or is not there, with the reason and the devices that are.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    # Beside its usual errors, PyTorch asserts that it was built for a device, and imports what others have added.
    except (RuntimeError, AssertionError, ImportError, TypeError) as error:
        reason = "it is none" if isinstance(error, TypeError) else str(error).splitlines()[0].split(". ")[0]
        shown = name if isinstance(name, torch.device) else repr(name)
        raise ValueError(f"{argument}: {shown} cannot be used: {reason}; there are {', '.join(_present())}") from error
    return device


def require_weights(model: nn.Module, what: str) -> None:
    """Refuse a model on the meta device, whose tensors have no numbers.

    Args:
        model: any.
        what: is asked of it.

    Raises:
        ValueError: for such a model.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError(f"{what}: this model is on the meta device, so it has no weights; make it on another device")


def _present() -> list[str]:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None:
        return ["cpu"]
    return ["cpu", *(f"{accelerator.type}:{number}" for number in range(torch.accelerator.device_count()))]
