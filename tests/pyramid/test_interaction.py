"""Interactions: which branch reads which, when, and what of it."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from piip.branches import Tokens
from piip.pyramid.attention import CellCentres, RegularCrossAttention
from piip.pyramid.interaction import Injector, Interaction, InteractionConfig, edge_name
from tiny_models import images, randomised

WIDTHS = (64, 48, 32)


def maps() -> tuple[Tokens, ...]:
    """The tokens of three branches of different widths and grids."""
    return tuple(
        Tokens(images(2, 2 + branch, 3 + branch, width, seed=branch), images(2, 1, width, seed=branch))
        for branch, width in enumerate(WIDTHS)
    )


def interaction(**settings: Any) -> Interaction:
    config = InteractionConfig(**{"num_heads": 4, "num_points": 2} | settings)
    return randomised(Interaction(config, 0, WIDTHS)).eval()


def read(module: Interaction, query: int, source: int, query_map: Tensor, source_map: Tensor) -> Tensor:
    return module.injectors[edge_name((query, source))](query_map, source_map, CellCentres())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 0}, r"interaction\.num_heads: must be at least 1, got 0"),
        ({"turns": 0}, r"interaction\.turns: must be at least 1, got 0"),
        ({"num_points": -1}, r"interaction\.num_points: must be at least 1, got -1"),
        ({"drop_path": 1.0}, r"interaction\.drop_path: must be in \[0, 1\), got 1\.0"),
        ({"value_ratio": 0.0}, r"interaction\.value_ratio: must be a positive number, got 0\.0"),
        ({"value_ratio": math.nan}, r"interaction\.value_ratio: must be a positive number, got nan"),
        ({"ffn_ratio": -0.5}, r"interaction\.ffn_ratio: must be a positive number, got -0\.5"),
        ({"ffn_ratio": math.inf}, r"interaction\.ffn_ratio: must be a positive number, got inf"),
        ({"attention": "deform"}, r"interaction\.attention: expected one of 'deformable', 'regular', got 'deform'"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InteractionConfig(**settings)


@pytest.mark.parametrize("edge", [(1, 1), (0, 1), (1, 4), (-1, 2)])
def test_impossible_edges(edge: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"interaction\.edges: .* does not join two of the 3 branches"):
        InteractionConfig(edges=((1, 2), edge)).edges_between(3)


def test_an_edge_that_stands_twice() -> None:
    with pytest.raises(ValueError, match=r"interaction\.edges: an edge stands twice"):
        InteractionConfig(edges=((1, 2), (2, 1), (1, 2))).edges_between(2)


@pytest.mark.parametrize(
    ("settings", "dim", "message"),
    [
        ({"num_heads": 5}, 64, r"num_heads: 5 does not divide the value width int\(64 \* 0\.5\) = 32 of branch 2"),
        ({"num_heads": 1, "value_ratio": 0.01}, 64, r"= 0 of branch 2"),
        ({"num_heads": 5, "attention": "regular"}, 64, r"num_heads: 5 does not divide the width 64 of branch 2"),
        ({"num_heads": 4, "ffn_ratio": 0.01}, 64, r"ffn_ratio: 0\.01 of the width 64 of branch 2 is nothing"),
    ],
)
def test_impossible_widths(settings: dict[str, Any], dim: int, message: str) -> None:
    with pytest.raises(ValueError, match=rf"interaction\.{message}|{message}"):
        InteractionConfig(**settings).check_width(2, dim)


def test_the_default_is_both_directions_between_neighbours() -> None:
    config = InteractionConfig()
    assert config.edges_between(1) == ()
    assert config.edges_between(2) == ((1, 2), (2, 1))
    assert config.edges_between(4) == ((3, 4), (4, 3), (2, 3), (3, 2), (1, 2), (2, 1))


@pytest.mark.parametrize(
    ("turns", "after"),
    [
        (1, [((2, 3), (3, 2), (1, 2), (2, 1))] * 3),
        (2, [((2, 3), (1, 2)), ((3, 2), (2, 1)), ((2, 3), (1, 2))]),
        (4, [((2, 3),), ((3, 2),), ((1, 2),)]),
        (5, [((2, 3),), ((3, 2),), ((1, 2),)]),
    ],
)
def test_edges_take_turns(turns: int, after: list[tuple[tuple[int, int], ...]]) -> None:
    config = InteractionConfig(turns=turns)
    assert [config.edges_after(stage, 3) for stage in range(3)] == after
    assert config.edges_after(4, 3) == (() if turns == 5 else config.edges_after(4 % turns, 3))


@torch.no_grad()
def test_default_order_and_what_each_unit_reads() -> None:
    """From the high-resolution end; both directions of a unit read the maps from before it."""
    module, tokens = interaction(), maps()
    first, second, third = (branch.map for branch in tokens)
    second, third = read(module, 2, 3, second, third), read(module, 3, 2, third, second)
    first, second = read(module, 1, 2, first, second), read(module, 2, 1, second, first)
    result = module(tokens, CellCentres())
    for branch, expected in zip(result, (first, second, third), strict=True):
        assert torch.equal(branch.map, expected)


@torch.no_grad()
def test_directions_apart_read_what_was_written_between() -> None:
    module, tokens = interaction(edges=((1, 2), (2, 3), (2, 1))), maps()
    first, second, third = (branch.map for branch in tokens)
    first = read(module, 1, 2, first, second)
    second = read(module, 2, 3, second, third)
    second = read(module, 2, 1, second, first)
    result = module(tokens, CellCentres())
    assert torch.equal(result[0].map, first)
    assert torch.equal(result[1].map, second)
    assert torch.equal(result[2].map, third)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["deformable", "regular"])
@pytest.mark.parametrize(("query", "source"), [(1, 2), (2, 1), (1, 3), (3, 1)])
def test_an_edge_changes_its_query_by_its_source_alone(query: int, source: int, attention: str) -> None:
    module, tokens = interaction(edges=((query, source),), attention=attention), maps()
    before = module(tokens, CellCentres())
    for branch in range(3):
        assert torch.equal(before[branch].map, tokens[branch].map) == (branch != query - 1)
    for disturbed in range(3):
        changed = list(tokens)
        changed[disturbed] = Tokens(tokens[disturbed].map + images(*tokens[disturbed].map.shape, seed=9))
        after = module(changed, CellCentres())
        same = torch.allclose(after[query - 1].map, before[query - 1].map)
        assert same == (disturbed + 1 not in (query, source))


def test_class_tokens_pass_unchanged() -> None:
    tokens = maps()
    for before, after in zip(tokens, interaction()(tokens, CellCentres()), strict=True):
        assert after.class_token is before.class_token
    without = tuple(Tokens(branch.map) for branch in tokens)
    assert all(branch.class_token is None for branch in interaction()(without, CellCentres()))


def test_no_edges_change_nothing() -> None:
    tokens, module = maps(), interaction(edges=())
    assert not list(module.parameters())
    assert all(after.map is before.map for before, after in zip(tokens, module(tokens, CellCentres()), strict=True))


@pytest.mark.parametrize("attention", ["deformable", "regular"])
@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({"ffn_ratio": None}, "feed_forward"),
        ({"norm": False}, "norm"),
        ({"projection": False}, "source_proj"),
        ({"ffn_ratio": None, "norm": False, "projection": False}, "ffn"),
    ],
)
def test_optional_parts(attention: str, settings: dict[str, Any], absent: str) -> None:
    module, tokens = interaction(attention=attention, **settings), maps()
    assert not any(absent in name for name in module.state_dict())
    result = module(tokens, CellCentres())
    for before, after in zip(tokens, result, strict=True):
        assert after.map.shape == before.map.shape
        assert not torch.equal(after.map, before.map)
    sum(branch.map.square().sum() for branch in result).backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_scales_start_at_zero() -> None:
    module = Interaction(InteractionConfig(num_heads=4), 0, WIDTHS)
    for before, after in zip(maps(), module(maps(), CellCentres()), strict=True):
        assert torch.equal(after.map, before.map)


def test_drop_path_skips_the_feed_forward_part_only() -> None:
    config = InteractionConfig(num_heads=4, drop_path=0.999999)
    injector = randomised(Injector(config, 64, 32)).train()
    query, source = images(2, 3, 3, 64), images(2, 4, 4, 32, seed=1)
    skipped = injector(query, source, CellCentres())
    injector.feed_forward = None
    assert torch.equal(skipped, injector(query, source, CellCentres()))
    assert not torch.equal(skipped, query)


@torch.no_grad()
def test_regular_attention_by_its_definition() -> None:
    attention = randomised(RegularCrossAttention(24, 10, num_heads=3))
    query, source = images(2, 3, 4, 24), images(2, 2, 5, 10, seed=1)
    heads = []
    for head in range(3):
        part = slice(8 * head, 8 * head + 8)
        q, k, v = (
            (tokens @ projection.weight[part].T).flatten(1, 2)
            for tokens, projection in (
                (query, attention.q_proj),
                (source, attention.k_proj),
                (source, attention.v_proj),
            )
        )
        heads.append((q @ k.mT / 8**0.5).softmax(dim=-1) @ v)
    expected = attention.proj(torch.cat(heads, dim=-1)).view(2, 3, 4, 24)
    torch.testing.assert_close(attention(query, source, CellCentres()), expected, atol=1e-6, rtol=1e-5)


def test_centres_of_cells() -> None:
    centres = CellCentres()
    grid = centres.of(torch.empty(5, 2, 4, 7, dtype=torch.bfloat16))
    assert grid.dtype == torch.float32
    assert grid.shape == (1, 8, 1, 2)
    assert grid[0, :, 0].tolist() == [[x, y] for y in (0.25, 0.75) for x in (0.125, 0.375, 0.625, 0.875)]
    assert centres.of(torch.empty(1, 2, 4, 3)) is grid
    assert centres.of(torch.empty(1, 4, 2, 3)).shape == (1, 8, 1, 2)
    assert not torch.equal(centres.of(torch.empty(1, 4, 2, 3)), grid)
