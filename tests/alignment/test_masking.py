"""Masks of blocks: exact ratio, whole blocks, deterministic; and what stands in their place."""

from __future__ import annotations

import pytest
import torch

from pe_dense.alignment.masking import TokenMasking, block_masks, masked_patches
from pe_dense.encoders.pe import PerceptionEncoder
from tests.small_towers import SPATIAL


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("grid", [(32, 32), (7, 5), (1, 9), (3, 1)])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.4, 0.75, 0.99])
@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_every_mask_has_exactly_the_ratio(grid, ratio, size) -> None:
    masks = block_masks(6, grid, ratio, size, seeded(0))
    assert masks.shape == (6, *grid) and masks.dtype == torch.bool
    assert masks.sum((1, 2)).tolist() == [round(ratio * grid[0] * grid[1])] * 6


def test_masks_are_whole_blocks_but_for_the_last() -> None:
    for ratio, cut in ((0.75, 0), (0.7, 1)):
        for mask in block_masks(20, (8, 8), ratio, 2, seeded(1)):
            counts = [int(b.sum()) for row in mask.split(2) for b in row.split(2, dim=1)]
            assert sum(count not in (0, 4) for count in counts) <= cut


def test_all_blocks_are_equally_often_masked_and_masks_differ() -> None:
    masks = block_masks(4000, (6, 6), 0.75, 2, seeded(2)).float()
    assert (masks.mean(0) - 0.75).abs().max() < 0.03  # 4 deviations of 4000 draws
    assert len({tuple(m.flatten().tolist()) for m in masks[:100]}) > 20


def test_the_generator_decides() -> None:
    first, again, other = (block_masks(3, (8, 8), 0.5, 2, seeded(s)) for s in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    before = torch.get_rng_state()
    block_masks(3, (8, 8), 0.5, 2, seeded(5))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(ratio=1.0), "ratio=1.0"),
        (dict(ratio=-0.1), "ratio=-0.1"),
        (dict(ratio=float("nan")), "ratio=nan"),
        (dict(block_size=0), "block_size=0"),
        (dict(token="noise"), "token='noise'"),
    ],
)
def test_bad_settings(arguments, words) -> None:
    with pytest.raises(ValueError, match=words):
        TokenMasking(8, **arguments)


def test_empty_grid_and_empty_batch() -> None:
    with pytest.raises(ValueError, match="none to draw"):
        block_masks(2, (0, 4), 0.5, 2)
    assert block_masks(0, (2, 2), 0.5, 1).shape == (0, 2, 2)


@pytest.mark.parametrize("layout", ["BChw", "BhwC", "BNC"])
@pytest.mark.parametrize("token", ["zero", "mean", "learned"])
def test_only_masked_patches_are_replaced(layout, token) -> None:
    torch.manual_seed(0)
    map_BhwC, masks = torch.randn(2, 4, 6, 5), block_masks(2, (4, 6), 0.5, 2, seeded(3))
    masking = TokenMasking(5, 0.5, 2, token)
    patches = {
        "BhwC": map_BhwC,
        "BChw": map_BhwC.permute(0, 3, 1, 2),
        "BNC": map_BhwC.flatten(1, 2),
    }[layout]
    found = masking.replace(patches, masks).detach()
    if layout == "BChw":
        found = found.permute(0, 2, 3, 1)
    found = found.reshape(2, 4, 6, 5)
    for b in range(2):
        stand_in = {
            "zero": torch.zeros(5),
            "mean": torch.stack([t for t, m in zip(map_BhwC[b].view(-1, 5), masks[b].view(-1),
                                                   strict=True) if not m]).mean(0),
            "learned": getattr(masking, "mask_token", torch.zeros(5)).detach(),
        }[token]  # fmt: skip
        for y in range(4):
            for x in range(6):
                expected = stand_in if masks[b, y, x] else map_BhwC[b, y, x]
                torch.testing.assert_close(found[b, y, x], expected)


def test_masks_of_another_grid_are_refused() -> None:
    with pytest.raises(ValueError, match="do not lie on the grid"):
        TokenMasking(5).replace(torch.ones(2, 5, 4, 4), torch.ones(2, 4, 5, dtype=torch.bool))


def test_a_masked_tower_sees_nothing_of_masked_pixels_and_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    tower, masking = PerceptionEncoder(**SPATIAL).eval(), TokenMasking(16)
    masks = block_masks(1, (4, 4), 0.75, 2, seeded(4))
    pixels = masks.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    first = torch.randn(1, 3, 16, 16)
    second = torch.where(pixels, torch.randn(1, 3, 16, 16), first)
    plain = tower(first)
    with masked_patches(tower, masking, masks):
        torch.testing.assert_close(tower(first), tower(second), rtol=0, atol=0)
        assert (tower(first) - plain).abs().max() > 0.01
    assert torch.equal(tower(first), plain)
    assert (tower(second) - plain).abs().max() > 0.01


def test_an_encoder_without_known_patches_is_refused() -> None:
    masks = torch.ones(1, 1, 1, dtype=torch.bool)
    masked = masked_patches(torch.nn.Linear(2, 2), TokenMasking(2), masks)
    with pytest.raises(ValueError, match="masking=None"), masked:
        pass
