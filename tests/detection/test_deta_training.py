"""DETA on awkward input: images without objects, degenerate boxes, wrong sizes, wrong settings."""

import copy

import pytest
import torch
from deta_case import build_model, load_arrays, model_settings, samples, tensor
from mmdet.models import DeformableDETR
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch.utils._python_dispatch import TorchDispatchMode

from pe_dense.detection.deta import DETA, DETAPyramid
from pe_dense.detection.deta_head import pair_labels
from pe_dense.detection.enough_tokens import enough_patches
from pe_dense.detection.pair_assignment import xyxy_from_cxcywh
from pe_dense.openmmlab.necks import SimplePyramid


@pytest.fixture(scope="module")
def arrays():
    return load_arrays()


@pytest.fixture
def settings(arrays):
    init_default_scope("mmdet")
    return model_settings(arrays)


def with_objects(arrays, boxes, labels):
    found = samples(arrays)
    for sample, some, classes in zip(found, boxes, labels, strict=True):
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor(some).reshape(-1, 4), labels=torch.tensor(classes).long()
        )
    return found


def loss_of(model, arrays, boxes, labels):
    losses = model.loss(tensor(arrays["inputs/images"]), with_objects(arrays, boxes, labels))
    assert all(torch.isfinite(value) for value in losses.values())
    return losses


def test_images_without_objects_train_every_parameter(arrays):
    model = build_model(arrays)
    losses = loss_of(model, arrays, [[], []], [[], []])
    assert losses["loss_bbox"] == losses["enc_loss_iou"] == 0
    assert losses["loss_cls"] > 0
    sum(losses.values()).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None]
    assert silent == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_degenerate_boxes_count_for_nothing(arrays):
    model = build_model(arrays)
    real = [[10.0, 10, 90, 80]]
    broken = [[30.0, 30, 30, 60], [40, 50, 60, 50], [60, 60, 50, 70], [float("nan"), 0, 9, 9]]
    with torch.no_grad():
        clean = loss_of(model, arrays, [real, []], [[3], []])
        dirty = loss_of(model, arrays, [real + broken, broken], [[3, 1, 1, 1, 1], [0] * 4])
    assert {k: v.item() for k, v in clean.items()} == {k: v.item() for k, v in dirty.items()}


def test_one_pixel_objects_have_finite_gradients(arrays):
    model = build_model(arrays)
    losses = loss_of(model, arrays, [[[100.0, 100, 101, 101]], [[5.0, 5, 5.01, 5.01]]], [[1], [2]])
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_autocast_around_the_model_changes_only_the_encoder(arrays):
    model = build_model(arrays).eval()
    images = tensor(arrays["inputs/images"])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model.forward_transformer(model.extract_feat(images), samples(arrays))
    assert found["hidden_states"].dtype == torch.float32
    assert found["references"][0].dtype == torch.float32
    expected = tensor(arrays["outputs/pred_logits"])
    with torch.no_grad():
        logits, _ = model.bbox_head(found["hidden_states"], found["references"])
    assert logits.dtype == torch.float32
    assert logits[-1].shape == expected.shape


def test_checkpointed_blocks_give_the_same_gradients(arrays, settings):
    plain = build_model(arrays)
    settings["backbone"]["grad_checkpointing"] = True
    model = DETA(**settings)
    model.load_state_dict(plain.state_dict(), strict=True)
    gradients = []
    for each in (plain, model.train()):
        losses = each.loss(tensor(arrays["inputs/images"]), samples(arrays, "gt_a"))
        sum(losses.values()).backward()
        gradients.append(each.backbone.encoder.conv1.weight.grad)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_canvas_and_padding_must_agree(settings):
    with pytest.raises(ValueError, match="canvas is 320 but .*pad_size_divisor is 256"):
        DETA(canvas=320, **settings)


def test_an_image_larger_than_the_canvas_is_one_sentence(arrays, settings):
    model = DETA(canvas=256, **settings)
    sample = samples(arrays)[0]
    sample.set_metainfo(
        dict(batch_input_shape=(256, 512), img_shape=(200, 300), img_path="photos/a.jpg")
    )
    with pytest.raises(ValueError, match=r"photos/a.jpg is 300x200 px .* 256-px canvas.*224 px"):
        model.loss(torch.zeros(1, 3, 256, 512), [sample])


def test_more_queries_than_tokens(arrays, settings):
    settings["num_queries"] = 2000
    model = DETA(**settings).eval()
    with pytest.raises(ValueError, match="num_queries is 2000, but .* only 1364 tokens"):
        model.predict(tensor(arrays["inputs/images"]), samples(arrays))


def test_a_batch_with_too_few_tokens_is_padded(arrays, settings):
    settings["num_queries"] = 300
    model = DETA(**settings).eval()
    model.load_state_dict(build_model(arrays).state_dict())
    images, found = tensor(arrays["inputs/images"])[:, :, :16, :64], samples(arrays)
    for one in found:
        one.set_metainfo(dict(batch_input_shape=(16, 64), img_shape=(10, 60), ori_shape=(10, 60)))
    with torch.no_grad():
        results = model(images, found, mode="predict")
    assert found[0].batch_input_shape == found[0].pad_shape == (128, 128)
    for one in results:
        boxes = one.pred_instances.bboxes
        assert len(boxes) and bool(boxes.isfinite().all())


@pytest.mark.parametrize("grid", [(2, 2), (1, 9), (30, 1), (7, 9)])
@pytest.mark.parametrize(
    "neck",
    [DETAPyramid(8, 64), SimplePyramid(8, 4, (1, 0.5), 1), SimplePyramid(8, 4, (4, 2, 1, 0.5), 2)],
)
def test_enough_patches_are_the_least(neck, grid):
    def num_tokens(rows, columns):
        return sum(h * w for h, w in neck.grids(rows, columns))

    neck.eval()
    for queries in (1, 60, 100, 900):
        rows, columns = enough_patches(*grid, queries, neck.grids)
        levels = neck([torch.zeros(1, 8, rows, columns)])
        assert neck.grids(rows, columns) == [tuple(level.shape[2:]) for level in levels]
        assert num_tokens(rows, columns) >= queries
        if min(grid) > 1 and num_tokens(*grid) >= queries:
            assert (rows, columns) == grid


def test_settings_that_lack_something_are_refused(settings):
    lacking = copy.deepcopy(settings)
    del lacking["test_cfg"]["nms"]
    with pytest.raises(ValueError, match="test_cfg lacks nms"):
        DETA(**lacking)
    lacking = copy.deepcopy(settings)
    del lacking["bbox_head"]["proposal_assigner"]
    with pytest.raises(ValueError, match="proposal_assigner is missing"):
        DETA(**lacking)
    lacking = copy.deepcopy(settings)
    lacking["bbox_head"]["loss_cls"] = dict(type="CrossEntropyLoss", use_sigmoid=False)
    with pytest.raises(ValueError, match="needs a sigmoid class loss"):
        DETA(**lacking)


def test_the_same_settings_build_twice(settings):
    before = copy.deepcopy(settings)
    DETA(**settings)
    assert settings == before
    DETA(**settings)


def test_initial_weights(settings):
    torch.manual_seed(0)
    model = DETA(**settings)
    model.init_weights()
    head = model.bbox_head
    assert len({id(branch) for branch in head.cls_branches}) == 3
    for branch in head.cls_branches:
        assert branch.bias.detach().tolist() == pytest.approx([-4.59512] * 12, abs=1e-4)
    for branch in head.reg_branches:
        assert not branch[-1].weight.any()
        assert not branch[-1].bias.any()
    for name in ("memory_trans_fc", "pos_trans_fc", "pix_trans_fc"):
        weight = getattr(model, name).weight.detach()
        assert weight.abs().max() <= (6 / sum(weight.shape)) ** 0.5
        assert weight.std() == pytest.approx((2 / sum(weight.shape)) ** 0.5, rel=0.1)
    assert all(conv.conv.bias is not None for conv in (*model.neck.convs, *model.neck.extra_convs))


def test_pyramid_sizes():
    levels = DETAPyramid(8, 64)((torch.zeros(1, 8, 7, 9),))
    sides = [tuple(level.shape[-2:]) for level in levels]
    assert sides == [(14, 18), (7, 9), (3, 4), (2, 2), (1, 1)]
    assert {level.shape[1] for level in levels} == {64}


def test_a_prediction_in_two_pairs_takes_the_last_label():
    predictions, objects = torch.tensor([4, 1, 4]), torch.tensor([0, 1, 2])
    labels = pair_labels(6, predictions, objects, torch.tensor([7, 8, 9]), 20)
    assert labels.tolist() == [20, 8, 20, 20, 9, 20]
    empty = torch.zeros(0, dtype=torch.int64)
    assert pair_labels(3, empty, empty, torch.tensor([], dtype=torch.int64), 5).tolist() == [5] * 3


@pytest.mark.parametrize("padded", [True, False])
def test_the_transformer_s_inputs_are_mmdet_s(arrays, padded):
    model = build_model(arrays).eval()
    batch = samples(arrays)
    if not padded:
        for sample in batch:
            sample.set_metainfo(dict(img_shape=sample.batch_input_shape))
    images = tensor(arrays["inputs/images"])
    with torch.no_grad():
        levels = model.extract_feat(images)
        found, expected = (
            of.pre_transformer(model, levels, batch) for of in (DETA, DeformableDETR)
        )
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                assert (value is None) == (ours[name] is None), name
                if value is not None:
                    torch.testing.assert_close(ours[name], value, rtol=0, atol=0)
        memory = DETA.forward_encoder(model, **found[0])["memory"]
        theirs = DeformableDETR.forward_encoder(model, **expected[0])["memory"]
        torch.testing.assert_close(memory, theirs)


class Reads(TorchDispatchMode):
    """Counts how often a tensor's value is asked back, for which a GPU would have to be waited."""

    def __init__(self) -> None:
        super().__init__()
        self.num_reads = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.num_reads += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_a_prediction_reads_nothing_back_before_suppression(arrays, monkeypatch):
    model = build_model(arrays).eval()
    batch, images = samples(arrays), tensor(arrays["inputs/images"])

    def zeros(values, shapes, places, weights):
        return places.new_zeros(*places.shape[:2], values.shape[2] * values.shape[3])

    monkeypatch.setattr("pe_dense.openmmlab.deformable_attention.deformable_attention", zeros)
    monkeypatch.setattr("pe_dense.detection.proposals.kept_boxes",
                        lambda b, *_, **__: torch.ones(len(b), dtype=torch.bool))  # fmt: skip
    monkeypatch.setattr("pe_dense.detection.proposals._warn_of_few", lambda *_: None)
    with torch.no_grad():
        levels = model.extract_feat(images)
        model.forward_transformer(levels, batch)  # constants of these shapes are made once
        with Reads() as reads:
            model.forward_transformer(levels, batch)
    assert reads.num_reads == 0


def test_losses_of_all_layers_at_once_are_those_of_each(arrays):
    head = build_model(arrays).bbox_head
    torch.manual_seed(0)
    logits, boxes = torch.randn(3, 2, 9, head.num_classes), torch.rand(3, 2, 9, 4)
    pairs = [([0, 4, 4], [0, 0, 1]), ([8], [0])]
    pairs = [tuple(map(torch.tensor, pair)) for pair in pairs]
    objects = [torch.rand(2, 4) + 0.1, torch.rand(1, 4) + 0.1]
    labels = [torch.tensor([1, 0]), torch.tensor([2])]
    number = torch.tensor(3.0)
    at_once = head._terms(logits, boxes, pairs, objects, labels, number)
    for s, terms in enumerate(at_once):
        targets = torch.stack([pair_labels(9, *pair, label, head.num_classes)
                               for pair, label in zip(pairs, labels, strict=True)])  # fmt: skip
        expected = head.loss_cls(logits[s].flatten(0, 1), targets.flatten(), avg_factor=3.0)
        torch.testing.assert_close(terms["loss_cls"], expected)
        found = torch.cat([b[i] for b, (i, _) in zip(boxes[s], pairs, strict=True)])
        wanted = torch.cat([o[j] for o, (_, j) in zip(objects, pairs, strict=True)])
        expected = head.loss_bbox(found, wanted, avg_factor=3.0)
        torch.testing.assert_close(terms["loss_bbox"], expected)
        corners = (xyxy_from_cxcywh(found), xyxy_from_cxcywh(wanted))
        torch.testing.assert_close(terms["loss_iou"], head.loss_iou(*corners, avg_factor=3.0))
