"""Boxes of tracked objects in the forms that people have."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmdet")
pytest.importorskip("trackeval")
pytest.importorskip("lap")

from pe_dense.tracking.mot_files import read_ground_truth, read_sequence_info
from pe_dense.tracking.own_layout import find_clips
from pe_dense.tracking.own_sequences import check_config, facts, prepared

# (frame from 0, identity, x, y, w, h), pixels from 0
ROWS = [(0, 1, 3.0, 4.0, 10.0, 12.0), (0, 2, 20.0, 5.0, 8.0, 8.0), (2, 1, 5.5, 4.0, 10.0, 12.0)]


def save_frames(folder: Path, count: int = 3, first: int = 0) -> None:
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        Image.new("RGB", (40, 32), (number, 0, 0)).save(folder / f"frame_{number}.png")


def mot_text(root: Path) -> None:
    lines = [f"{t + 1},{k},{x + 1},{y + 1},{w},{h},1,7,1" for t, k, x, y, w, h in ROWS]
    (root / "a/gt").mkdir(parents=True)
    (root / "a/gt/gt.txt").write_text("\n".join([*lines, "2,9,1,1,5,5,0,1,1"]))  # not active


def results_text(root: Path) -> None:
    lines = [f"{t + 1} {k} {x + 1} {y + 1} {w} {h} 0.9 -1 -1 -1" for t, k, x, y, w, h in ROWS]
    (root / "a.txt").write_text("\n".join(lines))


def coco_of_videos(root: Path, by_name: bool = True, first: int = 0) -> None:
    content = dict(
        videos=[dict(id=4, name="a"), dict(id=9, name="b")],
        images=[
            dict(id=10 + t, video_id=4, frame_id=t + first)
            | (dict(file_name=f"a/frame_{t}.png") if by_name else {})
            for t in range(3)
        ]
        + [dict(id=99, video_id=9, frame_id=0, file_name="b/0.png")],
        annotations=[
            dict(id=i, image_id=10 + t, instance_id=k + 50, category_id=3, bbox=box)
            for i, (t, k, *box) in enumerate(ROWS)
        ]
        + [dict(id=7, image_id=10, instance_id=1, iscrowd=1, bbox=[0, 0, 9, 9], category_id=1)],
    )
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations/val.json").write_text(json.dumps(content))


def youtube_vis(root: Path) -> None:
    boxes = {k: [None] * 3 for k in (1, 2)}
    for t, k, *box in ROWS:
        boxes[k][t] = box
    content = dict(
        videos=[dict(id=1, file_names=[f"a/frame_{t}.png" for t in range(3)])],
        annotations=[dict(id=k, video_id=1, bboxes=boxes[k]) for k in boxes],
    )
    (root / "instances.json").write_text(json.dumps(content))


def cvat(root: Path) -> None:
    tracks = "".join(
        f'<track id="{k}" label="x">'
        + "".join(
            f'<box frame="{t}" outside="0" keyframe="1" xtl="{x}" ytl="{y}" xbr="{x + w}" '
            f'ybr="{y + h}"/>'
            for t, j, x, y, w, h in ROWS
            if j == k
        )
        + '<box frame="1" outside="1" xtl="0" ytl="0" xbr="1" ybr="1"/></track>'
        for k in (1, 2)
    )
    (root / "annotations.xml").write_text(
        f'<?xml version="1.0"?><annotations><version>1.1</version>{tracks}</annotations>'
    )


LAYOUTS = [
    mot_text, results_text, coco_of_videos, youtube_vis, cvat,
    lambda root: coco_of_videos(root, by_name=False),
    lambda root: coco_of_videos(root, by_name=False, first=1),
]  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_form_gives_the_same_rows(tmp_path: Path, layout) -> None:
    root = tmp_path / "d"
    save_frames(root / "a/img1" if layout is mot_text else root / "frames/a")
    layout(root)

    folder = prepared(root)
    assert prepared(root) == folder  # made once

    info = read_sequence_info(folder / "a")
    assert (info.num_frames, info.width, info.height) == (3, 40, 32)
    shown = [np.asarray(Image.open(path))[0, 0, 0] for path in info.frames().values()]
    assert shown == [0, 1, 2]
    rows = read_ground_truth(folder / "a/gt/gt.txt", 3)
    found = [
        (int(t) - 1, int(k), x - 1, y - 1, w, h)
        for t, k, (x, y, w, h) in zip(
            rows.frames_Q, rows.ids_Q, rows.boxes_xywh_Q4.tolist(), strict=True
        )
    ]
    np.testing.assert_allclose(found, ROWS, atol=1e-4)
    assert rows.targets("MOT17").all()
    assert len(facts({"data_root": str(root)})["sha256"]) == 64


def test_a_folder_of_motchallenge_keeps_its_classes(tmp_path: Path) -> None:
    root = tmp_path / "d"
    save_frames(root / "a/img1", first=1)
    mot_text(root)
    (root / "a/gt/gt.txt").write_text("1,1,2,2,5,5,1,1,1\n1,2,9,9,5,5,1,7,1\n")
    (root / "a/seqinfo.ini").write_text(
        "[Sequence]\nseqLength=3\nimWidth=40\nimHeight=32\nframeRate=14\n"
    )
    folder = prepared(root) / "a"
    assert read_ground_truth(folder / "gt/gt.txt", 3).targets("MOT17").tolist() == [True, False]
    assert read_sequence_info(folder).frame_rate == 14


def test_a_clip_without_boxes_is_only_tracked(tmp_path: Path) -> None:
    root = tmp_path / "d"
    save_frames(root / "frames/a")
    save_frames(root / "frames/c")
    coco_of_videos(root)
    (root / ".pe_dense").mkdir()
    (root / ".pe_dense/answer.json").write_text('{"videos": []}')  # none of the person's
    cfg = dict(
        test_dataloader=dict(
            dataset=dict(type="OwnSequences", data_root=str(root), test_mode=True, lazy_init=False)
        )
    )
    lines = [" ".join(line.split()) for line in check_config(cfg, ("test",)).table.splitlines()]
    assert "a 3 40x32 3 2 tracked and scored" in lines
    assert "c 3 40x32 0 0 tracked, not scored" in lines


def write(name: str, text: str):
    return lambda root: (root / name).write_text(text)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (write("a.txt", "9,1,1,1,5,5,1,1,1"), "frame 9, and the frames are 1 to 3"),
        (write("a.txt", "1,1,1"), "3 of the nine numbers"),
        (write("a.xml", "<annotations></annotations>"), "has no track with a box"),
        (write("a.xml", "<annotations>"), "is no CVAT for video"),
        (write("a.xml", '<!DOCTYPE x [<!ENTITY a "b">]><x/>'), "defines entities"),
        (write("x.json", '{"videos": [{"id": 1, "name": "a"}], "annotations": [{"id": 1}]}'),
         r"is no COCO file of videos \(KeyError"),
        (write("x.json", '{"videos": ['), "is no JSON"),
        (lambda root: [write(n, '{"videos": []}')(root) for n in ("x.json", "y.json")],
         "both hold boxes"),
        (write("a.xml", '<a><track id="0"><box frame="7" xtl="1" ytl="1" xbr="5" ybr="5"/>'
               "</track></a>"), "a box in frame 7, and the clip has the frames 0 to 2"),
        (write("a.xml", '<a><track id="0"><box frame="1" xtl="5" ytl="1" xbr="5" ybr="5"/>'
               "</track></a>"), "a box of 0 x 4 px"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_sentence(tmp_path: Path, layout, words: str) -> None:
    root = tmp_path / "d"
    save_frames(root / "frames/a")
    layout(root)
    assert [clip.name for clip in find_clips(root)] == ["a"]
    with pytest.raises(ValueError, match=words) as caught:
        prepared(root)
    assert "\n" not in str(caught.value)
