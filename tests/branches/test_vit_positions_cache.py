"""The resampled positions that a ViT keeps between forward passes: never stale, never anything but real numbers."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, vmap

import piip.branches.positions
from piip.branches import ViT
from tiny_models import images, randomised, tiny_vit

BATCH = images(1, 3, 48, 80)  # not the grid that the positions are stored for


@pytest.fixture
def vit() -> ViT:
    return randomised(tiny_vit().build()).eval()


@pytest.fixture
def resampled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The grids that positions were resampled to, one for each time."""
    calls: list[tuple[int, int]] = []
    original = piip.branches.positions.resample_grid

    def counted(grid: Tensor, height: int, width: int) -> Tensor:
        calls.append((height, width))
        return original(grid, height, width)

    monkeypatch.setattr(piip.branches.positions, "resample_grid", counted)
    return calls


@torch.no_grad()
def embedded(vit: ViT, batch: Tensor = BATCH) -> Tensor:
    return vit.embed(batch).map


def assert_fresh(vit: ViT) -> None:
    """What the kept positions give is what positions computed anew give."""
    kept = embedded(vit)
    assert type(kept) is Tensor
    assert torch.equal(kept, vit.embed(BATCH).map)  # with gradients, nothing is kept


def test_resampled_once_for_a_grid(vit: ViT, resampled: list[tuple[int, int]]) -> None:
    embedded(vit, images(1, 3, 32, 32))
    assert resampled == []  # the grid that the positions are stored for
    for _ in range(3):
        embedded(vit)
        embedded(vit, images(2, 3, 63, 80))
    with torch.inference_mode():
        vit.embed(BATCH)
    assert resampled == [(3, 5)]
    embedded(vit, images(1, 3, 64, 64))
    assert resampled == [(3, 5), (4, 4)]


def test_never_kept_with_gradients(vit: ViT, resampled: list[tuple[int, int]]) -> None:
    embedded(vit)
    for _ in range(2):
        vit.embed(BATCH).map.sum().backward()
    assert len(resampled) == 3
    assert vit.pos_embed.grad is not None
    assert vit.pos_embed.grad.abs().sum() > 0


def load(vit: ViT) -> None:
    vit.load_state_dict(randomised(copy.deepcopy(vit), seed=3).state_dict())


def load_by_assignment(vit: ViT) -> None:
    vit.load_state_dict(randomised(copy.deepcopy(vit), seed=3).state_dict(), assign=True)


def change_in_inference_mode(vit: ViT) -> None:
    with torch.inference_mode():
        vit.pos_embed.mul_(2)


def flatten_and_set(vit: ViT) -> None:
    vector = nn.utils.parameters_to_vector(vit.parameters()).detach()
    nn.utils.vector_to_parameters(2 * vector, vit.parameters())


def change_uncounted(vit: ViT) -> None:
    vit.pos_embed.data.mul_(2)


def change_in_numpy(vit: ViT) -> None:
    vit.pos_embed.detach().numpy()[:, 1] += 1


def swap_the_data(vit: ViT) -> None:
    vit.pos_embed.data = 2 * vit.pos_embed.data


def replace_the_parameter(vit: ViT) -> None:
    vit.pos_embed = nn.Parameter(2 * vit.pos_embed.detach())


@pytest.mark.parametrize(
    "change",
    [
        load,
        load_by_assignment,
        change_in_inference_mode,
        flatten_and_set,
        replace_the_parameter,
        lambda vit: vit.bfloat16().float(),
        lambda vit: vit.to_empty(device="cpu").load_state_dict(randomised(tiny_vit().build()).state_dict()),
        change_uncounted,
        change_in_numpy,
        swap_the_data,
    ],
)
def test_changed_weights_are_noticed(vit: ViT, change: Callable[[ViT], object]) -> None:
    before = embedded(vit)
    change(vit)
    assert not torch.equal(embedded(vit), before)
    assert_fresh(vit)


@pytest.mark.parametrize("mode", ["default", "foreach", "fused"])
def test_steps_of_optimizers_are_noticed(vit: ViT, mode: str) -> None:
    """Fused optimizers do not count as a change of the parameter."""
    options = {} if mode == "default" else {mode: True}
    optimizer = torch.optim.AdamW(vit.parameters(), lr=0.1, **options)
    for _ in range(2):
        before = embedded(vit)
        vit.embed(BATCH).map.square().sum().backward()
        optimizer.step()
        assert not torch.equal(embedded(vit), before)
        assert_fresh(vit)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("order", ["Fbfs", "Fbfsz", "Ffbsz", "Fbefs", "Fbefszf", "FbszfFfbsz"])
def test_forward_passes_without_gradients_between_the_steps_of_training(vit: ViT, order: str, training: bool) -> None:
    """F, f: forward with and without gradients; b: backward; s: step; z: zero_grad; e: eval."""
    vit.train(training)
    optimizer = torch.optim.AdamW(vit.parameters(), lr=0.1, fused=True)
    for action in order:
        if action == "F":
            output = vit.embed(BATCH).map
        elif action == "f":
            embedded(vit)
        elif action == "b":
            output.square().sum().backward()
        elif action == "s":
            optimizer.step()
        elif action == "z":
            optimizer.zero_grad()
        else:
            vit.eval()
    assert_fresh(vit)


def test_other_types(vit: ViT) -> None:
    embedded(vit)
    vit.double()
    assert embedded(vit, BATCH.double()).dtype == torch.float64
    vit.bfloat16()
    assert embedded(vit, BATCH.bfloat16()).dtype == torch.bfloat16


def test_copies_keep_their_own(vit: ViT) -> None:
    before = embedded(vit)
    other = copy.deepcopy(vit)
    randomised(other, seed=5)
    assert not torch.equal(embedded(other), before)
    assert_fresh(other)
    assert torch.equal(embedded(vit), before)


def test_copies_and_files_after_inference_mode(vit: ViT, tmp_path: Path) -> None:
    with torch.inference_mode():
        expected = vit.embed(BATCH).map.clone()
    torch.save(vit, tmp_path / "vit.pt")
    for other in (copy.deepcopy(vit), torch.load(tmp_path / "vit.pt", weights_only=False)):
        assert torch.equal(embedded(other), expected)
        assert_fresh(other)


def test_fake_tensors_are_not_kept(vit: ViT) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        embedded(vit, torch.randn(1, 3, 48, 80))
    assert_fresh(vit)


def test_meta_tensors_are_not_kept() -> None:
    with torch.device("meta"):
        vit = tiny_vit().build().eval()
    embedded(vit, BATCH.to("meta"))
    vit.to_empty(device="cpu").load_state_dict(tiny_vit().build().state_dict())
    assert_fresh(vit)


def test_export_leaves_nothing_behind(vit: ViT) -> None:
    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = vit

        def forward(self, batch: Tensor) -> Tensor:
            return self.vit.embed(batch).map

    with torch.no_grad():
        exported = torch.export.export(Embedding().eval(), (BATCH,)).module()
    assert torch.equal(exported(BATCH), embedded(vit))
    assert_fresh(vit)


def test_functional_calls(vit: ViT) -> None:
    expected = embedded(vit)

    class Embedding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = vit

        def forward(self, batch: Tensor) -> Tensor:
            return self.vit.embed(batch).map

    module = Embedding()
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    doubled = {name: 2 * weight for name, weight in weights.items()}
    with torch.no_grad():
        assert not torch.equal(functional_call(module, doubled, (BATCH,)), expected)
        stacked = {name: torch.stack([weights[name], doubled[name]]) for name in weights}
        both = vmap(lambda one: functional_call(module, one, (BATCH,)))(stacked)
    torch.testing.assert_close(both[0], expected)
    assert torch.equal(embedded(vit), expected)
    assert_fresh(vit)


def test_inference_mode_and_then_training(vit: ViT) -> None:
    with torch.inference_mode():
        expected = vit.embed(BATCH).map.clone()
    assert torch.equal(embedded(vit), expected)
    vit.embed(BATCH).map.sum().backward()  # would fail on a tensor of inference mode
    assert_fresh(vit)


def test_weights_made_in_inference_mode() -> None:
    with torch.inference_mode():
        vit = tiny_vit().build().eval()
        before = vit.embed(BATCH).map
        vit.pos_embed.mul_(2)  # counts no change
        assert not torch.equal(vit.embed(BATCH).map, before)
