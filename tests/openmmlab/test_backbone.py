"""DenseBackbone: one class in every registry, chosen blocks, weights that nothing overwrites."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("mmengine")

from mmengine.model import BaseModule
from mmengine.registry import MODELS

from pe_dense.encoders.build import build_encoder
from pe_dense.files import file_sha256
from pe_dense.openmmlab.backbone import DenseBackbone

TINY = "pe_spatial_t16_512"
SIDE = 64


def images(seed: int = 0, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def copies(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.fixture(scope="module")
def tower() -> nn.Module:
    """A whole tower with random weights that are not those of any initialisation."""
    torch.manual_seed(3)
    encoder = build_encoder(TINY).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.05)
    return encoder


@pytest.fixture(scope="module")
def weights_file(tower: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tower.pt"
    torch.save(tower.state_dict(), path)
    return path


# Registries


@pytest.mark.parametrize("package", ["mmengine", "mmdet", "mmseg"])
def test_is_built_from_every_registry(package: str) -> None:
    registry = pytest.importorskip(f"{package}.registry").MODELS
    backbone = registry.build(dict(type="DenseBackbone", encoder=TINY, out_indices=(0,)))
    assert type(backbone) is DenseBackbone
    owned = "DenseBackbone" in registry._module_dict
    assert owned == (package == "mmengine"), "registered once, on MMEngine's root registry"


# Blocks and maps


def test_blocks_behind_the_last_one_are_not_built() -> None:
    backbone = DenseBackbone(TINY, out_indices=(1, 3))
    assert len(backbone.encoder.transformer.resblocks) == 4
    assert backbone.out_indices == (1, 3)
    whole, built = (sum(p.numel() for p in tower.parameters()) for tower in (
        build_encoder(TINY), backbone.encoder))  # fmt: skip
    assert backbone.whole_params() == whole > built


@pytest.mark.parametrize(
    ("out_indices", "blocks"),
    [((-1,), (11,)), ((3, 1), (3, 1)), ((-12, -10), (0, 2)), ((2, -10, 0), (2, 2, 0))],
)
def test_maps_equal_those_of_the_whole_tower(
    tower: nn.Module, weights_file: Path, out_indices: tuple, blocks: tuple
) -> None:
    backbone = DenseBackbone(TINY, str(weights_file), out_indices=out_indices).eval()
    assert len(backbone.encoder.transformer.resblocks) == max(blocks) + 1
    with torch.no_grad():
        maps = backbone(images())
        expected = tower.forward_intermediates(images(), range(12))
    assert isinstance(maps, tuple) and len(maps) == len(blocks)
    for level, block in zip(maps, blocks):
        assert level.shape == (2, 192, SIDE // 16, SIDE // 16)
        assert torch.equal(level, expected[block])


def test_different_blocks_differ(weights_file: Path) -> None:
    with torch.no_grad():
        first, second = DenseBackbone(TINY, str(weights_file), out_indices=(0, 1)).eval()(images())
    assert (first - second).abs().max() > 1e-3


def test_final_norm_only_where_asked() -> None:
    torch.manual_seed(0)
    plain = DenseBackbone("pe_core_t16_384", out_indices=(0,)).eval()
    normed = DenseBackbone("pe_core_t16_384", out_indices=(0,), norm=True).eval()
    normed.encoder.load_state_dict(plain.encoder.state_dict())
    nn.init.normal_(normed.encoder.ln_post.weight)
    with torch.no_grad():
        (raw,), (level,) = plain(images()), normed(images())
        by_hand = nn.functional.layer_norm(
            raw.permute(0, 2, 3, 1), (192,), normed.encoder.ln_post.weight, eps=1e-5
        ).permute(0, 3, 1, 2)
    assert torch.allclose(level, by_hand, atol=1e-5)
    assert (level - raw).abs().max() > 1e-2


def test_settings_are_not_changed_by_building() -> None:
    settings = dict(
        type="DenseBackbone", encoder="pe_core_t16_384", out_indices=[-12], weights="random",
        encoder_options=dict(drop_path_rate=0.1), weights_options=dict(patch_resample="bicubic"),
    )  # fmt: skip
    before = copy.deepcopy(settings)
    first, second = MODELS.build(settings), MODELS.build(settings)
    assert settings == before
    assert first.out_indices == second.out_indices == (0,)
    assert not same(copies(first), copies(second)), "two builds are two sets of parameters"


# Frozen


class TwoLayerModel(BaseModule):
    """A backbone and a head, trained like any OpenMMLab model."""

    def __init__(self, backbone: DenseBackbone, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.backbone = backbone
        self.head = nn.Linear(backbone.embed_dim, 3)

    def forward(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images_B3HW)[0].mean((2, 3)))


def train_a_little(model: nn.Module, steps: int = 3) -> None:
    """Some optimizer steps with weight decay, on every parameter that the model hands out."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    model.train()
    for step in range(steps):
        optimizer.zero_grad()
        model(images(step)).square().mean().backward()
        optimizer.step()


def test_frozen_encoder_is_bit_identical_after_training() -> None:
    options = dict(drop_path_rate=0.5)
    model = TwoLayerModel(
        DenseBackbone(TINY, out_indices=(1,), frozen=True, encoder_options=options)
    )
    model.init_weights()
    encoder, head = copies(model.backbone), copies(model.head)
    with torch.no_grad():
        before = model.eval().backbone(images())[0]
    train_a_little(model)
    assert model.training and model.head.training
    assert not any(module.training for module in model.backbone.encoder.modules())
    assert all(p.grad is None and not p.requires_grad for p in model.backbone.parameters())
    assert same(copies(model.backbone), encoder)
    assert not same(copies(model.head), head)
    # Stochastic depth is off although the model trains.
    assert torch.equal(model.backbone(images())[0], before)
    assert not model.backbone(images())[0].requires_grad


def test_an_encoder_that_is_not_frozen_trains() -> None:
    model = TwoLayerModel(DenseBackbone(TINY, out_indices=(1,)))
    before = copies(model.backbone)
    train_a_little(model, steps=1)
    changed = {k for k, v in copies(model.backbone).items() if not torch.equal(v, before[k])}
    assert changed == before.keys()
    assert model.backbone.encoder.training


def test_frozen_backbone_of_a_real_detector_stays_as_it_is(weights_file: Path) -> None:
    pytest.importorskip("mmdet")
    from mmdet.registry import MODELS as DETECTION_MODELS
    from mmdet.structures import DetDataSample
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData

    import pe_dense.detection  # noqa: F401

    with DefaultScope.overwrite_default_scope("mmdet"):
        detector = DETECTION_MODELS.build(
            dict(
                type="FCOS",
                backbone=dict(
                    type="DenseBackbone",
                    encoder=TINY,
                    weights=str(weights_file),
                    out_indices=(1,),
                    frozen=True,
                ),
                neck=dict(
                    type="SimplePyramid",
                    in_channels=192,
                    out_channels=16,
                    scales=(1,),
                    num_extra_levels=0,
                ),
                bbox_head=dict(
                    type="FCOSHead",
                    num_classes=2,
                    in_channels=16,
                    feat_channels=16,
                    stacked_convs=1,
                    strides=[16],
                    regress_ranges=((-1, 1e8),),
                    norm_cfg=None,
                ),
                init_cfg=dict(type="Normal", layer="Linear", std=1.0),
            )
        )
        detector.init_weights()
    encoder, head = copies(detector.backbone), copies(detector.bbox_head)
    loaded = torch.load(weights_file, weights_only=True)
    assert all(torch.equal(v, loaded[k.removeprefix("encoder.")]) for k, v in encoder.items())
    sample = DetDataSample(metainfo=dict(img_shape=(SIDE, SIDE), scale_factor=(1.0, 1.0)))
    sample.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 8.0, 40.0, 50.0]]), labels=torch.tensor([1])
    )
    optimizer = torch.optim.AdamW(detector.parameters(), lr=1e-2, weight_decay=0.1)
    detector.train()
    for step in range(2):
        optimizer.zero_grad()
        losses = detector.loss(images(step, batch=1), [sample])
        sum(value for name, value in losses.items() if "loss" in name).backward()
        optimizer.step()
    assert same(copies(detector.backbone), encoder)
    assert not same(copies(detector.bbox_head), head)


# Weights that stay


def test_init_cfg_of_the_backbone_is_refused() -> None:
    with pytest.raises(ValueError, match="no init_cfg; name the file in weights"):
        DenseBackbone(TINY, init_cfg=dict(type="Xavier", layer="Linear"))


@pytest.mark.parametrize(
    "init_cfg",
    [
        dict(type="Xavier", layer="Linear", distribution="uniform"),
        dict(type="Normal", layer=["Linear", "Conv2d"], std=1.0),
        dict(type="Constant", layer="LayerNorm", val=0.0, bias=3.0),
    ],
    ids=lambda cfg: cfg["type"],
)
@pytest.mark.parametrize("frozen", [True, False])
def test_model_level_init_cfg_cannot_change_loaded_weights(
    weights_file: Path, init_cfg: dict, frozen: bool
) -> None:
    backbone = DenseBackbone(TINY, str(weights_file), out_indices=(1,), frozen=frozen)
    model = TwoLayerModel(backbone, copy.deepcopy(init_cfg))
    loaded = copies(backbone)
    model.init_weights()
    assert same(copies(backbone), loaded)
    assert {p.requires_grad for p in backbone.parameters()} == {not frozen}


def test_model_level_init_cfg_does_reach_random_weights_and_the_head() -> None:
    """The test above means something: without loaded weights the same init_cfg acts."""
    model = TwoLayerModel(
        DenseBackbone(TINY, out_indices=(1,)), dict(type="Constant", layer="Linear", val=0.25)
    )
    model.init_weights()
    assert (model.head.weight == 0.25).all()
    assert (model.backbone.encoder.transformer.resblocks[0].mlp.c_fc.weight == 0.25).all()


def test_model_level_pretrained_file_is_refused(weights_file: Path, tmp_path: Path) -> None:
    other = TwoLayerModel(DenseBackbone(TINY, out_indices=(1,)))
    file = tmp_path / "detector.pth"
    torch.save({"state_dict": other.state_dict()}, file)
    backbone = DenseBackbone(TINY, str(weights_file), out_indices=(1,))
    loaded = copies(backbone)
    model = TwoLayerModel(backbone, dict(type="Pretrained", checkpoint=str(file)))
    with pytest.raises(ValueError, match="would overwrite the encoder weights.*load_from") as error:
        model.init_weights()
    assert weights_file.name in str(error.value)
    assert same(copies(backbone), loaded)


def test_pretrained_file_without_encoder_weights_is_no_threat(
    weights_file: Path, tmp_path: Path
) -> None:
    other = TwoLayerModel(DenseBackbone(TINY, out_indices=(1,)))
    file = tmp_path / "head.pth"
    torch.save({"state_dict": {f"head.{k}": v for k, v in other.head.state_dict().items()}}, file)
    backbone = DenseBackbone(TINY, str(weights_file), out_indices=(1,))
    loaded = copies(backbone)
    model = TwoLayerModel(backbone, dict(type="Pretrained", checkpoint=str(file)))
    model.init_weights()
    assert same(copies(backbone), loaded)
    assert same(copies(model.head), copies(other.head))


def test_checkpoint_of_a_run_still_loads(weights_file: Path) -> None:
    """Resuming is no initialisation: a state dict goes into a backbone with loaded weights."""
    model = TwoLayerModel(DenseBackbone(TINY, str(weights_file), out_indices=(1,)))
    model.init_weights()
    state = {name: value + 1.0 for name, value in copies(model).items()}
    model.load_state_dict(state)
    assert same(copies(model), state)


def test_weights_info(weights_file: Path) -> None:
    loaded = DenseBackbone(TINY, str(weights_file), out_indices=(1,))
    assert loaded.is_loaded
    assert loaded.weights_info.source == "tower.pt"
    assert loaded.weights_info.sha256 == file_sha256(weights_file)
    assert any("blocks 2..11 of 12 dropped" in note for note in loaded.weights_info.notes)
    random = DenseBackbone(TINY, out_indices=(1,))
    assert not random.is_loaded
    assert (random.weights_info.source, random.weights_info.sha256) == ("random", "random")


# Precision, memory, gradients


def test_bfloat16_maps_are_float32_and_close(weights_file: Path) -> None:
    exact = DenseBackbone(TINY, str(weights_file), out_indices=(3,), frozen=True)
    fast = DenseBackbone(
        TINY, str(weights_file), out_indices=(3,), frozen=True, amp_dtype="bfloat16"
    )
    (level,), (reference,) = fast(images()), exact(images())
    assert level.dtype == torch.float32
    error = (level - reference).norm() / reference.norm()
    assert 0 < error < 0.02  # bfloat16 keeps 8 bits: 0 would mean that nothing ran in it
    assert all(p.dtype == torch.float32 for p in fast.parameters())


def gradients(backbone: DenseBackbone) -> dict[str, torch.Tensor]:
    backbone.zero_grad()
    weight = torch.randn(192, generator=torch.Generator().manual_seed(9))
    sum((level * weight[:, None, None]).sum() for level in backbone(images())).backward()
    return {name: p.grad.clone() for name, p in backbone.named_parameters()}


def test_grad_checkpointing_gives_the_same_gradients(
    weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pe_dense.encoders.pe as pe

    plain = DenseBackbone(TINY, str(weights_file), out_indices=(0, 2))
    saving = DenseBackbone(TINY, str(weights_file), out_indices=(0, 2), grad_checkpointing=True)
    calls = []
    recompute = pe.checkpoint
    monkeypatch.setattr(
        pe, "checkpoint", lambda *args, **kw: calls.append(1) or recompute(*args, **kw)
    )
    expected, found = gradients(plain), gradients(saving)
    assert len(calls) == 3
    assert expected.keys() == found.keys()
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=1e-5, atol=1e-6), name


@pytest.mark.parametrize("encoder", ["pe_core_t16_384", TINY])
@pytest.mark.parametrize("out_indices", [(-1,), (0, 2)])
def test_every_trained_parameter_gets_a_gradient(encoder: str, out_indices: tuple) -> None:
    backbone = DenseBackbone(encoder, out_indices=out_indices)
    sum(level.square().sum() for level in backbone(images())).backward()
    unused = [n for n, p in backbone.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []
    trained = [n for n, p in backbone.named_parameters() if p.requires_grad]
    assert any("resblocks.0" in name for name in trained) and any("conv1" in n for n in trained)
    assert not any("attn_pool" in name or "ln_post" in name for name in trained)


# Errors


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(encoder="pe_spatial_t16"), "unknown encoder 'pe_spatial_t16'.*pe_spatial_t16_512"),
        (dict(encoder="PE-Spatial-B16-512"), "did you mean.*pe_spatial_b16_512"),
        (dict(encoder=TINY, out_indices=(12,)), "block index 12 .* 12 blocks"),
        (dict(encoder=TINY, out_indices=(-13,)), "block index -13"),
        (dict(encoder=TINY, out_indices=()), "out_indices is empty"),
        (dict(encoder=TINY, amp_dtype="fp16"), "amp_dtype='fp16' is not one of bfloat16, float16"),
        (dict(encoder=TINY, encoder_options=dict(windows=3)), "no such option.*windows"),
        (dict(encoder=TINY, weights="/nowhere/tower.pt"), "/nowhere/tower.pt does not exist"),
    ],
    ids=["short", "hub name", "too deep", "too negative", "none", "amp", "option", "file"],
)
def test_bad_settings_get_one_sentence(settings: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as error:
        DenseBackbone(**settings)
    assert "\n" not in str(error.value)


def test_norm_on_a_tower_without_one() -> None:
    with pytest.raises(ValueError, match="no final norm"):
        DenseBackbone(TINY, out_indices=(0,), norm=True)(images())


def test_registered_under_one_name_only() -> None:
    names = [name for name, module in MODELS.module_dict.items() if module is DenseBackbone]
    assert names == ["DenseBackbone"]


def test_blocks_of_a_truncated_tower_are_counted_in_the_whole_one() -> None:
    options = dict(
        cls_token=False, window_size=4, global_blocks=(2, 5, -1),
        drop_path_rate=0.22, drop_path_schedule="linear",
    )  # fmt: skip
    whole = DenseBackbone("pe_spatial_t16_512", encoder_options=options)
    cut = DenseBackbone("pe_spatial_t16_512", out_indices=(5,), encoder_options=options)
    blocks = cut.encoder.transformer.resblocks
    assert len(blocks) == 6
    assert [b.window_size for b in blocks] == [4, 4, None, 4, 4, None]
    expected = whole.encoder.transformer.resblocks[:6]
    assert [b.window_size for b in blocks] == [b.window_size for b in expected]
    assert [b.drop_path_1.drop_prob for b in blocks] == pytest.approx(
        [b.drop_path_1.drop_prob for b in expected]
    )


def test_final_norm_is_trained_when_it_is_used_and_the_pool_never() -> None:
    backbone = DenseBackbone("pe_core_t16_384", norm=True, out_indices=(0,))
    backbone(torch.randn(1, 3, 32, 32))[0].sum().backward()
    trained = {n for n, p in backbone.named_parameters() if p.requires_grad}
    assert {n for n, p in backbone.named_parameters() if p.grad is not None} == trained
    assert any("ln_post" in n for n in trained)
    assert not any("attn_pool" in n for n in trained)


@pytest.mark.parametrize("amp_dtype", [None, "bfloat16"])
def test_class_tokens_come_with_their_maps(amp_dtype: str | None) -> None:
    settings = dict(encoder="pe_core_t16_384", out_indices=(0, 2), amp_dtype=amp_dtype)
    alone, paired = DenseBackbone(**settings), DenseBackbone(**settings, with_class_token=True)
    paired.load_state_dict(alone.state_dict())
    found = paired(images())
    tokens = paired.encoder.run_blocks(images(), [0, 2])[0] if amp_dtype is None else None
    for block, map_BChw, (paired_BChw, token_BC) in zip((0, 2), alone(images()), found):
        assert torch.equal(map_BChw, paired_BChw)
        assert token_BC.shape == (2, paired.embed_dim) and token_BC.dtype == torch.float32
        assert tokens is None or torch.equal(token_BC, tokens[block][:, 0])


def test_an_encoder_without_class_token_is_named() -> None:
    with pytest.raises(ValueError, match=f"{TINY} has no class token"):
        DenseBackbone(TINY, encoder_options=dict(cls_token=False), with_class_token=True)


@pytest.mark.parametrize(
    ("model", "has_one"),
    [
        ("vit_tiny_patch16_224", True),
        ("vit_little_patch16_reg4_gap_256", False),  # registers alone
        ("vit_base_patch16_siglip_224", False),
    ],
)
def test_class_tokens_of_timm(model: str, has_one: bool) -> None:
    pytest.importorskip("timm")
    settings = dict(encoder=f"timm:{model}", out_indices=(0,), with_class_token=True)
    if not has_one:
        with pytest.raises(ValueError, match="no class token"):
            DenseBackbone(**settings)
        return
    map_BChw, token_BC = DenseBackbone(**settings)(images())[0]
    assert token_BC.shape == map_BChw.shape[:2]
