"""Feature grids of other sizes: resized in the head, padded around in the backbone."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS

import pe_dense.segmentation  # noqa: F401
from pe_dense.pixelwise.windows import strides

TOWER = dict(patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_hidden=24, image_size=32)


def head(**more):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    return MODELS.build(dict(type="LinearSegHead", in_channels=6, num_classes=4, **more)).eval()


def test_resized_features():
    maps = [torch.randn(2, 6, 8, 5), torch.randn(2, 6, 8, 5)]
    plain, resized = head(num_layers=2), head(num_layers=2, resize_features=(11, 9))
    resized.load_state_dict(plain.state_dict(), strict=True)
    with torch.no_grad():
        found = resized(maps)
        after = torch.nn.functional.interpolate(plain(maps), (11, 9), mode="bilinear")
    assert found.shape == (2, 4, 11, 9)
    # In evaluation norm and classifier are linear, so that resizing first or last is the same.
    torch.testing.assert_close(found, after, rtol=1e-4, atol=1e-5)
    resized.train(), plain.train()
    first, last = resized(maps), torch.nn.functional.interpolate(plain(maps), (11, 9))
    assert not torch.allclose(first, last), "batch statistics are those of the resized features"


@pytest.mark.parametrize("size", [(3,), (0, 4), (1, 2, 3)])
def test_a_size_that_is_none(size):
    with pytest.raises(ValueError, match="resize_features"):
        head(resize_features=size)


def test_backbone_pads_only_where_asked():
    def tower(**more):
        torch.manual_seed(0)
        return ROOT_MODELS.build(
            dict(
                type="DenseBackbone", encoder="pe_spatial_t16_512", encoder_options=dict(TOWER),
                **more,
            )
        ).eval()  # fmt: skip

    images = torch.randn(1, 3, 30, 21)
    with pytest.raises(ValueError, match="30x21 is not a multiple of patch 4"):
        tower()(images)
    padding = tower(center_pad=True)
    padding.load_state_dict(tower().state_dict())
    with torch.no_grad():
        (found,) = padding(images)
        (known,) = tower()(torch.nn.functional.pad(images, (1, 2, 1, 1)))
    assert found.shape == (1, 16, 8, 6)
    assert torch.equal(found, known)


@pytest.mark.parametrize("stride", [0, 1.5, -0.5, (0, 4), 0.001])
def test_strides_that_do_not_move(stride):
    with pytest.raises(ValueError, match=r"test_cfg\.stride"):
        strides((512, 512), stride)
