"""Deformable attention: one signature, a kernel for each kind of device."""

from piip.ops.functional import Kernel, deformable_attention
from piip.ops.module import DeformableAttention

__all__ = ["DeformableAttention", "Kernel", "deformable_attention"]
