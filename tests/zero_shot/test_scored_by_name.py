"""Pictures by names and captions through tools/test.py's evaluate: records, and a slow form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

pytest.importorskip("open_clip")
from runs import evaluate, without_upkeep
from tiny_towers import TINY, TinyTowers, captions, pictures

from pe_dense.encoders.fingerprint import settings_of
from pe_dense.encoders.text_tokens import tokenize
from pe_dense.results.comparison import evidence_of
from pe_dense.results.store import load_records
from pe_dense.zero_shot.class_folders import ClassFolders
from pe_dense.zero_shot.image_text_scorer import ImageTextScorer

ROOT = Path(__file__).resolve().parents[2]
CLASSES = "configs/zero_shot/images_custom.py"
PAIRS = "configs/retrieval/pairs_custom.py"


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    without_upkeep(monkeypatch)


@pytest.fixture
def folder(tmp_path):
    return pictures(tmp_path / "mine", {"red_fox": 3, "cat": 2, "sea-lion": 4})


def scored(config, folder, tmp_path, records=None, **options):
    return evaluate(
        config, encoder="pe_core_t16_384", weights="random", work_dir=tmp_path / "run",
        records=records, options={"data_root": str(folder), **TINY, **options},
    )  # fmt: skip


def unit_text(towers, text):
    return F.normalize(towers.encode_text(tokenize([text], 8).ids_BL), dim=-1)[0]


def unit_picture(towers, file):
    with Image.open(file) as picture:
        small = np.asarray(picture.resize((16, 16), Image.Resampling.BILINEAR), np.float32)
    images = torch.from_numpy(small / 255).permute(2, 0, 1)[None] * 2 - 1
    return F.normalize(towers.encode_image(images), dim=-1)[0]


def test_classes_equal_to_one_picture_after_the_other(folder, tmp_path):
    towers = TinyTowers("pe_core_t16_384").towers
    folders, templates = ["cat", "red_fox", "sea-lion"], ["a {}", "the big {}"]
    vectors = []
    for name in ("cat", "red fox", "sea lion"):
        mean = torch.stack([unit_text(towers, t.format(name)) for t in templates]).mean(dim=0)
        vectors.append(mean / mean.norm())
    files = sorted(folder.glob("*/*.png"))
    cosines = torch.stack([torch.stack(vectors) @ unit_picture(towers, file) for file in files])
    names = [f"{file.parent.name}/{file.name}" for file in files]
    right = [folders.index(file.parent.name) for file in files]

    records = tmp_path / "records"
    scores = scored(CLASSES, folder, tmp_path, records, templates=templates)
    (record,) = load_records(records)
    evidence = evidence_of(record, records)
    assert evidence.image_ids == tuple(names) and evidence.classes == tuple(folders)
    assert evidence.target_N.tolist() == right
    np.testing.assert_array_equal(evidence.top_NJ[:, 0], cosines.argmax(dim=1))
    np.testing.assert_allclose(evidence.score_NJ, -np.sort(-cosines.numpy()), atol=1e-5)
    assert scores["top1"] == pytest.approx(np.mean(cosines.argmax(dim=1).numpy() == right))

    assert record.task == "zero_shot" and record.scores == scores
    assert record.dataset.num_items == 9 and record.dataset.sha256 is not None
    assert record.blind == {"drawn by lot": 1 / 3, "most frequent class": 4 / 9}
    assert record.protocol.id.startswith("custom-zero-shot.")
    low, high = record.ci95["top1"][0].low, record.ci95["top1"][0].high
    assert low <= scores["top1"] <= high


def test_captions_equal_to_one_query_after_the_other(folder, tmp_path):
    files = sorted(folder.glob("*/*.png"))
    rows = [
        (file.relative_to(folder).as_posix(), [f"the {file.stem} of {file.parent.name}", f"no {i}"])
        for i, file in enumerate(files)
    ]
    rows[0][1].append("words that are much longer than eight tokens can be")
    captions(folder, rows)
    towers = TinyTowers("pe_core_t16_384").towers
    images = torch.stack([unit_picture(towers, file) for file in files])
    flat = [(i, text) for i, (_, texts) in enumerate(rows) for text in texts]
    texts = torch.stack([unit_text(towers, text) for _, text in flat])
    of = np.array([i for i, _ in flat])
    cosines = (texts @ images.T).numpy()
    first_T = cosines.argmax(axis=1) == of
    first_I = of[cosines.argmax(axis=0)] == np.arange(len(files))

    records = tmp_path / "records"
    scores = scored(PAIRS, folder, tmp_path, records)
    assert scores["text_to_image_R@1"] == pytest.approx(first_T.mean())
    assert scores["image_to_text_R@1"] == pytest.approx(first_I.mean())
    (record,) = load_records(records)
    evidence = evidence_of(record, records)
    ranks = [(row >= row[i]).sum() - 1 for row, i in zip(cosines, of, strict=True)]
    assert evidence.rank_N[: len(flat)].tolist() == ranks
    assert record.task == "retrieval" and record.dataset.num_items == len(flat) + len(files)
    assert record.blind["drawn by lot"] == pytest.approx(1 / 9)
    assert "1 captions were longer than the text tower" in record.notes
    assert record.scores == scores


def scorer(kept, **options):
    return ImageTextScorer(dict(type="TinyTowers", encoder="any"), results_dir=str(kept), **options)


def best(model, folder):
    dataset = ClassFolders(str(folder), ["a {}"])
    return [row["top"].tolist() for row in model.by_class([dataset.item(i) for i in range(9)])]


def test_kept_vectors_are_taken_again_and_none_of_another_picture(folder, tmp_path, monkeypatch):
    kept = tmp_path / "kept"
    first = best(scorer(kept), folder)
    files = sorted(kept.glob("*.vectors"))
    assert len(files) == 2  # of the pictures, and of the sentences

    def refuse(*_, **__):
        raise AssertionError("a picture was read")

    monkeypatch.setattr("pe_dense.zero_shot.image_text_scorer.read_picture", refuse)
    assert best(scorer(kept), folder) == first
    for changed in (
        lambda: best(scorer(kept, fit="crop"), folder),
        lambda: best(scorer(kept, side=20), folder),
        lambda: best(other_weights(scorer(kept)), folder),
        lambda: best(other_heads(scorer(kept)), folder),
        lambda: best(other_mean(scorer(kept)), folder),
    ):
        with pytest.raises(AssertionError, match="a picture was read"):
            changed()
    (folder / "cat" / "0.png").write_bytes((folder / "cat" / "1.png").read_bytes())
    with pytest.raises(AssertionError, match="a picture was read"):
        best(scorer(kept), folder)
    monkeypatch.undo()
    for path in kept.glob("*.vectors"):
        path.write_bytes(b"broken")
    assert len(best(scorer(kept), folder)) == 9 and all(file.is_file() for file in files)


def test_kept_sentences_are_taken_again_and_none_that_are_stale_or_damaged(folder, tmp_path):
    kept = tmp_path / "kept"
    words = ["a cat", "a dog " * 9, "the sea"]  # the second has more than the 8 tokens
    seen: list[tuple[str, ...]] = []

    def texts_of(model, texts=tuple(words)):
        encode = model.backbone.encode_texts

        def noted(texts):
            seen.append(tuple(texts))
            return encode(texts)

        model.backbone.encode_texts = noted
        seen.clear()
        return model._texts(texts)

    first, num_cut = texts_of(scorer(kept))
    alone, _ = texts_of(scorer(tmp_path / "others"))
    assert seen and num_cut == 1 and torch.equal(first, alone)
    again, cut_again = texts_of(scorer(kept, fit="crop"))  # pictures are read otherwise
    assert not seen and cut_again == 1 and torch.equal(again, first)
    classes = scorer(kept)._class_vectors(dict(class_names=("cat", "dog"), templates=("a {}",)))
    for model, texts in (
        (other_weights(scorer(kept)), words), (scorer(kept), words[:2]),
        (scorer(kept), words[::-1]), (other_context(scorer(kept)), words),
    ):  # fmt: skip
        texts_of(model, texts)
        assert seen
    for path in kept.glob("*.vectors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 64  # one bit of the last number
        path.write_bytes(bytes(content))
    repaired, cut_again = texts_of(scorer(kept))
    assert seen and cut_again == 1 and torch.equal(repaired, first)
    found = scorer(kept)._class_vectors(dict(class_names=("cat", "dog"), templates=("a {}",)))
    assert torch.equal(found[0], classes[0]) and found[1] == classes[1]


def other_context(model):
    model.backbone.towers.text.context_length = 7
    return model


def other_weights(model):
    with torch.no_grad():
        next(model.parameters()).add_(1.0)
    return model


def other_heads(model):
    model.backbone.encoder.blocks[0].attn.num_heads = 4
    return model


def other_mean(model):
    model.backbone.encoder.mean = (0.4, 0.4, 0.4)
    return model


def test_models_of_one_state_are_told_apart_by_their_parts():
    """As QuickGELU and GELU of one file, or the precision that a backbone runs in."""
    first, second = (torch.nn.Sequential(act) for act in (torch.nn.GELU(), torch.nn.SiLU()))
    assert not first.state_dict() and settings_of(first) != settings_of(second)
    assert settings_of(first) == settings_of(torch.nn.Sequential(torch.nn.GELU()).eval())
    plain, other = (TinyTowers("any", amp_dtype=dtype) for dtype in (None, "bfloat16"))
    assert settings_of(plain) != settings_of(other)
    assert json.loads(json.dumps(settings_of(plain))) == json.loads(
        json.dumps(settings_of(TinyTowers("any")))
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data_root": "/nowhere"}, "data_root /nowhere does not exist"),
        ({"data_root": None}, "say where the folder lies"),
        ({"templates": ["a photo"]}, "template 'a photo' has no place for the name"),
        ({"templates": ["clip_imagnet"]}, "'clip_imagnet' has no place"),
        ({"templates": ["nowhere.txt"]}, "nowhere.txt cannot be read"),
        ({"num_classes": 4}, "has 3 classes, not the 4 of this protocol"),
        ({"names": "imagenet"}, "cat is not a WordNet id"),
        ({"fit": "pad"}, "fit='pad' is unknown"),
        ({"left_out": ["cat/9.png"]}, "left_out names 'cat/9.png'"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(folder, tmp_path, options, words):
    with pytest.raises(ValueError, match=words) as caught:
        scored(CLASSES, folder, tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_names_that_repeat_and_empty_folders_are_refused(folder, tmp_path):
    pictures(folder / "sea_lion", {".": 0})
    with pytest.raises(ValueError, match="class name 'sea lion' stands twice"):
        scored(CLASSES, folder, tmp_path)
    (folder / "sea_lion").rename(folder / "dog")
    with pytest.raises(ValueError, match="dog holds no image"):
        scored(CLASSES, folder, tmp_path)


def test_pictures_that_are_missing_or_broken_are_refused(folder, tmp_path):
    captions(folder, [("cat/0.png", ["a cat"]), ("cat/7.png", ["another"])])
    with pytest.raises(ValueError, match=r"7\.png: does not exist"):
        scored(PAIRS, folder, tmp_path)
    (folder / "cat" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"0\.png: is no picture"):
        scored(CLASSES, folder, tmp_path)


def test_an_encoder_without_text_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="pe_spatial_t16_512 has no text tower"):
        evaluate(
            CLASSES, encoder="pe_spatial_t16_512", weights="random", work_dir=tmp_path / "run",
            options={"data_root": str(folder)},
        )  # fmt: skip


def test_what_is_left_out_makes_another_protocol_and_is_named(folder, tmp_path):
    records = tmp_path / "records"
    scored(CLASSES, folder, tmp_path, records, left_out=["cat/0.png"])
    (record,) = load_records(records)
    assert ".mod-" in record.protocol.id and record.dataset.num_items == 8
    assert "left out: cat/0.png" in record.notes
