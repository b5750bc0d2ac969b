"""The mini world: small textured scenes that are drawn from one seed and know all about themselves.

A pinhole camera looks over a textured ground with a path on it, towards a wall with sky above.
Flat upright objects of six shapes stand on the ground, turned and spun at random, at 2 to 8.5 m.
Ray casting gives colour, instance ids, semantic labels and metric depth of every pixel from the
same geometry, so they always agree. Shape is the only thing that tells the classes apart: colours,
textures, sizes and light come from the same distributions for every class. Odd blobs without a
class lie around as well; they hide things but are "other" in every annotation.

Shape legend: H W pixels, T frames.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pe_dense.mini_world.render import Frame, render_scene
from pe_dense.mini_world.scene import (
    FAR_M,
    FOCAL,
    MIN_VISIBLE_PX,
    NEAR_M,
    Scene,
    Thing,
    sample_scene,
    things_cut,
)

GENERATOR_VERSION = "1"  # raise it whenever the same seed gives other pictures
FRAME_RATE = 12
MIN_IMAGE_SIZE, MAX_IMAGE_SIZE = 64, 2048

_SPLIT_CODES = {"train": 0, "val": 1, "clip_train": 2, "clip_val": 3}
_CUT_HORIZON = 48  # frames in which moving things are kept from cutting each other


def make_image(seed: int, split: str, index: int, image_size: int = 256) -> Frame:
    """Draws one still picture; the same arguments always give the same arrays.

    Args:
        seed: Seed of the world, >= 0.
        split: "train" or "val".
        index: Number of the picture in its split, from 0.
        image_size: Side of the square picture in pixels.

    Raises:
        ValueError: If seed, split or image_size is out of range.

    Example:
        >>> frame = make_image(0, "val", 3, image_size=64)
        >>> frame.image.shape, frame.depth_m.dtype.name
        ((64, 64, 3), 'float32')
    """
    rng = rng_for(seed, split, index, image_size)
    return render_scene(sample_scene(rng, image_size), rng)


def make_clip(
    seed: int, split: str, index: int, image_size: int = 256, num_frames: int = 24
) -> list[Frame]:
    """Draws one clip of moving objects; frame t does not depend on num_frames.

    The first frame shows every object of the clip.

    Args:
        seed: Seed of the world, >= 0.
        split: "clip_train" or "clip_val".
        index: Number of the clip in its split, from 0.
        image_size: Side of the square picture in pixels.
        num_frames: T, the length of the clip.

    Raises:
        ValueError: If seed, split or image_size is out of range.
    """
    scenes = sample_clip(rng_for(seed, split, index, image_size), image_size, num_frames)
    return [
        render_scene(scene, np.random.default_rng((seed, _SPLIT_CODES[split], index, t)))
        for t, scene in enumerate(scenes)
    ]


def sample_clip(rng: Generator, image_size: int = 256, num_frames: int = 24) -> list[Scene]:
    """Draws a scene and moves its camera and objects smoothly; returns T scenes.

    Objects swing sideways and in depth with their own periods, so they pass in front of each
    other. Those that the first frame does not show well are taken out, and ids are counted
    from 1 again.
    """
    min_first_px = max(MIN_VISIBLE_PX, round((0.04 * image_size) ** 2))
    while True:
        base = sample_scene(rng, image_size)
        paths = _sample_motions(rng, base.things, max(num_frames, _CUT_HORIZON))
        pan_T = base.camera.pan_rad + _swing(rng, 0.0, (0.02, 0.09), (50, 90), num_frames)
        first = replace(base, things=tuple(path[0] for path in paths))
        first = replace(first, camera=replace(base.camera, pan_rad=float(pan_T[0])))
        shown = {
            o.track_id
            for o in render_scene(first, np.random.default_rng(0)).objects
            if o.area_px >= min_first_px
        }
        paths = [p for p in paths if p[0].class_id == 0 or p[0].track_id in shown]
        if len(shown) >= 2:
            break
    new_ids = {old: new for new, old in enumerate(sorted(shown), start=1)}
    return [
        replace(
            base,
            camera=replace(base.camera, pan_rad=float(pan_T[t])),
            things=tuple(replace(p[t], track_id=new_ids.get(p[t].track_id, 0)) for p in paths),
        )
        for t in range(num_frames)
    ]


def rng_for(seed: int, split: str, index: int, image_size: int, *stream: int) -> Generator:
    """The random numbers of one picture or clip.

    Args:
        seed: Seed of the world, >= 0.
        split: "train", "val", "clip_train" or "clip_val".
        index: Number of the picture or clip in its split, from 0.
        image_size: Side of the square picture in pixels.
        *stream: What sets another world apart from the first.

    Raises:
        ValueError: If seed, split or image_size is out of range.
    """
    if not MIN_IMAGE_SIZE <= image_size <= MAX_IMAGE_SIZE:
        raise ValueError(
            f"image_size is {image_size}, but must be {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE} pixels"
        )
    return np.random.default_rng(stream_of(seed, split, index, *stream))


def stream_of(seed: int, split: str, index: int, *stream: int) -> tuple[int, ...]:
    """The seed of those random numbers.

    Raises:
        ValueError: If seed or split is out of range.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, but must be 0 or more")
    if split not in _SPLIT_CODES:
        raise ValueError(f"split is {split!r}, but must be one of {', '.join(_SPLIT_CODES)}")
    return (seed, _SPLIT_CODES[split], index, *stream)


def _swing(
    rng: Generator,
    middle: float,
    amplitude: tuple[float, float],
    period: tuple[float, float],
    num_frames: int,
) -> NDArray[Any]:
    phase = rng.uniform(0, 2 * np.pi) + np.arange(num_frames) * (2 * np.pi / rng.uniform(*period))
    values_T: NDArray[Any] = middle + rng.uniform(*amplitude) * np.sin(phase)
    return values_T


def _sample_motions(
    rng: Generator, things: tuple[Thing, ...], num_frames: int
) -> list[list[Thing]]:
    """Moves things so that they do not cut each other; one that finds no way is left out."""
    paths: list[list[Thing]] = []
    for thing in sorted(things, key=lambda thing: thing.class_id != 0):  # clutter does not move
        for _ in range(12):
            path = _sample_motion(rng, thing, num_frames)
            if not any(
                things_cut(path[t], other[t]) for other in paths for t in range(_CUT_HORIZON)
            ):
                paths.append(path)
                break
    return paths


def _sample_motion(rng: Generator, thing: Thing, num_frames: int) -> list[Thing]:
    """Moves a thing for T frames; clutter stays where it is."""
    if thing.class_id == 0:
        return [thing] * num_frames
    edge = 0.5 / FOCAL
    across_T = _swing(rng, 0.5 * thing.x_m / (thing.z_m * edge), (0.3, 0.55), (30, 70), num_frames)
    z_T = np.clip(_swing(rng, thing.z_m, (0.2, 1.2), (30, 80), num_frames), NEAR_M, FAR_M)
    yaw_T = _swing(rng, 0.5 * thing.yaw_rad, (0.1, 0.4), (30, 80), num_frames)
    spin_T = thing.spin_rad + rng.uniform(-0.08, 0.08) * np.arange(num_frames)
    return [
        replace(
            thing,
            x_m=float(across_T[t] * edge * z_T[t]),
            z_m=float(z_T[t]),
            yaw_rad=float(yaw_T[t]),
            spin_rad=float(spin_T[t]),
        )
        for t in range(num_frames)
    ]
