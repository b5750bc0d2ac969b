"""The text tower, the tokenizer and both towers together, against the official code's arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pe_dense.encoders.build import build_image_text
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.text_tower import ImageTextModel, TextTower, load_image_text
from pe_dense.encoders.weights import load_weights

ARRAYS = np.load(Path(__file__).parents[1] / "golden/text_tower.npz")
CASES = ("core_l", "core_g")


def array(case: str, key: str) -> torch.Tensor:
    return torch.from_numpy(ARRAYS[f"{case}/{key}"])


def state_of(case: str) -> dict[str, torch.Tensor]:
    prefix = f"{case}/weights/"
    names = [n for n in ARRAYS.files if n.startswith(prefix)]
    return {n.removeprefix(prefix): torch.from_numpy(ARRAYS[n]) for n in names}


def model_of(case: str) -> ImageTextModel:
    def setting(part: str, key: str):
        return ARRAYS[f"{case}/config/{part}/{key}"].item()

    width = setting("vision", "width")
    visual = PerceptionEncoder(
        patch_size=setting("vision", "patch_size"),
        embed_dim=width,
        depth=setting("vision", "layers"),
        num_heads=setting("vision", "heads"),
        mlp_hidden=int(width * setting("vision", "mlp_ratio")),
        image_size=setting("vision", "image_size"),
        cls_token=setting("vision", "use_cls_token"),
        pool_heads=setting("vision", "attn_pooler_heads"),
        output_dim=setting("vision", "output_dim"),
    )
    text = TextTower(
        context_length=setting("text", "context_length"),
        embed_dim=setting("text", "width"),
        depth=setting("text", "layers"),
        num_heads=setting("text", "heads"),
        output_dim=setting("text", "output_dim"),
        vocabulary_size=setting("text", "vocab_size"),
    )
    return ImageTextModel(visual, text).eval()


@pytest.fixture(params=CASES)
def loaded(request):
    model = model_of(request.param)
    assert model.load_official_state(state_of(request.param)) == ()
    return request.param, model


def close(found: torch.Tensor, case: str, key: str, limit: float) -> None:
    wanted = array(case, key)
    assert found.shape == wanted.shape
    error = (found.double() - wanted.double()).abs().max() / wanted.double().abs().max()
    assert float(error) <= limit, key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_outputs_are_those_of_the_official_code(loaded, dtype):
    """Arrays are float32; in float64 ours differs by what they were rounded by, no more."""
    case, model = loaded
    model = model.to(dtype)
    ids, images = array(case, "ids"), array(case, "images").to(dtype)
    found = {
        "tokens": model.text.tokens(ids),
        "text_embedding": model.encode_text(ids),
        "text_normalised": model.encode_text(ids, normalize=True),
        "short_text_embedding": model.encode_text(array(case, "short_ids")),
        "image_embedding": model.encode_image(images),
        "video_normalised_frames": model.encode_video(array(case, "clips").to(dtype), True),
        "logits_per_image": model.logits(images, ids),
        "logit_scale": model.logit_scale.exp(),
    }
    for key, value in found.items():
        kept = float(ARRAYS[f"{case}/{key}/float64_deviation"])
        close(value, case, key, 1e-5 if dtype is torch.float32 else kept + 1e-7)


def test_the_official_layout_goes_round(loaded, tmp_path):
    case, model = loaded
    state = state_of(case)
    assert model.official_state().keys() == state.keys()
    for key, value in model.official_state().items():
        assert torch.equal(value, state[key].to(value.dtype)), key
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "clip.safetensors")
    other = model_of(case)
    info = load_image_text(other, tmp_path / "clip.safetensors")
    assert info.source == "clip.safetensors" and len(info.sha256) == 64
    assert torch.equal(other.text.text_projection, model.text.text_projection)
    # The same file fills the vision tower alone.
    alone = model_of(case).visual
    load_weights(alone, tmp_path / "clip.safetensors")
    assert torch.equal(alone.proj, model.visual.proj)


@pytest.mark.parametrize("normalize", [False, True])
def test_words_behind_the_end_do_not_count(loaded, normalize):
    case, model = loaded
    ids = array(case, "ids").clone()
    end = ids.argmax(dim=1)
    longer = ids.clone()
    for row, place in zip(longer, end, strict=True):
        row[place + 1 :] = 1
    assert torch.allclose(model.encode_text(ids, normalize), model.encode_text(longer, normalize))


def test_files_that_do_not_fit(tmp_path):
    model = model_of("core_l")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = state_of("core_l")
    vision = {k: v for k, v in state.items() if k.startswith("visual.")}
    for changed, words in (
        ({k: v for k, v in state.items() if k not in vision}, "holds no vision tower"),
        (vision, "holds no text tower"),
        ({k: v for k, v in state.items() if k != "ln_final.bias"}, "lacks ln_final.bias"),
        (state | {"extra": torch.zeros(1)}, "has besides extra"),
        (state | {"text_projection": torch.zeros(64, 41)}, "text_projection of the file is"),
        (state | {"ln_final.bias": torch.full((64,), torch.nan)}, "holds NaN"),
    ):
        save_file({k: v.contiguous() for k, v in changed.items()}, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=words):
            load_image_text(model, tmp_path / "x.safetensors")
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_ids_that_do_not_fit():
    model = model_of("core_l")
    with pytest.raises(ValueError, match="do not fit a tower of 32 tokens"):
        model.encode_text(torch.zeros(2, 33, dtype=torch.long))
    with pytest.raises(ValueError, match="token id 600 is above the vocabulary of 600"):
        model.encode_text(torch.full((1, 4), 600))
    with pytest.raises(ValueError, match="do not fit"):
        model.encode_text(torch.zeros(5, dtype=torch.long))


def test_towers_that_do_not_belong_together():
    sizes = dict(context_length=8, embed_dim=16, depth=1, num_heads=2, vocabulary_size=10)
    vision = model_of("core_l").visual
    with pytest.raises(ValueError, match="both need one width"):
        ImageTextModel(vision, TextTower(output_dim=3, **sizes))
    plain = PerceptionEncoder(
        patch_size=14, embed_dim=16, depth=1, num_heads=2, mlp_hidden=16, image_size=28,
        cls_token=True, name="spatial",
    )  # fmt: skip
    with pytest.raises(ValueError, match="spatial has no image embedding"):
        ImageTextModel(plain, TextTower(output_dim=3, **sizes))
    with pytest.raises(ValueError, match="no multiple of 3 heads"):
        TextTower(output_dim=3, **sizes | {"num_heads": 3})


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("pe_core_g14_448", 2419),
        ("pe_core_l14_336", 671),
        ("pe_core_b16_224", 448),
        ("pe_core_s16_384", 87.2),
        ("pe_core_t16_384", 69.5),
    ],
)
def test_sizes_of_the_released_models(name, millions):
    """Parameters of both towers, as the official code counts them."""
    with torch.device("meta"):
        model, _ = build_image_text(name)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.5 if millions > 100 else 0.05)


def test_encoders_without_text_are_refused():
    with pytest.raises(ValueError, match="pe_spatial_t16_512 has no text tower; those that do"):
        build_image_text("pe_spatial_t16_512")


@pytest.mark.parametrize("context", [32, 72])
def test_ids_are_those_of_the_official_tokenizer(context):
    pytest.importorskip("open_clip")
    from pe_dense.encoders.text_tokens import tokenize

    texts = [str(text) for text in ARRAYS["tokenizer/texts"]]
    wanted = torch.from_numpy(ARRAYS[f"tokenizer/context_{context}"])
    plain = [i for i, text in enumerate(texts) if text.strip()]
    found = tokenize([texts[i] for i in plain], context)
    assert torch.equal(found.ids_BL, wanted[plain])
    whole = torch.from_numpy(ARRAYS["tokenizer/context_72"])[plain]
    if context == 32:
        assert found.num_cut == int(((whole != 0).sum(dim=1) > 32).sum()) > 0


def test_texts_that_are_cut_are_counted_and_empty_ones_refused():
    pytest.importorskip("open_clip")
    from pe_dense.encoders.text_tokens import tokenize

    found = tokenize(["a cat", "a cat and a dog and a bird"], 6)
    assert found.num_cut == 1 and found.ids_BL.shape == (2, 6)
    assert found.ids_BL[1, -1] == 49_407 and found.ids_BL[0].tolist()[-2:] == [0, 0]
    with pytest.raises(ValueError, match="text 1 is ''"):
        tokenize(["a", ""], 8)
    with pytest.raises(ValueError, match="no room for a word"):
        tokenize(["a"], 2)
