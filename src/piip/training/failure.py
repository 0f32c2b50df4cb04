"""What is said when a training has come to values that are not finite."""

import shlex
from pathlib import Path

from piip.training.run_folder import RECIPE_NAME


class NonFiniteLossError(ValueError):
    """A loss, gradient or weight became infinite or not a number.

    The message has the step, the last good checkpoint, and how to go on from there.

    Args:
        what: happened.
        out: folder of the run.
        checkpoint: its last one, or None.
        lr: base learning rate that it went wrong with.
    """

    def __init__(self, what: str, *, out: Path, checkpoint: Path | None, lr: float) -> None:
        options = f"--training.optimizer.lr {lr / 3:.2g}"
        if checkpoint is None:
            advice = f"There is no checkpoint yet: begin again in the same folder, for example with {options}"
        else:
            words = ["piip", "train", str(checkpoint), "--recipe", str(out / RECIPE_NAME)]
            advice = (
                f"{checkpoint} is good. Start a new run from its weights with other settings, for example "
                f"{shlex.join(words)} --data ... --out NEW {options}"
            )
        super().__init__(f"{what}. {advice}, with --training.clip-grad-norm, or with bf16 in place of fp16")
