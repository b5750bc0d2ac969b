"""Captions against frames that are laid out by hand, and against mirrored pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pe_dense.mini_world.captions import (
    MAX_TOKENS,
    VOCABULARY,
    caption_of,
    caption_tokens,
    colour_word,
    mirrored_caption,
)
from pe_dense.mini_world.render import Frame, FrameObject
from pe_dense.mini_world.scene import THING_NAMES
from pe_dense.mini_world.world import make_image

RED, GREEN, BLUE = (200, 40, 40), (40, 160, 60), (40, 80, 200)
CLASS = {name: index for index, name in enumerate(THING_NAMES, start=1)}


def frame_of(*things: tuple[str, tuple[int, int, int], tuple[int, int, int, int], float]) -> Frame:
    """90 x 90 pixels of blue sky over green ground with upright rectangles: shape, RGB, box, m."""
    image, ids = np.zeros((90, 90, 3), np.uint8), np.zeros((90, 90), np.uint8)
    image[:45], image[45:] = BLUE, GREEN
    semantic = np.repeat([1, 3], 45).astype(np.uint8)[:, None].repeat(90, axis=1)
    depth, objects = np.full((90, 90), 9.0, np.float32), []
    for track, (shape, rgb, (x, y, w, h), metres) in enumerate(things, start=1):
        place = (slice(y, y + h), slice(x, x + w))
        image[place], ids[place], depth[place] = rgb, track, metres
        semantic[place] = 4 + CLASS[shape]
        objects.append(FrameObject(track, CLASS[shape], (x, y, w, h), w * h, w * h))
    return Frame(image, ids, semantic, depth, tuple(objects), 81.0)


@pytest.fixture
def three() -> Frame:
    return frame_of(
        ("disc", RED, (0, 40, 10, 10), 2.5),
        ("cross", (230, 230, 230), (40, 40, 10, 20), 7.0),
        ("disc", BLUE, (75, 40, 15, 15), 5.0),
    )


def test_a_caption_counts_and_lists_the_largest_first(three: Frame) -> None:
    assert caption_of(three) == (
        "two discs and one cross : blue disc right far , white cross middle far , "
        "red disc left near : blue sky , green ground"
    )
    assert caption_of(three, False, False, False) == "two discs and one cross"
    assert caption_of(three, places=False, backdrop=False) == (
        "two discs and one cross : blue disc , white cross , red disc"
    )
    assert caption_of(three, colours=False, backdrop=False).endswith(": disc right far , "
        "cross middle far , disc left near")  # fmt: skip


def test_what_is_hardly_visible_is_not_spoken_of() -> None:
    tiny = frame_of(("star", RED, (10, 10, 5, 5), 3.0))  # 25 pixels; annotations need 30
    assert caption_of(tiny, backdrop=False) == "nothing"
    assert caption_of(tiny) == "nothing : blue sky , green ground"
    assert caption_of(frame_of(), backdrop=False) == "nothing"


def test_more_than_nine_are_many() -> None:
    row = [("box", RED, (9 * i, 50, 8, 8), 3.0) for i in range(10)]
    assert caption_of(frame_of(*row), False, False, False) == "many boxes"
    assert caption_of(frame_of(*row[:9]), False, False, False) == "nine boxes"


@pytest.mark.parametrize("index", range(12))
def test_the_mirrored_caption_is_that_of_the_mirrored_picture(index: int) -> None:
    frame = make_image(3, "train", index, 96)
    width = 96
    mirrored = frame._replace(
        image=frame.image[:, ::-1],
        ids=frame.ids[:, ::-1],
        semantic=frame.semantic[:, ::-1],
        depth_m=frame.depth_m[:, ::-1],
        objects=tuple(
            item._replace(
                box_xywh=(width - item.box_xywh[0] - item.box_xywh[2], *item.box_xywh[1:])
            )
            for item in frame.objects
        ),
    )
    assert caption_of(mirrored) == mirrored_caption(caption_of(frame))


def test_captions_of_the_world_repeat_count_rightly_and_fit() -> None:
    seen = set()
    for index in range(40):
        frame = make_image(5, "val", index, 64)
        caption = caption_of(frame)
        assert caption == caption_of(make_image(5, "val", index, 64))
        tokens_L = caption_tokens(caption)
        assert " ".join(VOCABULARY[t] for t in tokens_L if t) == caption  # nothing is cut off
        counts, *lists = caption.split(" : ")
        objects = lists[0].split(" , ") if counts != "nothing" else []
        assert len(objects) == sum(item.area_px >= 30 for item in frame.objects)
        seen.add(caption)
    assert len(seen) == 40


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((255, 0, 0), "red"), ((255, 140, 0), "orange"), ((255, 255, 0), "yellow"),
        ((0, 255, 0), "green"), ((0, 200, 200), "teal"), ((0, 0, 255), "blue"),
        ((140, 0, 255), "purple"), ((255, 0, 200), "pink"), ((0, 0, 0), "black"),
        ((128, 128, 128), "grey"), ((255, 255, 255), "white"),
    ],
)  # fmt: skip
def test_colours_have_their_usual_names(rgb: tuple[int, int, int], word: str) -> None:
    assert colour_word(np.array(rgb)) == word


def test_tokens_are_filled_up_and_cut() -> None:
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert caption_tokens("one disc").shape == (MAX_TOKENS,)
    words = [VOCABULARY.index(w) for w in ("one", "disc")]
    assert caption_tokens("one disc", 4).tolist() == [*words, 0, 0]
    assert caption_tokens("one disc", 1).tolist() == words[:1]


@pytest.mark.parametrize("caption", ["", "one zebra", "<pad>"])
def test_foreign_captions_are_refused(caption: str) -> None:
    with pytest.raises(ValueError, match="caption"):
        caption_tokens(caption)


def test_a_length_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="length=0"):
        caption_tokens("nothing", 0)


# The data set


def test_kept_pictures_are_those_that_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("mmengine")
    from pe_dense.alignment.mini_captioned_images import MiniCaptionedImages

    drawn = MiniCaptionedImages(None, "val", 3, world_seed=2, image_size=64)
    first = MiniCaptionedImages(tmp_path, "val", 3, world_seed=2, image_size=64)
    (file,) = tmp_path.iterdir()
    again = MiniCaptionedImages(tmp_path, "val", 3, world_seed=2, image_size=64)
    for data in (drawn, first, again):
        assert len(data) == 3
        for index in range(3):
            frame, sample = make_image(2, "val", index, 64), data[index]
            rgb_HW3 = sample["inputs"].numpy()[::-1].transpose(1, 2, 0)
            assert np.array_equal(rgb_HW3, frame.image)
            assert sample["data_samples"].caption == caption_of(frame)
            tokens_L = caption_tokens(caption_of(frame))
            assert np.array_equal(sample["data_samples"].caption_tokens.numpy(), tokens_L)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        MiniCaptionedImages(tmp_path, "val", 3, world_seed=2, image_size=64)


def test_mirroring_takes_the_caption_along() -> None:
    pytest.importorskip("mmengine")
    from pe_dense.alignment.mini_captioned_images import MiniCaptionedImages

    plain = MiniCaptionedImages(None, "train", 2, image_size=64)
    always = MiniCaptionedImages(None, "train", 2, image_size=64, mirror_prob=1.0)
    for one, other in zip((plain[0], plain[1]), (always[0], always[1]), strict=True):
        assert np.array_equal(one["inputs"].numpy()[:, :, ::-1], other["inputs"].numpy())
        assert other["data_samples"].caption == mirrored_caption(one["data_samples"].caption)
        assert other["data_samples"].flip and not one["data_samples"].flip


@pytest.mark.parametrize("options", [{"num_images": 0}, {"mirror_prob": 1.5}, {"split": "test"}])
def test_bad_settings_of_the_data_set_are_refused(options: dict[str, object]) -> None:
    pytest.importorskip("mmengine")
    from pe_dense.alignment.mini_captioned_images import MiniCaptionedImages

    with pytest.raises(ValueError, match=next(iter(options))):
        MiniCaptionedImages(None, **{"image_size": 64, "num_images": 1, **options})
