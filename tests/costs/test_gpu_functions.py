"""Functions as on GPUs, compared with what PyTorch does with tensors that it takes for those of a GPU."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from piip import ClassificationConfig, SeparateHeadsConfig
from piip.branches.convnext import ConvNeXtConfig
from piip.costs.dispatch import choose_kernel
from piip.costs.gpu_functions import GPUFunctions
from piip.costs.workloads import AnyModelConfig, Runner, image_shape
from piip.pyramid import BackboneConfig
from tiny_detector import tiny_detector
from tiny_dino import tiny_dino
from tiny_models import tiny_pyramid, tiny_vit
from tiny_segmenter import tiny_segmenter


def mixed_branches() -> BackboneConfig:
    """RMS norms, of queries and keys too, and a ConvNeXt, which begins with a norm of a convolution."""
    vit = tiny_vit(image_size=64, class_token=False, norm="rmsnorm", qk_norm=True)
    convnext = ConvNeXtConfig(image_size=96, depths=(1, 1), widths=(32, 64), stages=(1, 2))
    return BackboneConfig(pyramid=tiny_pyramid(vit, convnext))


MODELS: dict[str, AnyModelConfig] = {
    "classifier": ClassificationConfig(pyramid=tiny_pyramid(), head=SeparateHeadsConfig(num_classes=5)),
    "mixed": mixed_branches(),
    "regular": BackboneConfig(pyramid=tiny_pyramid(attention="regular")),
    "Mask R-CNN": tiny_detector(),
    "DINO": tiny_dino(),
    "UperNet": tiny_segmenter(),
    "mixed UperNet": replace(tiny_segmenter(), backbone=mixed_branches()),
}
CASTS = ("_to_copy", "norm", "upsample", "aten.cat")


class CastLog(TorchDispatchMode):
    """Writes down what casts tensors, and what wants them to be cast: operators, shapes, types."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = str(func).replace("_fused_rms_norm", "native_layer_norm")
        if any(part in name for part in CASTS):
            first = next(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
            if first.ndim > 1:
                self.lines.append(f"{name} {tuple(first.shape)} {first.dtype}")
        return result


@contextmanager
def autocast_of(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Autocast as it is for a device; `torch.autocast` would look for the device first."""
    torch.set_autocast_enabled(device, True)
    before = torch.get_autocast_dtype(device)
    torch.set_autocast_dtype(device, dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_dtype(device, before)
        torch.set_autocast_enabled(device, False)


def casts(config: AnyModelConfig, device: str, *, training: bool) -> list[str]:
    with torch.device(device), FakeTensorMode(), GPUFunctions() if device == "cpu" else nullcontext():
        runner = Runner(config).train(training)
        choose_kernel(runner, "reference")
        images = torch.zeros(2, *image_shape(config, None))
        with torch.set_grad_enabled(training), autocast_of(device, torch.bfloat16), CastLog() as log:
            runner(images)
    return log.lines


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="needs PyTorch for CUDA; no GPU")
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_autocast_is_that_of_gpus(kind: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # Which kernel attention has depends on the GPU. All want half precision, and give it.
    half = torch.bfloat16
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, *_, **__: q.to(half) + v.to(half)[..., :1, :]
    )
    expected = casts(MODELS[kind], "cuda", training=training)
    assert len(expected) > 50
    assert casts(MODELS[kind], "cpu", training=training) == expected


def test_a_rms_norm_keeps_what_goes_in_and_a_number_for_each_token() -> None:
    kept: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    weight = torch.ones(64, requires_grad=True)
    x = torch.zeros(2, 10, 64, requires_grad=True)
    with GPUFunctions(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        F.rms_norm(x, (64,), weight, 1e-6)
    assert sorted(kept) == [20, 20, 64, 2 * 10 * 64]
