"""The contrastive pair: its loss against a loop over pairs, retrieval by hand, and a real run."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

import torch
from mmengine.structures import BaseDataElement
from torch.nn.functional import normalize

from pe_dense.alignment.contrastive import (
    CaptionTower,
    ContrastivePair,
    contrastive_loss,
    retrieval_accuracy,
    same_captions,
)
from pe_dense.mini_world.captions import caption_tokens

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/alignment/contrastive_t16_mini.py"
TOWER = dict(
    patch_size=16, embed_dim=24, depth=2, num_heads=2, mlp_hidden=48, image_size=64, pool_heads=2,
    output_dim=16,
)  # fmt: skip
CAPTIONS = ("one disc", "two boxes", "one star : red star left near", "nothing")


def pair(**options: object) -> ContrastivePair:
    torch.manual_seed(0)
    backbone = dict(type="DenseBackbone", encoder="pe_core_t16_384", encoder_options=TOWER)
    return ContrastivePair({**backbone, **options}, dict(embed_dim=16, depth=1))


def samples(captions: tuple[str, ...] = CAPTIONS) -> list[BaseDataElement]:
    found = []
    for caption in captions:
        sample = BaseDataElement()
        sample.caption_tokens = torch.from_numpy(caption_tokens(caption))
        found.append(sample)
    return found


def slow_loss(image_BE, text_BE, scale, captions) -> float:
    """Written out pair by pair, in Python numbers."""
    total, count = 0.0, len(captions)
    for own, other in ((image_BE, text_BE), (text_BE, image_BE)):
        for i in range(count):
            logits = [scale * float(own[i] @ other[j]) for j in range(count)]
            log_sum = math.log(sum(math.exp(v) for v in logits))
            right = [j for j in range(count) if captions[j] == captions[i]]
            total += sum(log_sum - logits[j] for j in right) / len(right) / count
    return total / 2


@pytest.mark.parametrize("captions", [("a", "b", "c", "d"), ("a", "b", "a", "a"), ("a",)])
def test_the_loss_is_that_of_a_loop(captions: tuple[str, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    image_BE, text_BE = (
        normalize(torch.randn(len(captions), 5, generator=generator), dim=-1) for _ in range(2)
    )
    is_same_BB = torch.tensor([[a == b for b in captions] for a in captions])
    found = contrastive_loss(image_BE, text_BE, 7.0, is_same_BB).item()
    assert found == pytest.approx(slow_loss(image_BE, text_BE, 7.0, captions), abs=1e-5)
    if len(set(captions)) == len(captions):
        assert contrastive_loss(image_BE, text_BE, 7.0).item() == pytest.approx(found)


@pytest.mark.parametrize("shapes", [((0, 3), (0, 3)), ((2, 3), (3, 3)), ((3,), (3,))])
def test_what_are_no_pairs_is_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="are no pairs"):
        contrastive_loss(torch.ones(shapes[0]), torch.ones(shapes[1]), 1.0)


def test_retrieval_by_hand() -> None:
    # Cosines: image 0 finds its text, image 1 takes text 0 first, image 2 is as near to all.
    image_NE = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 0.0]])
    text_NE = torch.eye(3)
    scores = retrieval_accuracy(image_NE, text_NE, torch.eye(3, dtype=torch.bool), (1, 2))
    assert scores["image_to_text_R1"] == pytest.approx(1 / 3)
    assert scores["image_to_text_R2"] == pytest.approx(2 / 3)
    # Text 0 finds image 0, text 1 image 1; text 2 is as near to all.
    assert scores["text_to_image_R1"] == pytest.approx(2 / 3)
    assert scores["chance_R1"] == pytest.approx(1 / 3)
    # If images 0 and 1 have one caption, either is right for both.
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    assert retrieval_accuracy(image_NE, text_NE, same)["image_to_text_R1"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="no pair"):
        retrieval_accuracy(image_NE[:0], text_NE[:0], same[:0, :0])


def test_same_captions() -> None:
    tokens_BL = torch.tensor([[1, 2], [1, 3], [1, 2]])
    assert same_captions(tokens_BL).tolist() == [
        [True, False, True], [False, True, False], [True, False, True],
    ]  # fmt: skip


def test_padding_says_nothing_and_order_does() -> None:
    torch.manual_seed(0)
    tower = CaptionTower(8, embed_dim=16, depth=2).eval()
    caption = "one disc and one box : red disc left near , blue box right far"
    swapped = "one disc and one box : blue disc left near , red box right far"  # the same words
    short, long, other = (
        tower(torch.from_numpy(caption_tokens(text, length))[None])
        for text, length in ((caption, 20), (caption, 60), (swapped, 20))
    )
    assert torch.allclose(short, long, atol=1e-6)
    assert not torch.allclose(short, other, atol=1e-3)
    alone = torch.stack([torch.from_numpy(caption_tokens(text)) for text in ("one disc", caption)])
    assert torch.allclose(tower(alone)[1:], short, atol=1e-6)  # whatever shares the batch


def test_captions_that_do_not_fit_the_tower_are_refused() -> None:
    tower = CaptionTower(8, embed_dim=16, depth=1, max_tokens=4)
    with pytest.raises(ValueError, match="do not fit a tower of 4"):
        tower(torch.ones(2, 5, dtype=torch.int64))
    with pytest.raises(ValueError, match="no word"):
        tower(torch.tensor([[1, 0], [0, 0]]))
    with pytest.raises(ValueError, match="no multiple of 3 heads"):
        CaptionTower(8, embed_dim=16, num_heads=3)


def test_every_parameter_learns_and_few_pairs_are_learned_by_heart() -> None:
    model = pair()
    images = torch.rand(4, 3, 64, 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for step in range(40):
        loss = model(images, samples(), mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            idle = [n for n, p in model.named_parameters() if p.grad is None]
            assert not idle  # also the pool and projection, which dense tasks hold fixed
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.7 and losses[-1] < 0.1
    found = model.eval()(images, samples(), mode="predict")
    image_NE = torch.stack([sample.image_embedding for sample in found])
    text_NE = torch.stack([sample.text_embedding for sample in found])
    scores = retrieval_accuracy(image_NE, text_NE, torch.eye(4, dtype=torch.bool))
    assert scores["image_to_text_R1"] == 1.0
    assert torch.allclose(image_NE, model(images), atol=1e-6)
    assert torch.allclose(text_NE.norm(dim=1), torch.ones(4))


def test_towers_and_inputs_that_do_not_serve_are_refused() -> None:
    spatial = {**TOWER, "pool_heads": None, "output_dim": None}
    with pytest.raises(ValueError, match="no attention pool"):
        pair(encoder="pe_spatial_t16_512", encoder_options=spatial)
    with pytest.raises(ValueError, match="frozen"):
        pair(frozen=True)
    model, images = pair(), torch.rand(2, 3, 64, 64)
    with pytest.raises(ValueError, match="no captions for 2 images"):
        model(images, None, mode="loss")
    with pytest.raises(ValueError, match="4 captions for 2 images"):
        model(images, samples(), mode="loss")
    with pytest.raises(ValueError, match="mode='train'"):
        model(images, samples(), mode="train")


def test_several_processes_would_be_another_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pe_dense.alignment.contrastive.get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="2 processes would train another loss"):
        pair()


def test_the_recipe_trains_validates_and_leaves_an_encoder(tmp_path: Path) -> None:
    from pe_dense.alignment.export import student_state
    from pe_dense.encoders.build import build_encoder
    from pe_dense.run.checkpoint import load_checkpoint_safely

    options = dict(
        data_root=tmp_path / "captions", num_images=16, num_val_images=8, image_size=64,
        batch_size=8, max_iters=4, warmup_iters=1, val_interval=2, checkpoint_interval=2,
        embed_dim=24, depth=2, num_heads=2, mlp_hidden=48,
    )  # fmt: skip
    command = [sys.executable, str(ROOT / "tools/train.py"), str(CONFIG)]
    command += ["--work-dir", str(tmp_path / "run"), "--cfg-options"]
    command += [f"{key}={value}" for key, value in options.items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    (scalars,) = (tmp_path / "run").glob("*/vis_data/scalars.json")
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    validations = [line for line in lines if "retrieval/image_to_text_R1" in line]
    assert len(validations) == 2 and validations[-1]["retrieval/chance_R1"] == 1 / 8
    checkpoint = load_checkpoint_safely(str(tmp_path / "run" / "iter_4.pth"), "cpu")
    state, left_out = student_state(checkpoint["state_dict"], "pe_core_t16_384")
    small = dict(TOWER, output_dim=24)
    build_encoder("pe_core_t16_384", **small).load_state_dict(state, strict=True)
    assert "log_scale" in left_out and any(key.startswith("text.") for key in left_out)
