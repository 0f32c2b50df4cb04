"""Merging of branches, whole sets and parts of them."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from piip.branches import Tokens
from piip.pyramid.merging import LinearMerging, LinearMergingConfig, select_branches
from tiny_models import images, randomised

WIDTHS = (96, 64, 32)
GRIDS = ((2, 3), (3, 4), (5, 6))


def maps() -> list[Tokens]:
    return [
        Tokens(images(2, *grid, width, seed=width), images(2, 1, width))
        for grid, width in zip(GRIDS, WIDTHS, strict=True)
    ]


def merged_plainly(merging: LinearMerging, tokens: list[Tokens], grid: tuple[int, int]) -> Tensor:
    total = torch.zeros(2, *grid, merging.channels)
    for position, branch in enumerate(merging.branches):
        part = merging.projections[str(branch)]
        x = part.norm(tokens[branch - 1].map.movedim(-1, 1))
        if position:
            x = part.proj_norm(part.proj(x.movedim(1, -1)).movedim(-1, 1))
        x = F.interpolate(x, grid, mode="bilinear", align_corners=False)
        total += part.weight * x.movedim(1, -1)
    return total


@torch.no_grad()
@pytest.mark.parametrize("branches", [None, (1,), (3,), (1, 3), (2, 3), (3, 1, 2)])
def test_any_subset_in_any_order(branches: tuple[int, ...] | None) -> None:
    merging = randomised(LinearMergingConfig(branches=branches).build(WIDTHS))
    chosen = branches or (1, 2, 3)
    assert merging.channels == WIDTHS[chosen[0] - 1]
    assert list(merging.projections) == [str(branch) for branch in chosen]
    result = merging(maps(), 5, 6)
    assert result.shape == (2, 5, 6, merging.channels)
    torch.testing.assert_close(result, merged_plainly(merging, maps(), (5, 6)), atol=1e-5, rtol=1e-5)


def test_only_the_chosen_branches_matter() -> None:
    merging, tokens = randomised(LinearMergingConfig(branches=(1, 3)).build(WIDTHS)), maps()
    before = merging(tokens, 5, 6)
    tokens[1] = Tokens(tokens[1].map + 1)
    assert torch.equal(merging(tokens, 5, 6), before)
    tokens[2] = Tokens(tokens[2].map + images(*tokens[2].map.shape, seed=1))
    assert not torch.equal(merging(tokens, 5, 6), before)


@pytest.mark.parametrize("grid", [(5, 6), (2, 3), (1, 1), (7, 4)])
def test_the_result_is_on_the_grid_that_is_asked_for(grid: tuple[int, int]) -> None:
    merging = randomised(LinearMergingConfig().build(WIDTHS))
    result = merging(maps(), *grid)
    assert result.shape == (2, *grid, 96)
    torch.testing.assert_close(result, merged_plainly(merging, maps(), grid), atol=1e-5, rtol=1e-5)


def test_all_weights_learn() -> None:
    merging = LinearMergingConfig().build(WIDTHS)
    assert all(part.weight.item() == 1 for part in merging.projections.values())
    merging(maps(), 5, 6).square().sum().backward()
    assert all(parameter.grad is not None for parameter in merging.parameters())


@pytest.mark.parametrize("branches", [(), (0,), (4,), (1, 1), (-1, 2)])
def test_impossible_choices(branches: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"merging\.branches: .* does not name different ones of the 3 branches"):
        LinearMergingConfig(branches=branches).build(WIDTHS)


def test_widths_that_the_groups_do_not_divide() -> None:
    with pytest.raises(ValueError, match="merging: the width 48 of branch 2 is no multiple of 32"):
        LinearMergingConfig().build((64, 48))
    assert LinearMergingConfig(branches=(1,)).build((64, 48)).channels == 64


def test_selected_branches() -> None:
    assert select_branches(None, 3, "x") == (1, 2, 3)
    assert select_branches((3, 1), 3, "x") == (3, 1)
    with pytest.raises(ValueError, match=r"x: \(4,\)"):
        select_branches((4,), 3, "x")
