"""docs/encoders.md: one row for every short name, with what is built and the licence of the zoo."""

from pathlib import Path

import pytest
import torch

from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.zoo import ENCODERS, LICENCES, find_encoder

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "encoders.md").read_text(encoding="utf-8")
HEADER = (
    "| name | patch | width | blocks | native px | prefix tokens | final norm | weights | licence |"
)


def rows():
    """Cells of the table by name."""
    table = PAGE.partition(HEADER)[2].partition("\n\n")[0].strip().splitlines()[1:]
    cells = [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table
    ]
    return {line[0]: line[1:] for line in cells}


def expected(name):
    spec = find_encoder(name)
    if spec.family == "timm":
        from torchvision_ops import importorskip_timm

        importorskip_timm()
    with torch.device("meta"):
        encoder = build_encoder(name)
    if spec.family == "timm":
        normed = isinstance(encoder.model.norm, torch.nn.LayerNorm)
        weights = f"timm:{spec.arch['model_name']}"
    else:
        normed, weights = encoder.attn_pool is not None, spec.weights.removeprefix("hf://")
    licence = spec.licence + (", non-commercial" if spec.is_non_commercial else "")
    sizes = encoder.patch_size, encoder.embed_dim, encoder.depth, encoder.native_hw[0]
    tokens = encoder.num_prefix_tokens
    return [*map(str, (*sizes, tokens)), "yes" if normed else "none", weights, licence]


def test_the_table_has_every_name_once():
    assert list(rows()) == list(ENCODERS)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_row_says_what_is_built(name):
    assert rows()[name] == expected(name)


def test_every_licence_has_a_link():
    for licence, page in LICENCES.items():
        assert f"[{licence}]({page})" in PAGE
