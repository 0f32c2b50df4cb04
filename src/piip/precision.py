"""The arithmetic that models are trained and run in."""

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]

AUTOCAST: dict[Precision, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The type to compute in where that is safe, by precision; weights stay float32."""
