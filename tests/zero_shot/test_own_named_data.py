"""What configs find in a folder, pictures of the mini world, and videos as the model sees them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_towers import TinyTowers, captions, pictures

from pe_dense.data.picture_input import fitted, tower_input
from pe_dense.mini_world.captions import caption_of
from pe_dense.mini_world.world import make_image
from pe_dense.zero_shot.caption_files import read_captions
from pe_dense.zero_shot.captioned_pictures import CaptionedPictures
from pe_dense.zero_shot.image_text_scorer import ImageTextScorer
from pe_dense.zero_shot.mini_pictures import MiniCaptionedPictures, MiniNamedPictures
from pe_dense.zero_shot.own_facts import caption_facts, class_facts
from pe_dense.zero_shot.video_frames import read_frames


def test_the_hash_of_own_classes_is_over_names(tmp_path):
    pictures(tmp_path / "a", {"cat": 2, "dog": 1})
    pictures(tmp_path / "b", {"cat": 2, "dog": 1}, seed=1)
    pictures(tmp_path / "c", {"cat": 1, "dog": 2})
    a, b, c = (class_facts({"data_root": str(tmp_path / name)}) for name in "abc")
    assert a["sha256"] == b["sha256"] != c["sha256"] and a["name"] == "a"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="give each class a folder of its own"):
        class_facts({"data_root": str(tmp_path / "empty")})


def test_files_of_captions_are_found_by_looking(tmp_path):
    pictures(tmp_path / "a", {"images": 1})
    with pytest.raises(ValueError, match=r"captions\.jsonl does not exist; write one line"):
        caption_facts({"data_root": str(tmp_path / "a")})
    coco = {
        "images": [{"id": 1, "file_name": "0.png"}],
        "annotations": [{"image_id": 1, "caption": "noise"}],
    }
    (tmp_path / "a" / "captions.json").write_text(json.dumps(coco))
    found = caption_facts({"data_root": str(tmp_path / "a")})
    assert (found["captions"], found["style"], found["folder"]) == (
        "captions.json",
        "coco",
        "images",
    )
    captions(tmp_path / "a", [("images/0.png", ["noise"])])
    found = caption_facts({"data_root": str(tmp_path / "a")})
    assert (found["captions"], found["style"], found["folder"]) == ("captions.jsonl", "jsonl", "")
    with pytest.raises(ValueError, match=r"b\.csv does not exist"):
        caption_facts({"data_root": str(tmp_path / "a"), "captions": "b.csv"})


def test_pictures_of_the_mini_world_have_its_captions_and_colours(tmp_path):
    options = dict(num_images=8, image_size=64)
    pairs = MiniCaptionedPictures(str(tmp_path), **options)
    texts = [pairs.item(i)["captions"][0] for i in range(8)]
    assert texts == [caption_of(make_image(0, "val", i, 64)) for i in range(8)]
    named = MiniNamedPictures(str(tmp_path), templates=["{} ground"], **options)
    for i in range(len(named)):
        item = named.item(i)
        number = int(item["image_id"].partition("/")[2].partition(".")[0])
        assert f"{named.class_names[item['target']]} ground" in texts[number]
    assert len(list(tmp_path.iterdir())) == 1  # drawn once
    with pytest.raises(ValueError, match="leaves nothing to choose from"):
        MiniNamedPictures(str(tmp_path), num_images=1, templates=["{}"])


@pytest.mark.parametrize("frame_mean", ["raw", "unit"])
def test_a_video_is_the_mean_of_its_frames(tmp_path, frame_mean):
    """Raw embeddings for classes, unit ones for retrieval, and no third way."""
    av = pytest.importorskip("av")
    rng = np.random.default_rng(0)
    for name in "ab":
        with av.open(str(tmp_path / f"{name}.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=10)
            stream.width, stream.height, stream.pix_fmt = 24, 16, "bgr0"
            for _ in range(11):
                noise = rng.integers(0, 256, (16, 24, 3), np.uint8)
                frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    rows = [{"video": f"{name}.mkv", "caption": name} for name in "ab"]
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = CaptionedPictures(str(tmp_path), "captions.jsonl", media="video")
    items = [dataset.item(i) for i in range(2)]
    model = ImageTextScorer(
        dict(type="TinyTowers", encoder="any"), frame_mean=frame_mean, images_at_once=3
    )
    found = model._vectors(items)
    towers = TinyTowers("any").towers
    for vector, name in zip(found, "ab", strict=True):
        frames = [fitted(f, 16, "squash") for f in read_frames(tmp_path / f"{name}.mkv")]
        every = towers.encode_image(tower_input(frames, (0.5,) * 3, (0.5,) * 3))
        every = F.normalize(every, dim=-1) if frame_mean == "unit" else every
        torch.testing.assert_close(vector, every.mean(dim=0), rtol=0, atol=1e-5)
    by_caption = model.by_caption(items)
    torch.testing.assert_close(by_caption[0]["vector"], found[0])  # not to unit length again


def test_own_lists_of_names_and_sentences_are_part_of_the_hash(tmp_path):
    """Two lists of one path are two protocols; `folder` says which classes count."""
    for name in ("pictures/cat/a.jpg", "pictures/dog/b.jpg", "other/cow/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    root = {"data_root": str(tmp_path), "folder": "pictures"}
    mine, sentences = tmp_path / "mine.json", tmp_path / "mine.txt"
    found = [class_facts(root)["sha256"], class_facts({**root, "folder": "other"})["sha256"]]
    for names in ({"cat": "a cat"}, {"cat": "a tom cat"}):
        mine.write_text(json.dumps(names))
        found.append(class_facts({**root, "names": str(mine)})["sha256"])
    for text in ("a photo of a {}.", "no photo of a {}."):
        sentences.write_text(text)
        by_text = class_facts({**root, "templates": str(sentences)})["sha256"]
        assert by_text == class_facts({**root, "templates": [str(sentences)]})["sha256"]
        found.append(by_text)
    assert len({*found}) == len(found)
    assert class_facts({**root, "templates": ["a {}"], "names": "words"})["sha256"] == found[0]
    with pytest.raises(ValueError, match="nowhere does not exist; correct folder=nowhere"):
        class_facts({**root, "folder": "nowhere"})


@pytest.mark.parametrize(
    ("style", "text", "said"),
    [
        ("karpathy", '{"images": [{"split": "test", "filename": 3}]}', "lacks filename or senten"),
        ("karpathy", '{"images": [{"split": "test", "filename": "a", "sentences": [1]}]}', "words"),
        ("coco", '{"images": [{"id": [1]}], "annotations": []}', "no number and no text"),
        ("coco", '{"images": [{"id": 1}], "annotations": [{"image_id": {}}]}', "which it lacks"),
        ("msrvtt", "video_id,sentence\n" + "x" * 140_000 + ",a", "is no CSV"),
    ],
)
def test_a_file_of_captions_that_is_broken_is_one_sentence(tmp_path, style, text, said):
    (tmp_path / "captions").write_text(text)
    with pytest.raises(ValueError, match=said):
        read_captions(tmp_path / "captions", style)


def test_a_caption_may_hold_a_separator_of_lines_and_a_file_its_mark(tmp_path):
    line = json.dumps({"image": "a.jpg", "captions": ["a\u2028b"]}, ensure_ascii=False)
    (tmp_path / "captions.jsonl").write_text(f"\ufeff{line}\r\n", encoding="utf-8")
    [found] = read_captions(tmp_path / "captions.jsonl", "jsonl")
    assert (found.name, found.captions) == ("a.jpg", ("a\u2028b",))
