"""What PyTorch's own checkers and compilers make of the custom operators."""

import warnings

import pytest
import torch
from ops_inputs import Inputs, make_inputs
from torch import Tensor, nn

from piip.ops import DeformableAttention, deformable_attention
from piip.ops.functional import Kernel

KERNELS = pytest.mark.parametrize("kernel", ["reference", "gather"])


@KERNELS
def test_gradcheck(kernel: Kernel) -> None:
    given = make_inputs(((3, 4), (1, 2)), batch=2, queries=2, points=2, head_dim=3, spread=1.4).off_grid()
    leaves = [tensor.requires_grad_() for tensor in given.tensors]

    def function(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return deformable_attention(value, given.shapes, locations, weights, kernel=kernel)

    assert torch.autograd.gradcheck(function, leaves)


@pytest.mark.parametrize("batch", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_opcheck(batch: int, dtype: torch.dtype) -> None:
    given = make_inputs(((3, 4), (2, 2)), batch=batch, dtype=dtype)
    sizes = [3, 4, 2, 2]
    leaves = [tensor.requires_grad_() for tensor in given.tensors]
    torch.library.opcheck(torch.ops.piip.deformable_gather.default, (leaves[0], sizes, *leaves[1:]))
    grad = torch.randn(batch, 6, 10, dtype=dtype)
    tensors = [tensor.detach() for tensor in leaves]
    torch.library.opcheck(torch.ops.piip.deformable_gather_backward.default, (grad, tensors[0], sizes, *tensors[1:]))


def test_double_backward_is_refused() -> None:
    given = make_inputs(((3, 4),))
    value = given.value.requires_grad_()
    output = deformable_attention(value, given.shapes, given.locations, given.weights, kernel="gather")
    (grad,) = torch.autograd.grad(output.square().sum(), value, create_graph=True)
    with pytest.raises(RuntimeError, match="deformable_gather_backward"):
        grad.sum().backward()


def test_backward_warns_of_nothing() -> None:
    given = make_inputs(((3, 4),))
    value = given.value.requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deformable_attention(value, given.shapes, given.locations, given.weights, kernel="gather").sum().backward()


@KERNELS
def test_compile(kernel: Kernel) -> None:
    # "aot_eager" traces forward and backward as the default backend does, and needs no C++ compiler.
    given = make_inputs(((3, 4), (2, 5)), dtype=torch.float32).off_grid()

    def run(function: object, arguments: Inputs) -> list[Tensor]:
        leaves = [tensor.clone().requires_grad_() for tensor in arguments.tensors]
        output = function(leaves[0], arguments.shapes, *leaves[1:], kernel=kernel)
        return [output, *torch.autograd.grad(output.sin().sum(), leaves)]

    compiled = torch.compile(deformable_attention, fullgraph=True, backend="aot_eager")
    for ours, expected in zip(run(compiled, given), run(deformable_attention, given), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize(("kernel", "is_custom"), [("reference", False), ("auto", True)])
def test_export(kernel: Kernel, is_custom: bool) -> None:
    torch.manual_seed(0)
    layer = DeformableAttention(8, 2, 3, source_dim=6, num_levels=2, value_ratio=0.5, kernel=kernel)

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, query: Tensor, reference: Tensor, source: Tensor) -> Tensor:
            return self.layer(query, reference, source, ((3, 4), (2, 2)))

    model = Fixed().eval()
    arguments = torch.randn(2, 5, 8), torch.rand(1, 5, 2, 2), torch.randn(2, 16, 6)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, arguments, dynamic_shapes=({0: batch}, None, {0: batch}))
    assert ("piip.deformable_gather" in str(program.graph)) == is_custom
    three = torch.randn(3, 5, 8), torch.rand(1, 5, 2, 2), torch.randn(3, 16, 6)
    torch.testing.assert_close(program.module()(*three), model(*three))
