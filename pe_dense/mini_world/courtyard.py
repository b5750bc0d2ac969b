"""The courtyard, world 2 of the mini world: still pictures and clips in which position says little.

The camera pans, tilts, rolls and zooms over all directions, and solids float anywhere in view, so
that neither a class nor a depth has a place of its own in the picture. In clips the camera moves
with the solids, so that masks do not stay where they were.

Shape legend: T frames.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from pe_dense.mini_world.courtyard_render import render_scene
from pe_dense.mini_world.courtyard_scene import Camera, Scene, Solid, is_free, sample_scene
from pe_dense.mini_world.render import Frame
from pe_dense.mini_world.scene import MIN_VISIBLE_PX
from pe_dense.mini_world.world import rng_for, stream_of

GENERATOR_VERSION = "2"  # raise it whenever the same seed gives other pictures
_FREE_HORIZON = 48  # frames in which moving solids are kept from touching each other
_STREAM = 2  # sets the random numbers apart from those of world 1
_TRIES = 12  # for a path that is free


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
    rng = rng_for(seed, split, index, image_size, _STREAM)
    return render_scene(sample_scene(rng, image_size), rng)


def make_clip(
    seed: int, split: str, index: int, image_size: int = 256, num_frames: int = 24
) -> list[Frame]:
    """Draws one clip of moving solids and a moving camera; frame t does not depend on num_frames.

    The first frame shows every solid of the clip.

    Args:
        seed: Seed of the world, >= 0.
        split: "clip_train" or "clip_val".
        index: Number of the clip in its split, from 0.
        image_size: Side of the square picture in pixels.
        num_frames: T, the length of the clip.

    Raises:
        ValueError: If seed, split or image_size is out of range.
    """
    rng = rng_for(seed, split, index, image_size, _STREAM)
    scenes = sample_clip(rng, image_size, num_frames)
    return [
        render_scene(scene, np.random.default_rng((*stream_of(seed, split, index, _STREAM), t)))
        for t, scene in enumerate(scenes)
    ]


def sample_clip(rng: Generator, image_size: int = 256, num_frames: int = 24) -> list[Scene]:
    """Draws a scene and moves its camera and its solids smoothly; returns T scenes.

    What the first frame does not show well is taken out, and ids are counted from 1 again.
    """
    min_first_px = max(MIN_VISIBLE_PX, round((0.06 * image_size) ** 2))
    length = max(num_frames, _FREE_HORIZON)
    while True:
        base = sample_scene(rng, image_size)
        cameras = _move_camera(rng, base.camera, length)
        paths = _move_solids(rng, base, cameras)
        first = replace(base, camera=cameras[0], solids=tuple(path[0] for path in paths))
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
            camera=cameras[t],
            solids=tuple(replace(p[t], track_id=new_ids.get(p[t].track_id, 0)) for p in paths),
        )
        for t in range(num_frames)
    ]


def _swing(
    rng: Generator, amplitude: tuple[float, float], period: tuple[float, float], length: int
) -> list[float]:
    """Values that swing about 0; in Python, so that all machines agree."""
    phase, size = rng.uniform(0, 2 * math.pi), rng.uniform(*amplitude)
    step = 2 * math.pi / rng.uniform(*period)
    return [size * math.sin(phase + t * step) for t in range(length)]


def _move_camera(rng: Generator, camera: Camera, length: int) -> list[Camera]:
    """Pans, tilts, rolls, zooms and walks for T frames."""
    pan_T = _swing(rng, (0.15, 0.3), (24, 44), length)
    tilt_T = _swing(rng, (0.1, 0.22), (24, 44), length)
    roll_T = _swing(rng, (0.15, 0.6), (28, 60), length)
    zoom_T = _swing(rng, (0.0, 0.18), (24, 48), length)
    walk_3T = [_swing(rng, (0.05, 0.35), (30, 60), length) for _ in range(3)]
    return [
        replace(
            camera,
            focal_px=camera.focal_px * math.exp(zoom_T[t]),
            position=tuple(p + w[t] for p, w in zip(camera.position, walk_3T, strict=True)),
            yaw_rad=camera.yaw_rad + pan_T[t],
            pitch_rad=camera.pitch_rad + tilt_T[t],
            roll_rad=camera.roll_rad + roll_T[t],
        )
        for t in range(length)
    ]


def _move_solids(rng: Generator, scene: Scene, cameras: list[Camera]) -> list[list[Solid]]:
    """Moves solids so that none touches another; one that finds no way is left out."""
    paths: list[list[Solid]] = []
    for solid in sorted(scene.solids, key=lambda s: s.class_id != 0):  # clutter does not move
        for _ in range(_TRIES):
            path = _move_solid(rng, solid, len(cameras))
            if all(
                is_free(path[t], [other[t] for other in paths], cameras[t], scene.yard)
                for t in range(_FREE_HORIZON)
            ):
                paths.append(path)
                break
    return paths


def _move_solid(rng: Generator, solid: Solid, length: int) -> list[Solid]:
    """Moves a solid for T frames; clutter stays where it is."""
    if solid.class_id == 0:
        return [solid] * length
    drift_3T = [_swing(rng, (0.05, 0.4), (26, 60), length) for _ in range(3)]
    yaw_T, pitch_T = (_swing(rng, (0.1, 0.35), (30, 70), length) for _ in range(2))
    spin = float(rng.uniform(-0.07, 0.07))
    return [
        replace(
            solid,
            centre=tuple(c + d[t] for c, d in zip(solid.centre, drift_3T, strict=True)),
            yaw_rad=solid.yaw_rad + yaw_T[t],
            pitch_rad=solid.pitch_rad + pitch_T[t],
            spin_rad=solid.spin_rad + spin * t,
        )
        for t in range(length)
    ]
