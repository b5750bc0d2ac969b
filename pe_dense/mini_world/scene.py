"""Scenes of the mini world: what they consist of and how they are drawn by lot.

Nothing here depends on the class of a thing but its outline: colours, textures, sizes and light
have the same distributions for all classes.

Shape legend: P outline points.
World axes: x right, y down, z forward, in metres; the camera is at the origin and the ground
at y = height_m.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

THING_NAMES = ("disc", "box", "triangle", "star", "ring", "cross")
STUFF_NAMES = ("sky", "wall", "ground", "path")
SEMANTIC_NAMES = STUFF_NAMES + THING_NAMES  # label i + 1 in a semantic map; 0 is "other"
SKY, WALL, GROUND, PATH = 1, 2, 3, 4
FIRST_THING = len(STUFF_NAMES)  # class_id c in 1..6 has semantic label FIRST_THING + c
MIN_VISIBLE_PX = 30  # an object with fewer visible pixels is left out of annotations

NEAR_M, FAR_M = 2.2, 8.2  # where objects may stand
FOCAL = 0.9  # focal length as a fraction of the image side
_ROUND = ("disc", "ring")
_THING_TEXTURES = ("plain", "stripes", "checks", "dots", "noise")
_PALETTE = np.array(
    [
        (200, 62, 54), (226, 138, 52), (222, 194, 74), (122, 168, 66), (54, 130, 82),
        (64, 168, 172), (58, 106, 184), (104, 78, 166), (182, 84, 150), (138, 96, 62),
        (226, 222, 210), (62, 62, 70),
    ],
    dtype=np.float32,
) / 255.0  # fmt: skip

Colour = tuple[float, float, float]  # RGB in 0..1


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; pan turns it about the vertical axis, roll about its own axis."""

    image_size: int
    focal_px: float
    horizon_px: float  # row of the principal point
    height_m: float
    pan_rad: float
    roll_rad: float


@dataclass(frozen=True)
class Texture:
    """A two-colour pattern on a plane; period in metres, colours are RGB in 0..1."""

    kind: str
    colour_a: Colour
    colour_b: Colour
    period_m: float
    angle_rad: float
    offset: tuple[float, float]
    grain: float


@dataclass(frozen=True)
class Thing:
    """A flat upright object that stands on the ground; class_id 0 is clutter without a class."""

    track_id: int  # 1, 2, ...; 0 for clutter
    class_id: int
    outline: tuple[tuple[float, float], ...]  # P corners in units of half the size
    is_round: bool  # the outline stands for an ellipse
    hole: float  # radius of a round hole in the middle, 0 for none
    size_m: float
    x_m: float
    z_m: float
    yaw_rad: float
    spin_rad: float
    texture: Texture


@dataclass(frozen=True)
class Backdrop:
    """Wall, sky, ground and path."""

    wall_z_m: float
    wall_height_m: float
    path_angle_rad: float
    path_offset_m: float
    path_half_width_m: float
    sky: Texture
    wall: Texture
    ground: Texture
    path: Texture


@dataclass(frozen=True)
class Light:
    """Light and sensor: direction, gain of each channel, gamma, haze, vignette, noise."""

    direction_xy: tuple[float, float]
    gain_rgb: Colour
    gamma: float
    haze: float
    vignette: float
    blur: float
    noise: float


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture except the sensor noise."""

    camera: Camera
    backdrop: Backdrop
    light: Light
    things: tuple[Thing, ...]


def sample_scene(rng: Generator, image_size: int = 256) -> Scene:
    """Draws a scene with 2 to 7 objects and up to 2 pieces of clutter, none cutting another."""
    camera = _sample_camera(rng, image_size)
    class_ids = rng.integers(1, len(THING_NAMES) + 1, size=rng.integers(2, 8)).tolist()
    things: list[Thing] = []
    for track_id, class_id in enumerate(class_ids + [0] * int(rng.integers(0, 3)), start=1):
        thing = _sample_thing(rng, class_id, track_id if class_id else 0)
        while any(things_cut(thing, other) for other in things):
            thing = replace(thing, **_sample_place(rng))
        things.append(thing)
    return Scene(camera, _sample_backdrop(rng), _sample_light(rng), tuple(things))


def things_cut(a: Thing, b: Thing) -> bool:
    """Whether the upright planes of two things cross each other within their widths."""
    ends = []
    for thing in (a, b):
        reach = 0.5 * thing.size_m * max(math.hypot(x, y) for x, y in thing.outline)
        dx, dz = reach * math.cos(thing.yaw_rad), reach * math.sin(thing.yaw_rad)
        ends.append(((thing.x_m - dx, thing.z_m - dz), (thing.x_m + dx, thing.z_m + dz)))
    (a0, a1), (b0, b1) = ends

    def side(p: tuple[float, float], q: tuple[float, float], r: tuple[float, float]) -> bool:
        return (q[0] - p[0]) * (r[1] - p[1]) > (q[1] - p[1]) * (r[0] - p[0])

    return side(a0, a1, b0) != side(a0, a1, b1) and side(b0, b1, a0) != side(b0, b1, a1)


def _sample_camera(rng: Generator, image_size: int) -> Camera:
    return Camera(
        image_size=image_size,
        focal_px=FOCAL * image_size,
        horizon_px=float(rng.uniform(0.28, 0.40)) * image_size,
        height_m=float(rng.uniform(1.15, 1.5)),
        pan_rad=float(rng.uniform(-0.08, 0.08)),
        roll_rad=float(rng.normal(0.0, 0.035)),
    )


def _sample_texture(
    rng: Generator, kinds: tuple[str, ...], period_m: tuple[float, float], mute: float
) -> Texture:
    """Draws two palette colours, each drawn towards grey by up to `mute`, and a pattern."""
    colours = _PALETTE[rng.choice(len(_PALETTE), size=2, replace=False)]
    grey = colours.mean(axis=1, keepdims=True)
    colours = colours + rng.uniform(0.3, 1.0) * mute * (grey - colours)
    colours = np.clip(colours * rng.uniform(0.8, 1.15), 0.03, 0.97)
    return Texture(
        kind=kinds[rng.integers(len(kinds))],
        colour_a=tuple(colours[0].tolist()),
        colour_b=tuple(colours[1].tolist()),
        period_m=float(rng.uniform(*period_m)),
        angle_rad=float(rng.uniform(0, np.pi)),
        offset=tuple(rng.uniform(0, 16, size=2).tolist()),
        grain=float(rng.uniform(0.05, 0.25)),
    )


def _sample_backdrop(rng: Generator) -> Backdrop:
    wall = _sample_texture(rng, ("bricks", "stripes", "noise"), (0.4, 0.9), mute=0.7)
    path = _sample_texture(rng, ("checks", "bricks"), (0.3, 0.6), mute=0.7)
    ground = _sample_texture(rng, ("noise", "speckle"), (0.5, 1.2), mute=0.7)
    sky = _sample_texture(rng, ("noise",), (2.5, 5.0), mute=0.7)
    return Backdrop(
        wall_z_m=float(rng.uniform(8.8, 9.4)),
        wall_height_m=float(rng.uniform(2.0, 3.6)),
        path_angle_rad=float(rng.uniform(-1.2, 1.2)),
        path_offset_m=float(rng.uniform(-1.5, 1.5)),
        path_half_width_m=float(rng.uniform(0.35, 0.9)),
        sky=replace(sky, colour_b=_towards(sky.colour_b, sky.colour_a, 0.4)),
        wall=replace(wall, angle_rad=0.0, colour_b=_towards(wall.colour_b, wall.colour_a, 0.5)),
        ground=replace(ground, colour_b=_towards(ground.colour_b, ground.colour_a, 0.4)),
        path=replace(path, colour_b=_towards(path.colour_b, path.colour_a, 0.4)),
    )


def _sample_light(rng: Generator) -> Light:
    angle = rng.uniform(0, 2 * np.pi)
    gain = rng.uniform(0.75, 1.2) * rng.uniform(0.92, 1.08, size=3)
    return Light(
        direction_xy=(float(np.cos(angle)), float(np.sin(angle))),
        gain_rgb=tuple(gain.tolist()),
        gamma=float(rng.uniform(0.85, 1.2)),
        haze=float(rng.uniform(0.0, 0.3)),
        vignette=float(rng.uniform(0.0, 0.3)),
        blur=float(rng.uniform(0.0, 0.25)),
        noise=float(rng.uniform(1.0, 4.0)) / 255.0,
    )


def _sample_place(rng: Generator) -> dict[str, Any]:
    """Draws where a thing stands in the view and how it is turned; near and far are as likely."""
    z_m = float(np.exp(rng.uniform(np.log(NEAR_M), np.log(FAR_M))))
    x_m = float(rng.uniform(-0.9, 0.9)) * z_m * 0.5 / FOCAL
    return {"x_m": x_m, "z_m": z_m, "yaw_rad": float(rng.uniform(-0.8, 0.8))}


def _sample_thing(rng: Generator, class_id: int, track_id: int) -> Thing:
    outline, hole = _sample_outline(rng, class_id)
    size_m = float(rng.uniform(0.6, 1.05)) * (1.0 if class_id else 0.6)
    return Thing(
        track_id=track_id,
        class_id=class_id,
        outline=tuple(map(tuple, outline.tolist())),
        is_round=class_id > 0 and THING_NAMES[class_id - 1] in _ROUND,
        hole=hole,
        size_m=size_m,
        **_sample_place(rng),
        spin_rad=float(rng.uniform(-np.pi, np.pi)),
        texture=_sample_texture(rng, _THING_TEXTURES, (0.12, 0.3), mute=0.4),
    )


def _sample_outline(rng: Generator, class_id: int) -> tuple[NDArray[Any], float]:
    """Draws a polygon (P, 2) about the origin, with radius near 1, and the radius of its hole."""
    name = THING_NAMES[class_id - 1] if class_id else "blob"
    hole = 0.0
    if name in _ROUND:
        points = _polar(np.full(40, 0.92))
        hole = float(rng.uniform(0.4, 0.55)) if name == "ring" else 0.0
    elif name == "box":
        points = _polar(np.ones(4)) * (1.05, 1.05)
    elif name == "triangle":
        points = _polar(np.full(3, 1.12))
    elif name == "star":
        points = _polar(np.tile((1.12, rng.uniform(0.45, 0.55)), 5))
    elif name == "cross":
        arm = rng.uniform(0.28, 0.36)
        corner = np.array([(1.0, -arm), (1.0, arm), (arm, arm)])
        turns = [((1, 0), (0, 1)), ((0, -1), (1, 0)), ((-1, 0), (0, -1)), ((0, 1), (-1, 0))]
        points = np.concatenate([corner @ np.array(turn).T for turn in turns])
    else:
        points = _polar(rng.uniform(0.4, 1.0, size=9))
    stretch = np.exp(rng.uniform(-0.12, 0.12))
    return points * (stretch, 1.0 / stretch), hole


def _polar(radii_P: NDArray[Any]) -> NDArray[Any]:
    angles = np.arange(len(radii_P)) * (2 * np.pi / len(radii_P))
    return np.stack([radii_P * np.cos(angles), radii_P * np.sin(angles)], axis=1)


def _towards(colour: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (c + share * (o - c) for c, o in zip(colour, other, strict=True))
    return red, green, blue
