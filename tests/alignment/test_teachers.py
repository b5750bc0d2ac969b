"""Teachers of spatial alignment: frozen, in no checkpoint, on the student's grid."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import nn

import pe_dense.alignment  # noqa: F401 (registers the teachers)
from pe_dense.alignment.encoder_teacher import EncoderTeacher
from pe_dense.alignment.frozen_teacher import check_grid, point_grid, resample
from pe_dense.alignment.instance_mask_teacher import InstanceMaskTeacher, instance_logits
from pe_dense.files import file_sha256
from tests.small_towers import save

TINY = dict(patch_size=4, embed_dim=16, depth=3, num_heads=2, mlp_hidden=40, image_size=16)


def tiny_teacher(layer=1, seed=0, **options):
    torch.manual_seed(seed)
    return EncoderTeacher(
        "pe_core_t16_384",
        "random",
        layer,
        encoder_options=dict(TINY, pool_heads=2, output_dim=12),
        **options,
    )


class Student(nn.Module):
    def __init__(self, teacher):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.teacher = teacher


def images(height=16, width=16, batch=2):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, 3, height, width, generator=generator)


def test_teacher_gives_the_tokens_of_the_block_row_by_row():
    teacher, pictures = tiny_teacher(), images(8, 12)
    tokens = teacher(pictures, (2, 3))
    encoder = teacher.network.encoder
    inputs = (pictures - 0.5) / 0.5  # PE's mean and deviation
    with torch.no_grad():
        expected = encoder.forward_intermediates(inputs, (1,))[0]  # (B, C, h, w)
    assert tokens.shape == (2, 6, 16)
    for row in range(2):
        for column in range(3):
            torch.testing.assert_close(tokens[:, 3 * row + column], expected[:, :, row, column])


def test_a_network_in_half_precision_is_close_and_another_teacher():
    half, whole = tiny_teacher(network_dtype="bfloat16"), tiny_teacher()
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):  # of the student; it stays out
        tokens = half(images(), (4, 4))
    expected = whole(images(), (4, 4))
    assert tokens.dtype == torch.float32 and not torch.equal(tokens, expected)
    assert torch.equal(tokens, tokens.bfloat16().float())
    assert (tokens - expected).norm() < 2e-2 * expected.norm()
    assert half.identity != whole.identity and "network_dtype" not in whole.facts()
    with pytest.raises(ValueError, match="exclude each other"):
        tiny_teacher(network_dtype="bfloat16", amp_dtype="bfloat16")
    with pytest.raises(ValueError, match="network_dtype"):
        tiny_teacher(network_dtype="float32")


def test_a_student_of_another_patch_meets_the_teacher_on_its_grid():
    teacher, pictures = tiny_teacher(), images(40, 40)  # a student of patch 8: 5 x 5 tokens
    resized = F.interpolate(pictures, (20, 20), mode="bilinear", antialias=True)
    expected = tiny_teacher(image_size=None)(resized, (5, 5))
    torch.testing.assert_close(teacher(pictures, (5, 5)), expected)
    coarse = tiny_teacher(image_size=None, resampling="area")(images(16, 16), (2, 2))
    fine = tiny_teacher(image_size=None)(images(16, 16), (4, 4))
    by_hand = fine.view(2, 2, 2, 2, 2, 16).mean((2, 4)).flatten(1, 2)
    torch.testing.assert_close(coarse, by_hand)


def test_teacher_is_in_no_checkpoint_optimizer_or_mode_but_follows_the_model():
    student = Student(tiny_teacher())
    assert set(student.state_dict()) == {"layer.weight", "layer.bias"}
    assert len(list(student.parameters())) == 2
    student.load_state_dict(student.state_dict(), strict=True)
    student.train()
    assert not any(module.training for module in student.teacher.network.modules())
    assert not any(p.requires_grad for p in student.teacher.network.parameters())
    student.to("meta")
    assert all(p.device.type == "meta" for p in student.teacher.network.parameters())
    student = Student(tiny_teacher()).double()
    assert next(student.teacher.network.parameters()).dtype == torch.float64
    assert copy.deepcopy(student).teacher.network is student.teacher.network


def test_no_gradient_reaches_or_leaves_the_teacher():
    pictures = images().requires_grad_()
    tokens = tiny_teacher()(pictures, (4, 4))
    assert not tokens.requires_grad and tokens.dtype == torch.float32


def test_sha256_is_that_of_the_file_or_of_the_values(tmp_path):
    first, same, other = tiny_teacher(seed=0), tiny_teacher(seed=0), tiny_teacher(seed=1)
    assert first.sha256 == same.sha256 != other.sha256
    assert first.identity == same.identity != other.identity
    assert first.identity != tiny_teacher(layer=0).identity
    tower = first.network.encoder.state_dict()
    path = save(tmp_path / "tower.safetensors", tower)
    teacher = EncoderTeacher(
        "pe_core_t16_384", str(path), 1, encoder_options=dict(TINY, pool_heads=2, output_dim=12)
    )
    assert teacher.sha256 == file_sha256(path)


def test_bfloat16_changes_digits_only():
    plain, half = tiny_teacher(), tiny_teacher(amp_dtype="bfloat16")
    exact, rounded = plain(images(), (4, 4)), half(images(), (4, 4))
    assert rounded.dtype == torch.float32 and not torch.equal(exact, rounded)
    assert F.cosine_similarity(exact, rounded, dim=-1).min() > 0.99
    with torch.autocast("cpu", torch.bfloat16):  # the student's precision is not the teacher's
        torch.testing.assert_close(plain(images(), (4, 4)), exact, rtol=0, atol=0)


def test_a_timm_encoder_is_a_teacher():
    pytest.importorskip("timm")
    teacher = MODELS.build(
        dict(type="EncoderTeacher", encoder="timm:test_vit", weights="random", layer=-1)
    )
    assert teacher(images(160, 160), (10, 10)).shape == (2, 100, teacher.num_channels)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(resampling="cubic"), "resampling='cubic' is not one of"),
        (dict(amp_dtype="fp8"), "amp_dtype='fp8' is not one of"),
        (dict(image_size="half"), "not 'grid', None or a pair"),
        (dict(image_size=(8,)), "not 'grid', None or a pair"),
        (dict(layer=7), "block index 7 is outside"),
    ],
)
def test_bad_options_of_a_teacher(options, words):
    with pytest.raises(ValueError, match=words):
        tiny_teacher(**options)


def test_bad_input_of_a_teacher():
    teacher = tiny_teacher()
    with pytest.raises(ValueError, match="cannot be matched to images of 16 x 16"):
        teacher(images(), (4, 8))
    with pytest.raises(ValueError, match="are no images"):
        teacher(images(batch=0), (4, 4))
    with pytest.raises(ValueError, match=r"lie in -.* takes RGB in 0\.\.1"):
        teacher(images() * 4 - 2, (4, 4))


@pytest.mark.parametrize(
    ("grid", "size", "fits"),
    [
        ((32, 32), (448, 448), True),
        ((28, 18), (450, 300), True),  # patch 16, the rest cut
        ((29, 19), (450, 300), True),  # or padded
        ((18, 28), (450, 300), False),
        ((1, 1), (30, 50), True),
        ((0, 1), (16, 16), False),
        ((32, 48), (448, 448), False),
    ],
)
def test_grids_that_square_patches_make(grid, size, fits):
    if fits:
        check_grid(grid, size, "student")
    else:
        with pytest.raises(ValueError, match="grid"):
            check_grid(grid, size, "student")


def test_resampling_kinds():
    ramp = torch.arange(8.0).view(1, 1, 1, 8)
    assert resample(ramp, (1, 2), "area").flatten().tolist() == [1.5, 5.5]
    assert resample(ramp, (1, 2), "bilinear").flatten().tolist() == [1.5, 5.5]
    spike = torch.zeros(1, 1, 1, 8)
    spike[..., 0] = 4.0  # the two pixels about the centre of the left cell do not see it
    assert resample(spike, (1, 2), "bilinear").flatten().tolist() == [0.0, 0.0]
    assert resample(spike, (1, 2), "area").flatten().tolist() == [1.0, 0.0]
    assert resample(spike, (1, 2), "antialias")[0, 0, 0, 0] > 0


def test_point_grid_is_the_centres_of_cells():
    points = point_grid(32)
    assert points.shape == (1024, 2)
    assert points[0].tolist() == [1 / 64, 1 / 64]
    assert points[1].tolist() == [3 / 64, 1 / 64]  # x first
    assert points[-1].tolist() == [63 / 64, 63 / 64]
    with pytest.raises(ValueError, match="points_per_side=0"):
        point_grid(0)


def sample_of(ids):
    return BaseDataElement(instance_ids=torch.as_tensor(ids, dtype=torch.int32))


def slow_logits(ids, points, grid, logit, radius):
    """Pixel by pixel, as the docstring says it."""
    height, width = len(ids), len(ids[0])
    maps = torch.zeros(len(points), *grid)
    for p, (x, y) in enumerate(points):
        mine = ids[int(y * height)][int(x * width)]
        for i in range(grid[0]):
            for j in range(grid[1]):
                rows = range(i * height // grid[0], (i + 1) * height // grid[0])
                columns = range(j * width // grid[1], (j + 1) * width // grid[1])
                inside = [ids[r][c] == mine for r in rows for c in columns]
                share = sum(inside) / len(inside)
                if mine == 0 and radius is not None:
                    dx, dy = (j + 0.5) / grid[1] - x, (i + 0.5) / grid[0] - y
                    share *= max(0.0, 1 - (dx * dx + dy * dy) ** 0.5 / radius)
                maps[p, i, j] = 0.0 if mine == -1 else logit * (2 * share - 1)
    return maps


@pytest.mark.parametrize("radius", [None, 0.4])
def test_instance_logits_against_a_pixel_by_pixel_version(radius):
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(-1, 4, (8, 12), generator=generator, dtype=torch.int32)
    points = point_grid(4)
    found = instance_logits(ids, points, (4, 6), 10.0, radius)
    expected = slow_logits(ids.tolist(), points.tolist(), (4, 6), 10.0, radius)
    torch.testing.assert_close(found, expected)


def test_tokens_of_one_object_agree_and_distant_background_does_not():
    ids = torch.zeros(32, 32, dtype=torch.int32)
    ids[8:24, 8:24] = 7
    for background in ("distance", "instance"):
        teacher = InstanceMaskTeacher(points_per_side=8, background=background)
        tokens = teacher(images(64, 64, 1), (8, 8), [sample_of(ids)])[0]
        assert tokens.shape == (64, 64) and teacher.num_channels == 64
        cosine = F.cosine_similarity(tokens[:, None], tokens[None], dim=-1)
        inside, beside, far, near = 27, 28, 63, 1  # and 0, a corner of the background
        assert cosine[inside, beside] > 0.999
        assert cosine[inside, 0] < cosine[inside, beside]
        assert cosine[0, near] > 0.7
        assert (cosine[0, far] > 0.999) == (background == "instance")
        if background == "distance":
            assert cosine[0, far] < cosine[0, near]


def test_instance_teacher_has_a_sha256_of_its_settings_and_no_state():
    first, other = InstanceMaskTeacher(), InstanceMaskTeacher(logit=5.0)
    assert first.identity != other.identity
    assert not first.state_dict() and not list(first.parameters())


def test_void_image_is_all_zero():
    teacher = InstanceMaskTeacher(points_per_side=2)
    tokens = teacher(images(batch=1), (4, 4), [sample_of(torch.full((16, 16), -1))])
    assert torch.equal(tokens, torch.zeros(1, 16, 4))


def test_bad_input_of_the_instance_teacher():
    teacher = InstanceMaskTeacher(points_per_side=2)
    with pytest.raises(ValueError, match="got no data samples for 2 images"):
        teacher(images(), (4, 4))
    with pytest.raises(ValueError, match="no integer instance_ids"):
        teacher(images(), (4, 4), [BaseDataElement(), BaseDataElement()])
    with pytest.raises(ValueError, match="background='sky'"):
        InstanceMaskTeacher(background="sky")
    with pytest.raises(ValueError, match="must be above 0"):
        InstanceMaskTeacher(logit=0.0)
