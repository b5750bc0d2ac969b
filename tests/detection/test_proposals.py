"""Proposal selection against the reference's arrays and a slow version of the rule."""

import numpy as np
import pytest
import torch
from deta_case import load_arrays, tensor
from test_suppression import slow_nms

from pe_dense.detection.proposals import select_proposals


@pytest.fixture(scope="module")
def arrays():
    return load_arrays()


def levels_of(shapes):
    sizes = torch.as_tensor(shapes).prod(1)
    return torch.arange(len(sizes)).repeat_interleave(sizes)


@pytest.mark.parametrize("image", [0, 1])
def test_equals_the_reference(arrays, image):
    levels = levels_of(arrays["intermediate/spatial_shapes"])
    logits = tensor(arrays["outputs/enc/pred_logits"])[image, :, 0]
    boxes = tensor(arrays["outputs/enc/pred_boxes"])[image]
    chosen = select_proposals(
        logits, boxes, levels, int(levels[-1]) + 1, arrays["config/num_queries"].item()
    )
    assert chosen.tolist() == arrays["outputs/selected_tokens"][image].tolist()


@pytest.mark.parametrize("image", [0, 1])
def test_falls_back_as_the_reference_does(arrays, image):
    levels = levels_of(arrays["intermediate/spatial_shapes"])
    logits = tensor(arrays["outputs/enc/pred_logits"])[image, :, 0]
    boxes = tensor(arrays["outputs/enc/pred_boxes"])[image]
    name = "bbox_embed.2.layers.2.bias"  # the only weight that differs in this case
    shift = tensor(arrays[f"fallback/replaced_weight/{name}"] - arrays[f"weights/{name}"])
    boxes = (boxes.logit() + shift).sigmoid()
    with pytest.warns(UserWarning, match="highest scores without NMS"):
        chosen = select_proposals(
            logits, boxes, levels, int(levels[-1]) + 1, arrays["fallback/num_queries"].item()
        )
    assert chosen.tolist() == arrays["fallback/selected_tokens"][image].tolist()


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_slow_version(seed):
    generator = torch.Generator().manual_seed(seed)
    levels = levels_of([(12, 12), (6, 6), (3, 3)])
    logits = torch.randn(len(levels), generator=generator)
    boxes = torch.rand(len(levels), 4, generator=generator) * torch.tensor([0.4, 0.4, 0.5, 0.5])
    boxes = boxes + torch.tensor([0.3, 0.3, 0.1, 0.1])
    corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    survivors = slow_nms(corners.clamp(0, 1), logits, levels, 0.9)  # all tokens are candidates
    quota, num_queries = 21 // 3, 21
    kept = []
    for level in range(3):
        kept += [i for i in survivors if levels[i] == level][:quota]
    kept += [i for i in survivors if i not in kept][: num_queries - len(kept)]
    kept.sort(key=lambda i: -logits[i])
    assert (
        select_proposals(logits, boxes, levels, int(levels[-1]) + 1, num_queries).tolist() == kept
    )


def test_more_queries_than_tokens_is_one_sentence():
    levels = levels_of([(2, 2), (1, 1)])
    with pytest.raises(ValueError, match="num_queries is 6, but .* only 5 tokens"):
        select_proposals(torch.zeros(5), torch.rand(5, 4), levels, int(levels[-1]) + 1, 6)


def test_as_many_queries_as_tokens_and_infinite_scores():
    levels = levels_of([(2, 2), (1, 1)])
    boxes = torch.tensor(np.eye(5, 4) * 0.4 + 0.3, dtype=torch.float32)
    logits = torch.tensor([0.0, 1.0, -50.0, 2.0, 3.0])
    assert sorted(select_proposals(logits, boxes, levels, int(levels[-1]) + 1, 5).tolist()) == [
        0,
        1,
        2,
        3,
        4,
    ]
