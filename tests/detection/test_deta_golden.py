"""DETA, end to end, against arrays of the reference implementation (deta_small.npz)."""

import numpy as np
import pytest
import torch
from deta_case import build_model, load_arrays, samples, tensor

TOLERANCE = 1e-5
LOSS_NAMES = {"loss_cls": "loss_ce", "loss_bbox": "loss_bbox", "loss_iou": "loss_giou"}


@pytest.fixture(scope="module")
def arrays():
    return load_arrays()


@pytest.fixture(scope="module")
def model(arrays):
    return build_model(arrays)


def run(model, arrays, **options):
    images = tensor(arrays["inputs/images"])
    return model.forward_transformer(model.extract_feat(images), samples(arrays, **options))


@pytest.fixture(scope="module")
def outputs(model, arrays):
    with torch.no_grad():
        found = run(model, arrays)
        logits, boxes = model.bbox_head(found["hidden_states"], found["references"])
    return dict(found, logits=logits, boxes=boxes)


def assert_close(found, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=tolerance, rtol=0)


def test_levels_positions_and_memory(model, arrays):
    images = tensor(arrays["inputs/images"])
    with torch.no_grad():
        (p4,) = model.backbone(images)
        encoder_inputs, _ = model.pre_transformer(model.neck((p4,)), samples(arrays))
        encoded = model.forward_encoder(**encoder_inputs)
        tokens, _ = model.gen_encoder_output_proposals(**encoded)
    index = arrays["intermediate/token_index"]
    assert_close(p4, arrays["intermediate/p4"])
    assert_close(encoder_inputs["feat"][:, index], arrays["intermediate/encoder_input"])
    assert_close(encoder_inputs["feat_pos"][:, index], arrays["intermediate/encoder_pos"])
    assert_close(encoded["memory"][:, index], arrays["intermediate/encoder_memory"])
    assert_close(tokens[:, index], arrays["intermediate/output_memory"])
    assert_close(encoder_inputs["valid_ratios"], arrays["intermediate/valid_ratios"])
    for name in ("spatial_shapes", "level_start_index"):
        assert encoder_inputs[name].tolist() == arrays[f"intermediate/{name}"].tolist()
    mask = encoder_inputs["feat_mask"]
    assert mask.tolist() == arrays["intermediate/token_pad_mask"].tolist()


def test_queries(model, arrays):
    images = tensor(arrays["inputs/images"])
    with torch.no_grad():
        features = model.extract_feat(images)
        encoder_inputs, _ = model.pre_transformer(features, samples(arrays))
        inputs, _ = model.pre_decoder(**model.forward_encoder(**encoder_inputs))
    assert_close(inputs["query_pos"][:, :8], arrays["intermediate/query_pos"])
    assert_close(inputs["query"][:, :8], arrays["intermediate/tgt"])


def test_logits_and_boxes_of_every_layer(outputs, arrays):
    assert_close(outputs["references"][0], arrays["outputs/init_reference"])
    assert_close(outputs["logits"][-1], arrays["outputs/pred_logits"])
    assert_close(outputs["boxes"][-1], arrays["outputs/pred_boxes"])
    assert_close(outputs["logits"][0], arrays["outputs/aux_0/pred_logits"])
    assert_close(outputs["boxes"][0], arrays["outputs/aux_0/pred_boxes"])


def test_proposal_head_and_anchors(outputs, arrays):
    assert_close(outputs["enc_outputs_class"], arrays["outputs/enc/pred_logits"])
    assert_close(outputs["enc_outputs_coord"], arrays["outputs/enc/pred_boxes"])
    assert_close(outputs["anchors"], arrays["outputs/enc/anchors"])


@pytest.mark.parametrize("targets", ["gt_a", "gt_b"])
def test_pairs_of_both_stages(model, outputs, arrays, targets):
    boxes = [tensor(arrays[f"{targets}/targets/img{i}/boxes"]) for i in range(2)]
    head = model.bbox_head
    for stage, assigner, starts in (
        ("stage1", head.proposal_assigner, outputs["anchors"]),
        ("stage2", head.assigner, outputs["references"][0]),
    ):
        for i in range(2):
            found = assigner(boxes[i], starts[i])
            prefix = f"{targets}/{stage}_pairs/img{i}"
            assert found[0].tolist() == arrays[f"{prefix}/pred"].tolist()
            assert found[1].tolist() == arrays[f"{prefix}/gt"].tolist()


@pytest.mark.parametrize("targets", ["gt_a", "gt_b"])
def test_every_loss_term(model, arrays, targets):
    with torch.no_grad():
        found = run(model, arrays)
        losses = model.bbox_head.loss(**found, batch_data_samples=samples(arrays, targets))
    assert len(losses) == 9
    for name, value in losses.items():
        prefix, term = name.rpartition("loss_")[0], "loss_" + name.rpartition("loss_")[2]
        key = LOSS_NAMES[term] + {"": "", "d0.": "_0", "enc_": "_enc"}[prefix]
        expected = arrays[f"{targets}/losses/{key}"] * arrays[f"loss_weights/{key}"]
        assert value.item() == pytest.approx(expected.item(), rel=1e-5), name
    total = sum(value.item() for value in losses.values())
    assert total == pytest.approx(arrays[f"{targets}/total_loss"].item(), rel=1e-5)


def test_gradients(arrays):
    from pe_dense.detection.deta_layout import deta_from_official

    model = build_model(arrays)
    found = run(model, arrays)
    losses = model.bbox_head.loss(**found, batch_data_samples=samples(arrays, "gt_a"))
    sum(losses.values()).backward()
    prefix = "gt_a/grads/"
    expected = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    assert expected
    parameters = dict(model.named_parameters())
    for official, gradient in expected.items():
        (ours,) = deta_from_official({official: tensor(gradient)})
        scale = np.abs(gradient).max()
        assert_close(parameters[ours].grad / scale, gradient / scale, 1e-4)
    square = sum(p.grad.double().pow(2).sum() for p in parameters.values())
    assert square.sqrt().item() == pytest.approx(arrays["gt_a/grad_norm_all_parameters"], rel=1e-4)


@pytest.mark.parametrize("kind", ["nms", "soft_nms_quad_0.5"])
def test_detections(arrays, kind):
    soft = float(kind.rpartition("_")[2]) if kind != "nms" else False
    model = build_model(arrays, soft=soft).eval()
    with torch.no_grad():
        results = model.predict(tensor(arrays["inputs/images"]), samples(arrays), rescale=True)
    for i, result in enumerate(results):
        found = result.pred_instances.numpy()
        known = {k: arrays[f"post/{kind}/img{i}/{k}"] for k in ("scores", "labels", "boxes")}
        assert len(found.scores) == len(known["scores"])
        if not soft:
            assert found.labels.tolist() == known["labels"].tolist()
            np.testing.assert_allclose(found.scores, known["scores"], atol=1e-5)
            np.testing.assert_allclose(found.bboxes, known["boxes"], atol=2e-2)  # pixels
            continue
        rows = np.c_[found.labels, found.bboxes], np.c_[known["labels"], known["boxes"]]
        order, order_known = (np.lexsort(r.round(1).T) for r in rows)
        np.testing.assert_allclose(rows[0][order], rows[1][order_known], atol=2e-2)
        np.testing.assert_allclose(found.scores[order], known["scores"][order_known], atol=1e-4)


def test_images_that_fill_the_canvas(model, arrays):
    with torch.no_grad():
        found = run(model, arrays, padded=False)
        logits, boxes = model.bbox_head(found["hidden_states"], found["references"])
    assert_close(found["references"][0], arrays["no_padding/init_reference"])
    assert_close(logits[-1], arrays["no_padding/pred_logits"])
    assert_close(boxes[-1], arrays["no_padding/pred_boxes"])


def test_too_few_survivors_of_the_proposal_nms(arrays):
    model = build_model(arrays, num_queries=arrays["fallback/num_queries"].item())
    bias = tensor(arrays["fallback/replaced_weight/bbox_embed.2.layers.2.bias"])
    model.bbox_head.reg_branches[2][4].bias.data.copy_(bias)
    with torch.no_grad(), pytest.warns(UserWarning, match="without NMS"):
        found = run(model, arrays)
        logits, boxes = model.bbox_head(found["hidden_states"], found["references"])
    assert_close(found["references"][0], arrays["fallback/init_reference"])
    assert_close(logits[-1], arrays["fallback/pred_logits"])
    assert_close(boxes[-1], arrays["fallback/pred_boxes"])
