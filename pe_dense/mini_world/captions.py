"""Captions of the mini world, made from what a frame knows about itself.

A caption first counts the shapes, in the order of their classes; then it can list every object,
the largest first, with its colour, its place and its distance, and what lies behind:

    two discs and one star : red disc left near , grey star middle far , blue disc right far
        : blue sky , grey wall , green ground , orange path

(on one line). Nothing is drawn by lot: a frame has one caption. Objects with too few visible
pixels for an annotation are not spoken of, and clutter neither.

Shape legend: H W pixels, L tokens of a caption.
"""

from __future__ import annotations

import colorsys

import numpy as np

from pe_dense.mini_world.render import Frame, FrameObject
from pe_dense.mini_world.worlds import WORLDS, World

NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MANY = "many"  # ten and more
NOTHING = "nothing"
COLOURS = ("black", "grey", "white", "red", "orange", "yellow", "green", "teal", "blue", "purple",
           "pink")  # fmt: skip
PLACES = ("left", "middle", "right")
DISTANCES = ("near", "far")
PAD = 0
MIN_STUFF_SHARE = 0.02  # of the picture, for a part of the backdrop to be spoken of
MAX_TOKENS = 80  # of the longest captions: 8 shapes, 9 objects and 4 parts of the backdrop

_FIRST = WORLDS[1]
_SWAPPED = {"left": "right", "right": "left"}
_LIST = " : "
_HUES = (
    (20, "red"), (45, "orange"), (70, "yellow"), (160, "green"), (195, "teal"), (255, "blue"),
    (300, "purple"), (340, "pink"), (361, "red"),
)  # fmt: skip


def vocabulary_of(world: World) -> tuple[str, ...]:
    """All words of the captions of a world; a token is an index of it."""
    return (
        "<pad>", NOTHING, "and", ":", ",", *NUMBER_WORDS, MANY, *world.thing_names,
        *map(_plural, world.thing_names), *COLOURS, *PLACES, *DISTANCES, *world.stuff_names,
    )  # fmt: skip


def _plural(name: str) -> str:
    return f"{name}es" if name in ("box", "cross") else f"{name}s"


VOCABULARY = vocabulary_of(_FIRST)


def caption_of(
    frame: Frame,
    places: bool = True,
    colours: bool = True,
    backdrop: bool = True,
    world: World = _FIRST,
) -> str:
    """The caption of a frame.

    Args:
        frame: A picture and its labels.
        places: Say of every object whether it is left, in the middle or right (thirds of the
            width, by the centre of its box), and near or far (median distance below `far_from_m`
            of the world: 5 m in the first).
        colours: Say the colour of every object, from the mean of its visible pixels.
        backdrop: Say which of sky, wall, ground and path cover at least 2 % of the picture, and
            their mean colours.
        world: That drew the frame.

    Example:
        >>> from pe_dense.mini_world.world import make_image
        >>> caption_of(make_image(0, "train", 0, image_size=64), False, False, False)
        'one ring and one cross'
    """
    parts = [_objects(frame, places, colours, world)]
    if backdrop:
        masks = ((name, frame.semantic == k) for k, name in enumerate(world.stuff_names, start=1))
        seen = [
            f"{colour_word(frame.image[mask_HW].mean(axis=0))} {name}"
            for name, mask_HW in masks
            if mask_HW.mean() >= MIN_STUFF_SHARE
        ]
        parts += [" , ".join(seen)] if seen else []
    return _LIST.join(parts)


def _objects(frame: Frame, places: bool, colours: bool, world: World) -> str:
    seen = sorted(
        (item for item in frame.objects if item.is_annotated),
        key=lambda item: (-item.area_px, item.track_id),
    )
    if not seen:
        return NOTHING
    counts = np.bincount([item.class_id for item in seen], minlength=len(world.thing_names) + 1)[1:]
    text = " and ".join(
        f"{_number(int(n))} {name if n == 1 else _plural(name)}"
        for name, n in zip(world.thing_names, counts, strict=True)
        if n
    )
    if not (places or colours):
        return text
    return text + _LIST + " , ".join(_phrase(frame, item, places, colours, world) for item in seen)


def mirrored_caption(caption: str) -> str:
    """What the caption is once left and right of the picture are swapped.

    Example:
        >>> mirrored_caption("one box : red box left near")
        'one box : red box right near'
    """
    return " ".join(_SWAPPED.get(word, word) for word in caption.split())


def caption_tokens(
    caption: str, length: int = MAX_TOKENS, vocabulary: tuple[str, ...] = VOCABULARY
) -> np.ndarray:
    """Indices into the vocabulary, (L,) int64, filled up with `PAD`; what is longer is cut off.

    Raises:
        ValueError: If the caption is empty, a word is unknown, or the length is below 1.

    Example:
        >>> caption_tokens("nothing", 3).tolist()
        [1, 0, 0]
    """
    words = caption.split()
    token = {word: index for index, word in enumerate(vocabulary)}
    unknown = [word for word in words if word not in token or word == vocabulary[PAD]]
    if unknown or not words:
        raise ValueError(
            f"caption {caption!r} {'has unknown words' if unknown else 'is empty'}; use captions "
            "that caption_of made"
        )
    if length < 1:
        raise ValueError(f"length={length} holds no token; use 1 or more")
    tokens_L = np.full(length, PAD, np.int64)
    known = [token[word] for word in words[:length]]
    tokens_L[: len(known)] = known
    return tokens_L


def colour_word(rgb: np.ndarray) -> str:
    """The word for a mean colour, RGB in 0..255.

    Example:
        >>> colour_word(np.array([200, 62, 54])), colour_word(np.array([62, 62, 70]))
        ('red', 'grey')
    """
    hue, saturation, value = colorsys.rgb_to_hsv(*(float(v) / 255 for v in rgb))
    if value < 0.2:
        return "black"
    if saturation < 0.18:
        return "white" if value > 0.7 else "grey"
    return next(word for end, word in _HUES if hue * 360 < end)


def _number(count: int) -> str:
    return NUMBER_WORDS[count - 1] if count <= len(NUMBER_WORDS) else MANY


def _phrase(frame: Frame, item: FrameObject, places: bool, colours: bool, world: World) -> str:
    mask_HW = frame.ids == item.track_id
    words = [world.thing_names[item.class_id - 1]]
    if colours:
        words.insert(0, colour_word(frame.image[mask_HW].mean(axis=0)))
    if places:
        x, _, box_width, _ = item.box_xywh
        twice_centre, width = 2 * x + box_width, frame.ids.shape[1]
        # In whole numbers, so that a mirrored picture has exactly the mirrored place.
        place = (3 * twice_centre >= 2 * width) + (3 * twice_centre > 4 * width)
        is_far = np.median(frame.depth_m[mask_HW]) >= world.far_from_m
        words += [PLACES[place], DISTANCES[int(is_far)]]
    return " ".join(words)
