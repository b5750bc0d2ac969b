"""Draws scenes of the mini world by casting one ray through the centre of every pixel.

Colour, instance ids, semantic labels and metric depth come from the same geometry. Edges of
things are smoothed by their analytic distance, textures fade out where pixels get too coarse.

Shape legend: H W pixels, h w a window of them, P outline points, S any shape.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pe_dense.mini_world.patterns import paint
from pe_dense.mini_world.scene import (
    FIRST_THING,
    GROUND,
    MIN_VISIBLE_PX,
    PATH,
    SKY,
    WALL,
    Camera,
    Scene,
    Thing,
)
from pe_dense.mini_world.sensor import expose

FloatArray = NDArray[Any]  # float32


class FrameObject(NamedTuple):
    """What can be seen of one object in one frame."""

    track_id: int
    class_id: int  # 1..len(THING_NAMES)
    box_xywh: tuple[int, int, int, int]  # of the visible pixels; x, y are 0-based
    area_px: int  # visible pixels
    full_area_px: int  # pixels inside the frame if nothing stood in front

    @property
    def visibility(self) -> float:
        """Visible share of the part inside the frame, in (0, 1]."""
        return self.area_px / self.full_area_px

    @property
    def is_annotated(self) -> bool:
        """Whether enough is visible for annotations."""
        return self.area_px >= MIN_VISIBLE_PX


class Frame(NamedTuple):
    """A picture and its labels."""

    image: NDArray[np.uint8]  # (H, W, 3), RGB
    ids: NDArray[np.uint8]  # (H, W), track id; 0 where there is no object with a class
    semantic: NDArray[np.uint8]  # (H, W), 0 other, i + 1 for SEMANTIC_NAMES[i]
    depth_m: FloatArray  # (H, W), along the optical axis; 0 in the sky
    objects: tuple[FrameObject, ...]  # by track id; at least one visible pixel
    focal_px: float


def render_scene(scene: Scene, rng: Generator) -> Frame:
    """Draws a scene; `rng` gives the sensor noise only.

    A pixel belongs to the nearest surface that the ray through its centre meets.
    """
    rays_3HW = _pixel_rays(scene.camera)
    image_HW3, depth_HW, semantic_HW = _draw_backdrop(scene, rays_3HW)
    ids_HW = np.zeros(depth_HW.shape, np.uint8)
    full_area_px = {}
    for thing in sorted(scene.things, key=lambda thing: -thing.z_m):
        window = _thing_window(scene.camera, thing)
        if window is None:
            continue
        alpha, depth, colour = _draw_thing(scene, thing, rays_3HW[:, window[0], window[1]])
        full_area_px[thing.track_id] = int((alpha > 0.5).sum())
        alpha = np.where(depth < depth_HW[window], alpha, 0.0)[..., None]
        image_HW3[window] += alpha * (colour - image_HW3[window])
        mask = alpha[..., 0] > 0.5
        depth_HW[window][mask] = depth[mask]
        ids_HW[window][mask] = thing.track_id
        semantic_HW[window][mask] = FIRST_THING + thing.class_id if thing.class_id else 0
    classes = {thing.track_id: thing.class_id for thing in scene.things if thing.class_id}
    objects = visible_objects(classes, ids_HW, full_area_px)
    for item in objects:
        if not item.is_annotated:
            semantic_HW[ids_HW == item.track_id] = 0
    depth_HW[~np.isfinite(depth_HW)] = 0.0
    image_u8 = expose(image_HW3, depth_HW, scene.light, rng)
    return Frame(image_u8, ids_HW, semantic_HW, depth_HW, objects, scene.camera.focal_px)


def _camera_axes(camera: Camera) -> FloatArray:
    """Returns the (3, 3) rotation that takes camera to world coordinates."""
    sin_p, cos_p = np.sin(camera.pan_rad), np.cos(camera.pan_rad)
    sin_r, cos_r = np.sin(camera.roll_rad), np.cos(camera.roll_rad)
    pan = np.array([(cos_p, 0, sin_p), (0, 1, 0), (-sin_p, 0, cos_p)])
    roll = np.array([(cos_r, -sin_r, 0), (sin_r, cos_r, 0), (0, 0, 1)])
    axes: FloatArray = (pan @ roll).astype(np.float32)
    return axes


def _pixel_rays(camera: Camera) -> FloatArray:
    """Returns world directions (3, H, W) through pixel centres; length 1 along the optical axis.

    The factor that takes a ray to a surface is therefore the depth of that surface.
    """
    size = camera.image_size
    axis = np.arange(size, dtype=np.float32) + 0.5
    x_1W = (axis[None, :] - 0.5 * size) / camera.focal_px
    y_H1 = (axis[:, None] - camera.horizon_px) / camera.focal_px
    # Written out: a BLAS product could round differently with another number of threads.
    return np.stack([a * x_1W + b * y_H1 + c for a, b, c in _camera_axes(camera)])


def _thing_frame(camera: Camera, thing: Thing) -> tuple[FloatArray, FloatArray]:
    """Returns the centre (3,) of a thing and the (3,) horizontal axis of its plane."""
    sin_s, cos_s = np.sin(thing.spin_rad), np.cos(thing.spin_rad)
    lowest = max(sin_s * x + cos_s * y for x, y in thing.outline)
    centre = (thing.x_m, camera.height_m - 0.5 * thing.size_m * lowest, thing.z_m)
    across = (np.cos(thing.yaw_rad), 0.0, np.sin(thing.yaw_rad))
    return np.array(centre, np.float32), np.array(across, np.float32)


def _thing_window(camera: Camera, thing: Thing) -> tuple[slice, slice] | None:
    """Returns rows and columns that can show a thing, or None if it is outside the picture."""
    centre, across = _thing_frame(camera, thing)
    reach = 0.5 * thing.size_m * max(np.hypot(x, y) for x, y in thing.outline)
    down = np.array((0.0, 1.0, 0.0), np.float32)
    corners = [centre + reach * (a * across + b * down) for a in (-1, 1) for b in (-1, 1)]
    x, y, z = (np.array(corners) @ _camera_axes(camera)).T
    columns = 0.5 * camera.image_size + camera.focal_px * x / z
    rows = camera.horizon_px + camera.focal_px * y / z
    left, top = (max(0, int(np.floor(v.min())) - 2) for v in (columns, rows))
    right, bottom = (min(camera.image_size, int(np.ceil(v.max())) + 2) for v in (columns, rows))
    if right - left < 2 or bottom - top < 2:  # no more than the margin of 2 pixels
        return None
    return slice(top, bottom), slice(left, right)


def ellipse_distance(x: FloatArray, y: FloatArray, radii_2: FloatArray) -> FloatArray:
    """Returns the signed distance to an ellipse along the ray from its centre; as x and y."""
    ratio = np.hypot(x / radii_2[0], y / radii_2[1]) + np.float32(1e-6)
    distance: FloatArray = np.hypot(x, y) * (1.0 - 1.0 / ratio)
    return np.where(ratio < 1e-3, -radii_2.min(), distance)


def polygon_distance(x: FloatArray, y: FloatArray, points_P2: FloatArray) -> FloatArray:
    """Returns the signed distance to a closed polygon, negative inside; shape as x and y."""
    nearest = np.full(x.shape, np.inf, np.float32)
    inside = np.zeros(x.shape, bool)
    for (ax, ay), (bx, by) in zip(points_P2, np.roll(points_P2, -1, axis=0), strict=True):
        ex, ey = bx - ax, by - ay
        px, py = x - ax, y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        np.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2, out=nearest)
        if ay != by:
            inside ^= ((y < ay) != (y < by)) & (px < py * (ex / ey))
    distance: FloatArray = np.where(inside, -1.0, 1.0).astype(np.float32) * np.sqrt(nearest)
    return distance


# Drawing -----------------------------------------------------------------------------------------


def _draw_backdrop(
    scene: Scene, rays_3HW: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.uint8]]:
    """Returns colour (H, W, 3), depth in metres (inf in the sky) and labels of the backdrop."""
    back, camera = scene.backdrop, scene.camera
    x, y, z = rays_3HW.reshape(3, -1)  # (N,), N = H * W
    ground_depth = camera.height_m / np.maximum(y, np.float32(1e-6))
    wall_depth = np.float32(back.wall_z_m) / z
    is_ground = ground_depth < wall_depth
    is_sky = ~is_ground & (wall_depth * y < camera.height_m - back.wall_height_m)
    depth = np.where(is_ground, ground_depth, np.where(is_sky, np.float32(np.inf), wall_depth))
    semantic = np.where(is_ground, GROUND, np.where(is_sky, SKY, WALL)).astype(np.uint8)
    image = np.empty((len(x), 3), np.float32)

    at = np.flatnonzero(is_sky)
    side, rise = x[at] / z[at], -y[at] / z[at]
    sky = paint(back.sky, 9.0 * side, 14.0 * rise, np.zeros_like(rise))
    image[at] = sky * (0.85 + 0.6 * rise)[:, None]

    at = np.flatnonzero(~is_ground & ~is_sky)
    t = wall_depth[at]
    image[at] = paint(back.wall, t * x[at], t * y[at], t / camera.focal_px)

    at = np.flatnonzero(is_ground)
    t = ground_depth[at]
    x_m, z_m = t * x[at], t * z[at]
    pixel_m = t * t / (camera.focal_px * camera.height_m)
    colour = paint(back.ground, x_m, z_m, pixel_m)
    sin_a, cos_a = np.sin(back.path_angle_rad), np.cos(back.path_angle_rad)
    off_axis = np.float32(cos_a) * x_m + np.float32(sin_a) * (z_m - 4.5) - back.path_offset_m
    is_path = np.abs(off_axis) < back.path_half_width_m
    on_path = np.flatnonzero(is_path)
    colour[on_path] = paint(back.path, x_m[on_path], z_m[on_path], pixel_m[on_path])
    light = np.ones_like(x_m)
    for thing in scene.things:  # a soft shadow where each thing touches the ground
        width, length = 0.44 * thing.size_m, 0.28 * thing.size_m
        dx, dz = (x_m - thing.x_m) / width, (z_m - (thing.z_m + 0.1)) / length
        light *= 1.0 - 0.5 * np.maximum(1.0 - dx * dx - dz * dz, 0.0)
    image[at] = colour * light[:, None]
    semantic[at[on_path]] = PATH

    shape_hw = rays_3HW.shape[1:]
    return image.reshape(*shape_hw, 3), depth.reshape(shape_hw), semantic.reshape(shape_hw)


def _draw_thing(
    scene: Scene, thing: Thing, rays_3hw: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns coverage (h, w) in 0..1, depth (h, w) in metres and colour (h, w, 3) of a thing."""
    centre, across = _thing_frame(scene.camera, thing)
    x, y, z = rays_3hw
    normal_x, normal_z = -across[2], across[0]
    facing = normal_x * x + normal_z * z
    depth = (normal_x * centre[0] + normal_z * centre[2]) / np.maximum(facing, 1e-3)
    u_m = (depth * x - centre[0]) * across[0] + (depth * z - centre[2]) * across[2]
    v_m = depth * y - centre[1]
    sin_s, cos_s = np.float32(np.sin(thing.spin_rad)), np.float32(np.cos(thing.spin_rad))
    half = np.float32(0.5 * thing.size_m)
    local_x, local_y = (cos_s * u_m + sin_s * v_m) / half, (cos_s * v_m - sin_s * u_m) / half
    outline_P2 = np.array(thing.outline, np.float32)
    if thing.is_round:
        distance = ellipse_distance(local_x, local_y, outline_P2.max(axis=0))
    else:
        distance = polygon_distance(local_x, local_y, outline_P2)
    if thing.hole:
        distance = np.maximum(distance, thing.hole - np.hypot(local_x, local_y))
    pixel_m = depth / np.float32(scene.camera.focal_px)
    alpha = np.clip(0.5 - distance * half / pixel_m, 0.0, 1.0)

    colour = paint(thing.texture, local_x * half, local_y * half, pixel_m)
    light_x, light_y = scene.light.direction_xy
    slope_y, slope_x = np.gradient(distance)
    steep = np.hypot(slope_x, slope_y) + 1e-6
    bevel = (slope_x * light_x + slope_y * light_y) / steep * np.exp(-((distance / 0.12) ** 2))
    shade = 1.0 + np.float32(0.25 * light_x * np.sin(thing.yaw_rad)) + 0.3 * bevel
    return alpha, depth, colour * shade[..., None]


def visible_objects(
    classes: Mapping[int, int], ids_HW: NDArray[np.uint8], full_area_px: Mapping[int, int]
) -> tuple[FrameObject, ...]:
    """What can be seen of each object, by track id.

    Args:
        classes: Track id -> class id; no clutter.
        ids_HW: Track id of each pixel.
        full_area_px: Track id -> pixels inside the frame if nothing stood in front.
    """
    objects = []
    for track_id, class_id in sorted(classes.items()):
        mask_HW = ids_HW == track_id
        if not mask_HW.any():
            continue
        rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
        box_xywh = (
            int(columns[0]),
            int(rows[0]),
            int(columns[-1] - columns[0] + 1),
            int(rows[-1] - rows[0] + 1),
        )
        area_px, full_px = int(mask_HW.sum()), full_area_px[track_id]
        objects.append(FrameObject(track_id, class_id, box_xywh, area_px, full_px))
    return tuple(objects)
