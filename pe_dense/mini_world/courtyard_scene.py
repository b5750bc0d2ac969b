"""Scenes of the courtyard, world 2: what they consist of and how they are drawn by lot.

A paved yard within four walls, under the sky; thick solids float in it, turned in any direction,
and a camera looks from anywhere to anywhere. What a solid looks like does not depend on its class
but for the outline: colours, patterns, sizes, places and light are drawn before it. Parts of the
yard have a pattern each (bricks, speckle, checks, clouds) in any colour.

World axes: x right, y down, z forward, in metres; the ground is at y = 0 and the camera above it.
"""

import colorsys
import math
from dataclasses import dataclass
from typing import Any

from numpy.random import Generator

from pe_dense.mini_world.outlines import REACH, SHAPES, VARIANTS
from pe_dense.mini_world.scene import STUFF_NAMES, Colour, Light, Texture

THING_NAMES = SHAPES
SEMANTIC_NAMES = STUFF_NAMES + THING_NAMES  # label i + 1 in a semantic map; 0 is "other"

MOST_THINGS, MOST_CLUTTER = 8, 3
NEAR_M, FAR_M = 1.5, 5.5  # where solids may float, along the optical axis
_PATTERNS = ("plain", "stripes", "dots", "noise", "zigzag", "grid")  # never those of the yard
_TRIES = 30  # for a place that is free

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera whose principal point is the middle of the square picture.

    The axes are the columns of the rotation from camera to world coordinates.
    """

    image_size: int
    focal_px: float
    position: Vector
    yaw_rad: float
    pitch_rad: float  # upwards
    roll_rad: float

    def axes(self) -> tuple[Vector, Vector, Vector]:
        """World directions of right, down and forward; in Python, so that all machines agree."""
        sy, cy = math.sin(self.yaw_rad), math.cos(self.yaw_rad)
        sp, cp = math.sin(self.pitch_rad), math.cos(self.pitch_rad)
        sr, cr = math.sin(self.roll_rad), math.cos(self.roll_rad)
        right, down = (cy, 0.0, -sy), (sy * sp, cp, cy * sp)
        turned = tuple(cr * a + sr * b for a, b in zip(right, down, strict=True))
        lower = tuple(cr * b - sr * a for a, b in zip(right, down, strict=True))
        return turned, lower, (sy * cp, -sp, cy * cp)  # type: ignore[return-value]

    def ray(self, column: float, row: float) -> Vector:
        """World direction through a point of the picture, 1 long along the optical axis."""
        x, y = ((v - 0.5 * self.image_size) / self.focal_px for v in (column, row))
        right, down, forward = self.axes()
        ray = tuple(x * a + y * b + c for a, b, c in zip(right, down, forward, strict=True))
        return ray  # type: ignore[return-value]


@dataclass(frozen=True)
class Yard:
    """Four walls, the ground between them, a winding path on it, and the sky."""

    half_x_m: float
    half_z_m: float
    wall_height_m: float
    path_angle_rad: float
    path_offset_m: float
    path_half_width_m: float
    path_bend_m: float
    sky: Texture
    wall: Texture
    ground: Texture
    path: Texture


@dataclass(frozen=True)
class Solid:
    """A thick plate with an outline; class_id 0 is clutter without a class."""

    track_id: int  # 1, 2, ...; 0 for clutter
    class_id: int
    variant: int
    size_m: float
    thickness_m: float
    centre: Vector
    yaw_rad: float  # of its normal
    pitch_rad: float
    spin_rad: float
    texture: Texture

    @property
    def shape(self) -> str:
        """Name of its outline."""
        return SHAPES[self.class_id - 1] if self.class_id else "blob"

    @property
    def reach_m(self) -> float:
        """Radius of a ball around the centre that holds it."""
        return math.hypot(0.5 * REACH * self.size_m, 0.5 * self.thickness_m)

    def axes(self) -> tuple[Vector, Vector, Vector]:
        """World directions of both axes of the plate and of its normal."""
        camera = Camera(1, 1.0, self.centre, self.yaw_rad, self.pitch_rad, self.spin_rad)
        return camera.axes()


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture except the sensor noise."""

    camera: Camera
    yard: Yard
    light: Light
    to_light: Vector  # unit vector
    ambient: float  # share of the light that comes from everywhere
    solids: tuple[Solid, ...]


def sample_scene(rng: Generator, image_size: int = 256) -> Scene:
    """Draws a yard with 3 to 8 solids in view and up to 3 pieces of clutter, none touching."""
    yard = _sample_yard(rng)
    camera = _sample_camera(rng, image_size)
    solids: list[Solid] = []
    wanted, clutter = int(rng.integers(3, MOST_THINGS + 1)), int(rng.integers(0, MOST_CLUTTER + 1))
    for number in range(wanted + clutter):
        look = _sample_look(rng, number >= wanted)
        for _ in range(_TRIES):
            solid = Solid(track_id=0, class_id=0, **look, **_sample_place(rng, camera))
            if is_free(solid, solids, camera, yard):
                # The class comes last, so that nothing else can depend on it.
                class_id = int(rng.integers(1, len(SHAPES) + 1)) if number < wanted else 0
                track_id = 1 + sum(s.class_id > 0 for s in solids) if class_id else 0
                solids.append(Solid(track_id, class_id, **look, **_placed(solid)))
                break
    azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(32, 68))
    to_light = (
        math.cos(elevation) * math.sin(azimuth),
        -math.sin(elevation),
        math.cos(elevation) * math.cos(azimuth),
    )
    return Scene(
        camera, yard, _sample_light(rng), to_light, float(rng.uniform(0.42, 0.62)), tuple(solids)
    )


def is_free(solid: Solid, others: list[Solid], camera: Camera, yard: Yard) -> bool:
    """Whether a solid touches no other, no wall, not the ground, and is not at the lens."""
    x, y, z = solid.centre
    reach = solid.reach_m
    return (
        y + reach < 0
        and abs(x) + reach < yard.half_x_m
        and abs(z) + reach < yard.half_z_m
        and math.dist(solid.centre, camera.position) > reach + 0.4
        and all(math.dist(solid.centre, other.centre) > reach + other.reach_m for other in others)
    )


def _placed(solid: Solid) -> dict[str, Any]:
    return {
        "centre": solid.centre,
        "yaw_rad": solid.yaw_rad,
        "pitch_rad": solid.pitch_rad,
        "spin_rad": solid.spin_rad,
    }


def _sample_camera(rng: Generator, image_size: int) -> Camera:
    return Camera(
        image_size=image_size,
        focal_px=math.exp(rng.uniform(math.log(0.75), math.log(1.4))) * image_size,
        position=(
            float(rng.uniform(-1.6, 1.6)),
            float(-rng.uniform(1.5, 3.0)),
            float(rng.uniform(-1.6, 1.6)),
        ),
        yaw_rad=float(rng.uniform(-math.pi, math.pi)),
        pitch_rad=math.radians(rng.uniform(-58, 34)),
        roll_rad=float(rng.uniform(-math.pi, math.pi)),
    )


def _sample_place(rng: Generator, camera: Camera) -> dict[str, Any]:
    """Draws a place in view, as likely left as right and near as far, and how it is turned."""
    column, row = (float(rng.uniform(-0.02, 1.02)) * camera.image_size for _ in range(2))
    z_m = math.exp(rng.uniform(math.log(NEAR_M), math.log(FAR_M)))
    ray = camera.ray(column, row)
    centre = tuple(p + z_m * r for p, r in zip(camera.position, ray, strict=True))
    # Its normal points along the ray, and then up to 50 degrees away.
    length = math.sqrt(sum(r * r for r in ray))
    return {
        "centre": centre,
        "yaw_rad": math.atan2(ray[0], ray[2]) + math.radians(rng.uniform(-50, 50)),
        "pitch_rad": math.asin(-ray[1] / length) + math.radians(rng.uniform(-35, 35)),
        "spin_rad": float(rng.uniform(-math.pi, math.pi)),
    }


def _sample_look(rng: Generator, is_clutter: bool) -> dict[str, Any]:
    """Draws variant, size, thickness, colours and pattern, without knowing the class."""
    size_m = float(rng.uniform(0.6, 1.1)) * (0.5 if is_clutter else 1.0)
    return {
        "variant": int(rng.integers(VARIANTS)),
        "size_m": size_m,
        "thickness_m": float(rng.uniform(0.1, 0.22)) * size_m,
        "texture": _sample_texture(rng, _PATTERNS, (0.14, 0.34), (0.5, 0.9), (0.6, 1.0)),
    }


def _sample_texture(
    rng: Generator,
    kinds: tuple[str, ...],
    period_m: tuple[float, float],
    saturation: tuple[float, float],
    value: tuple[float, float],
    contrast: float = 1.0,
) -> Texture:
    """Draws a pattern of a colour of any hue and a second one: paler, darker or another hue."""
    hue, sat, val = rng.uniform(), rng.uniform(*saturation), rng.uniform(*value)
    first = colorsys.hsv_to_rgb(hue, sat, val)
    kind = int(rng.integers(3))
    other_hue = (hue + rng.uniform(0.12, 0.88)) % 1.0
    second = (
        colorsys.hsv_to_rgb(hue, 0.15 * sat, min(1.0, 1.25 * val)),
        colorsys.hsv_to_rgb(hue, sat, 0.45 * val),
        colorsys.hsv_to_rgb(other_hue, sat, min(1.0, 1.1 * val)),
    )[kind]
    return Texture(
        kind=kinds[rng.integers(len(kinds))],
        colour_a=first,
        colour_b=_mixed(first, second, contrast),
        period_m=float(rng.uniform(*period_m)),
        angle_rad=float(rng.uniform(0, math.pi)),
        offset=tuple(rng.uniform(0, 16, size=2).tolist()),
        grain=float(rng.uniform(0.03, 0.15)),
    )


def _sample_yard(rng: Generator) -> Yard:
    pale, light = (0.08, 0.45), (0.5, 0.9)
    return Yard(
        half_x_m=float(rng.uniform(4.2, 5.6)),
        half_z_m=float(rng.uniform(4.2, 5.6)),
        wall_height_m=float(rng.uniform(2.6, 4.4)),
        path_angle_rad=float(rng.uniform(0, math.pi)),
        path_offset_m=float(rng.uniform(-1.5, 1.5)),
        path_half_width_m=float(rng.uniform(0.6, 1.1)),
        path_bend_m=float(rng.uniform(0.0, 0.5)),
        sky=_sample_texture(rng, ("noise",), (1.0, 2.2), (0.2, 0.5), (0.62, 0.85), contrast=0.6),
        wall=_sample_texture(rng, ("bricks",), (0.4, 0.6), pale, light, contrast=0.45),
        ground=_sample_texture(rng, ("speckle",), (0.4, 0.8), pale, light, contrast=0.45),
        path=_sample_texture(rng, ("checks",), (0.35, 0.55), pale, light, contrast=0.6),
    )


def _sample_light(rng: Generator) -> Light:
    gain = rng.uniform(0.92, 1.15) * rng.uniform(0.93, 1.07, size=3)
    return Light(
        direction_xy=(0.0, 0.0),  # the courtyard has a direction in space instead
        gain_rgb=tuple(gain.tolist()),
        gamma=float(rng.uniform(0.72, 0.98)),
        haze=float(rng.uniform(0.0, 0.2)),
        vignette=float(rng.uniform(0.0, 0.25)),
        blur=float(rng.uniform(0.0, 0.15)),
        noise=float(rng.uniform(1.0, 4.0)) / 255.0,
    )


def _mixed(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (p + share * (q - p) for p, q in zip(a, b, strict=True))
    return red, green, blue
