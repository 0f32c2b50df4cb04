"""Accelerate, as this project uses it: data-parallel, in one of three precisions."""

from pathlib import Path

from accelerate import Accelerator, DistributedType
from accelerate.utils import GradientAccumulationPlugin

from piip.training.recipe import TrainingConfig

_PRECISION = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # in Accelerate's words


def make_accelerator(training: TrainingConfig, out: Path, *, cpu: bool) -> Accelerator:
    """Join the processes that train together, and take this one's device.

    Args:
        training: settings of the loop.
        out: folder of the run, for TensorBoard's files.
        cpu: leave accelerators alone.

    Raises:
        ValueError: for a way to share out a model that is not supported, or a precision that the device cannot do.
    """
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=_PRECISION[training.precision],
        # The parts of a batch are this loop's own; a plugin keeps the environment from setting another number.
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1, sync_with_dataloader=False),
        log_with="tensorboard",
        project_dir=out,
    )
    kind = accelerator.distributed_type
    if kind in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ValueError(f"{kind.value}: training is data-parallel so far (DDP); choose multi-GPU or multi-CPU")
    if training.precision == "fp16" and accelerator.scaler is None:
        device = accelerator.device.type
        raise ValueError(f"training.precision: fp16 needs a loss scaler, which there is none of on {device}; use bf16")
    return accelerator
