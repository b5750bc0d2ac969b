"""SAM 2.1 as a teacher: a tiny one of random weights; needs transformers."""

import importlib.util
import sys

import pytest
import torch
import torch.nn.functional as F
from interpreted_kernels import interpreted  # noqa: F401 (a fixture)

from pe_dense.alignment import sam_decoder, sam_teacher
from pe_dense.alignment.sam_attention import use_plain_attention
from pe_dense.alignment.sam_decoder import ImageParts, image_parts, masks_of_points, point_tokens
from pe_dense.alignment.sam_teacher import SamTeacher

HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None
needs_transformers = pytest.mark.skipif(not HAS_TRANSFORMERS, reason="transformers is missing")


def test_without_transformers_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r"pip install 'pe_dense\[sam\]'") as caught:
        SamTeacher("nowhere")
    assert "\n" not in str(caught.value)


def test_bad_options_come_before_the_download():
    for options, words in (
        (dict(mask="largest"), "mask='largest' is not one of"),
        (dict(clamp=-1.0), "clamp=-1.0 is not positive"),
        (dict(points_per_batch=0), "points_per_batch=0 is not positive"),
        (dict(points_per_side=0), "points_per_side=0 is not positive"),
    ):
        with pytest.raises(ValueError, match=words):
            SamTeacher("nowhere", **options)


@pytest.fixture(scope="module")
def tiny_sam(tmp_path_factory):
    """Folder of a SAM 2.1 with 128-pixel images and maps of 32 x 32."""
    transformers = pytest.importorskip("transformers")
    stages = dict(
        hidden_size=8,
        image_size=[128, 128],
        patch_kernel_size=[7, 7],
        patch_stride=[4, 4],
        patch_padding=[3, 3],
        window_positional_embedding_background_size=[7, 7],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[3],
        query_stride=[2, 2],
    )
    config = transformers.Sam2Config(
        vision_config=dict(
            backbone_config=dict(stages, model_type="sam2_hiera_det_model"),
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
            fpn_hidden_size=32,
        ),
        prompt_encoder_config=dict(hidden_size=32, image_size=128, patch_size=16),
        mask_decoder_config=dict(
            hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )
    torch.manual_seed(0)
    network = transformers.Sam2Model(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("sam")
    network.save_pretrained(folder)
    return folder


def pictures(side=64, batch=2):
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(3))


def one_point(folder, image_3HW, x, y, multimask):
    """All of an image for one point, in transformers' own single call."""
    from transformers import Sam2Model

    network = Sam2Model.from_pretrained(folder).eval()
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    large = F.interpolate(image_3HW[None], (128, 128), mode="bilinear")
    with torch.no_grad():
        return network(
            pixel_values=(large - mean) / std,
            input_points=torch.tensor([[[[x, y]]]]),
            input_labels=torch.ones(1, 1, 1, dtype=torch.int32),
            multimask_output=multimask,
        )


@needs_transformers
@pytest.mark.parametrize("mask", ["stable", "best"])
def test_channel_p_is_the_mask_of_point_p(tiny_sam, mask):
    teacher = SamTeacher(
        str(tiny_sam), points_per_side=3, mask=mask, points_per_batch=4, clamp=None
    )
    images = pictures()
    tokens = teacher(images, (8, 8))
    assert tokens.shape == (2, 64, 9) and teacher.num_channels == 9
    for image, point in ((0, 0), (0, 5), (1, 7)):
        x, y = 128 * (2 * (point % 3) + 1) / 6, 128 * (2 * (point // 3) + 1) / 6
        found = one_point(tiny_sam, images[image], x, y, mask == "best")
        which = found.iou_scores[0, 0].argmax() if mask == "best" else 0
        logits = found.pred_masks[0, 0, which]  # (32, 32)
        expected = logits.view(8, 4, 8, 4).mean((1, 3)).flatten()
        torch.testing.assert_close(tokens[image, :, point], expected, rtol=1e-4, atol=1e-4)


@needs_transformers
def test_single_takes_the_first_mask_token_even_where_it_is_unstable(tiny_sam):
    options = dict(points_per_side=4, clamp=None)
    single = SamTeacher(str(tiny_sam), mask="single", **options)(pictures(), (8, 8))
    stable = SamTeacher(str(tiny_sam), mask="stable", **options)(pictures(), (8, 8))
    best = SamTeacher(str(tiny_sam), mask="best", **options)(pictures(), (8, 8))
    from_single = (stable == single).all(1)  # (B, P): each point has one of the two masks
    from_best = torch.isclose(stable, best, atol=1e-5).all(1)
    assert bool((from_single | from_best).all())
    assert not torch.equal(single, best)


@needs_transformers
def test_batches_of_points_change_nothing_and_clamp_cuts(tiny_sam):
    all_at_once = SamTeacher(str(tiny_sam), points_per_side=4, points_per_batch=999, clamp=None)
    one_by_one = SamTeacher(str(tiny_sam), points_per_side=4, points_per_batch=1, clamp=None)
    tokens = all_at_once(pictures(), (8, 8))
    torch.testing.assert_close(one_by_one(pictures(), (8, 8)), tokens, rtol=1e-4, atol=1e-5)
    limit = tokens.abs().median().item()
    cut = SamTeacher(str(tiny_sam), points_per_side=4, clamp=limit)(pictures(), (8, 8))
    assert cut.abs().max() <= limit < tokens.abs().max()


@needs_transformers
def test_attention_of_the_image_encoder_is_that_of_transformers(tiny_sam):
    from transformers import Sam2Model

    network, own = (Sam2Model.from_pretrained(tiny_sam).eval() for _ in range(2))
    assert use_plain_attention(own.vision_encoder) == 5
    pixels = pictures(128)
    with torch.no_grad():
        expected = network.get_image_embeddings(pixels)
        torch.testing.assert_close(own.get_image_embeddings(pixels), expected)


@needs_transformers
@pytest.mark.parametrize("mask", ["single", "stable", "best"])
def test_the_decoder_is_that_of_transformers(tiny_sam, mask):
    """All masks of all points at once, on random points, against `mask_decoder`."""
    from transformers import Sam2Model

    network = Sam2Model.from_pretrained(tiny_sam).eval()
    decoder = network.mask_decoder
    decoder.dynamic_multimask_via_stability = False
    points_P2 = 128 * torch.rand(24, 2, generator=torch.Generator().manual_seed(5))
    prompts = dict(
        input_points=points_P2.expand(2, -1, -1)[:, :, None],
        input_labels=torch.ones(2, 24, 1, dtype=torch.int32),
        multimask_output=mask == "best",
    )
    with torch.no_grad():
        features = network.get_image_embeddings(pictures(128))
        if mask == "stable":  # with a threshold that half of the masks reach
            single = network(image_embeddings=features, **prompts).pred_masks
            decoder.dynamic_multimask_stability_delta = single.abs().median().item()
            stability = decoder._get_stability_scores(single)
            decoder.dynamic_multimask_stability_thresh = stability.median().item()
            decoder.dynamic_multimask_via_stability = True
        found = network(image_embeddings=features, **prompts)
        if mask == "stable":
            kept = (found.pred_masks == single).flatten(2).all(-1)  # (B, P)
            assert kept.any() and not kept.all()
        tokens_PTC = point_tokens(network, points_P2)
        for index in (0, 1):
            parts = image_parts(network, features, index, torch.float32)
            own = masks_of_points(decoder, parts, tokens_PTC, mask)
            which = found.iou_scores[index].argmax(-1)[:, None, None, None]
            expected = found.pred_masks[index].take_along_dim(which, dim=1)[:, 0]
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-4)
            halves = image_parts(network, features, index, torch.bfloat16)
            rough = masks_of_points(decoder, halves, tokens_PTC, mask)
            assert rough.dtype == torch.bfloat16
            gap = (rough - expected).abs().flatten(1).amax(1)  # another mask may be the best
            assert gap.median() < 0.05 * (expected.max() - expected.min())


@needs_transformers
@pytest.mark.parametrize("mask", ["single", "stable"])
def test_kernels_of_the_decoder_equal_its_layers(interpreted, monkeypatch, mask):  # noqa: F811
    """On a decoder wide enough for them, with a grid that no tile divides."""
    from transformers.models.sam2.configuration_sam2 import Sam2MaskDecoderConfig
    from transformers.models.sam2.modeling_sam2 import Sam2MaskDecoder

    from pe_dense.alignment import sam_upscaling_kernel

    torch.manual_seed(0)
    sizes = dict(hidden_size=128, mlp_dim=32, num_attention_heads=4, iou_head_hidden_dim=16)
    decoder = Sam2MaskDecoder(Sam2MaskDecoderConfig(**sizes)).eval().requires_grad_(False)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image = ImageParts(
        *(torch.randn(15, *shape) for shape in ((128,), (128,), (4, 32), (4, 4, 16))), (5, 3)
    )
    points_PTC = torch.randn(2, 8, 128)
    used = []
    whole = sam_upscaling_kernel.masks_from_tokens
    monkeypatch.setattr(
        sam_upscaling_kernel, "masks_from_tokens", lambda *a: (used.append(1), whole(*a))[1]
    )
    monkeypatch.setattr(sam_upscaling_kernel, "TILE", 16)
    monkeypatch.setattr(sam_decoder, "HALF_TYPES", (torch.float32,))  # exact in the interpreter
    found = masks_of_points(decoder, image, points_PTC, mask)
    assert used == [1] and found.shape == (2, 20, 12)
    monkeypatch.setenv("PE_DENSE_KERNELS", "off")
    expected = masks_of_points(decoder, image, points_PTC, mask)
    assert used == [1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@needs_transformers
def test_sam_is_frozen_hashed_and_in_no_checkpoint(tiny_sam):
    teacher = SamTeacher(str(tiny_sam), points_per_side=2)
    assert not teacher.state_dict() and not list(teacher.parameters())
    assert not teacher.network.training
    again = SamTeacher(str(tiny_sam), points_per_side=2)
    assert teacher.identity == again.identity and len(teacher.sha256) == 64
    assert teacher.identity != SamTeacher(str(tiny_sam), points_per_side=3).identity
    tokens = teacher(pictures(), (4, 4))
    assert not tokens.requires_grad and bool(torch.isfinite(tokens).all())
    half = SamTeacher(str(tiny_sam), points_per_side=2, amp_dtype="bfloat16")(pictures(), (4, 4))
    assert half.dtype == torch.float32 and not torch.equal(half, tokens)


@needs_transformers
def test_points_are_embedded_in_float32(tiny_sam, monkeypatch):
    """Under autocast transformers rounds their places to bfloat16, up to two pixels of 1,024."""
    seen = []
    monkeypatch.setattr(
        sam_teacher, "point_tokens", lambda *a: (seen.append(point_tokens(*a)), seen[-1])[1]
    )
    for amp_dtype in (None, "bfloat16"):
        SamTeacher(str(tiny_sam), points_per_side=3, amp_dtype=amp_dtype)(pictures(), (4, 4))
    assert seen[0].dtype == torch.float32 and torch.equal(*seen)


@needs_transformers
def test_sam_that_is_not_there_or_incomplete(tiny_sam, tmp_path):
    from safetensors.torch import load_file, save_file

    with pytest.raises(ValueError, match="cannot be loaded"):
        SamTeacher(str(tmp_path / "nothing"))
    for file in tiny_sam.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    state.pop("mask_decoder.iou_token.weight")
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks 1 weights of SAM 2.1"):
        SamTeacher(str(tmp_path))
