"""Draws the courtyard by casting one ray through the centre of every pixel.

Colour, instance ids, semantic labels and metric depth come from the same geometry: a box without
a lid, and solids in it that are plates with an outline and a thickness. The light has a direction;
solids and walls throw shadows on the yard. Coordinates are relative to the camera, in world axes.

Shape legend: H W pixels, N = H * W, h w a window of them, S any shape.
"""

from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pe_dense.mini_world.courtyard_scene import Camera, Scene, Solid, Vector, Yard
from pe_dense.mini_world.outlines import REACH, Outline, distance_at, outline_of, slopes_at
from pe_dense.mini_world.patterns import noise, paint
from pe_dense.mini_world.render import Frame, visible_objects
from pe_dense.mini_world.scene import FIRST_THING, GROUND, PATH, SKY, WALL
from pe_dense.mini_world.sensor import expose

FloatArray = NDArray[Any]  # float32

_BEVEL = 0.16  # width of the rounded edge, in units of half the size
_STEPS = 8  # along a ray between both faces of a plate
_NEAREST_M = 0.05  # nothing nearer is drawn


def render_scene(scene: Scene, rng: Generator) -> Frame:
    """Draws a scene; `rng` gives the sensor noise only.

    A pixel belongs to the nearest surface that the ray through its centre meets.
    """
    camera = scene.camera
    rays_3HW = _pixel_rays(camera)
    image_HW3, depth_HW, semantic_HW = _draw_yard(scene, rays_3HW)
    ids_HW = np.zeros(depth_HW.shape, np.uint8)
    full_area_px = {}
    forward = camera.axes()[2]
    for solid in sorted(scene.solids, key=lambda s: -_dot(_from_camera(s, camera), forward)):
        window = _solid_window(camera, solid)
        if window is None:
            continue
        alpha, depth, colour = _draw_solid(scene, solid, rays_3HW[:, window[0], window[1]])
        if solid.class_id:
            full_area_px[solid.track_id] = int((alpha > 0.5).sum())
        alpha = np.where(depth < depth_HW[window], alpha, np.float32(0))[..., None]
        image_HW3[window] += alpha * (colour - image_HW3[window])
        mask = alpha[..., 0] > 0.5
        depth_HW[window][mask] = depth[mask]
        ids_HW[window][mask] = solid.track_id
        semantic_HW[window][mask] = FIRST_THING + solid.class_id if solid.class_id else 0
    classes = {solid.track_id: solid.class_id for solid in scene.solids if solid.class_id}
    objects = visible_objects(classes, ids_HW, full_area_px)
    for item in objects:
        if not item.is_annotated:
            semantic_HW[ids_HW == item.track_id] = 0
    depth_HW[~np.isfinite(depth_HW)] = 0.0
    image_u8 = expose(image_HW3, depth_HW, scene.light, rng)
    return Frame(image_u8, ids_HW, semantic_HW, depth_HW, objects, camera.focal_px)


def _from_camera(solid: Solid, camera: Camera) -> Vector:
    x, y, z = (a - b for a, b in zip(solid.centre, camera.position, strict=True))
    return x, y, z


def _dot(a: Any, b: Any) -> Any:
    """Product of two vectors, of numbers or of arrays; written out, as BLAS rounds differently."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _float32(vector: Vector) -> tuple[np.float32, np.float32, np.float32]:
    return np.float32(vector[0]), np.float32(vector[1]), np.float32(vector[2])


def _pixel_rays(camera: Camera) -> FloatArray:
    """Returns world directions (3, H, W) through pixel centres; length 1 along the optical axis.

    The factor that takes a ray to a surface is therefore the depth of that surface.
    """
    size = camera.image_size
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5 - 0.5 * size)) / np.float32(
        camera.focal_px
    )
    right, down, forward = (_float32(v) for v in camera.axes())
    return np.stack(
        [
            a * at[None, :] + (b * at[:, None] + c)
            for a, b, c in zip(right, down, forward, strict=True)
        ]
    )


# The yard ----------------------------------------------------------------------------------------


def _wall_distance(yard: Yard, start: Any, ray: Any) -> tuple[FloatArray, NDArray[np.bool_]]:
    """How far along rays the nearest wall is, and whether it is one of those across x."""
    tiny = np.float32(1e-6)
    steps = []
    for at, half, along in ((start[0], yard.half_x_m, ray[0]), (start[2], yard.half_z_m, ray[2])):
        along = np.where(np.abs(along) < tiny, tiny, along)
        steps.append((np.where(along > 0, np.float32(half), np.float32(-half)) - at) / along)
    is_x = steps[0] < steps[1]
    return np.where(is_x, steps[0], steps[1]), is_x


def _draw_yard(
    scene: Scene, rays_3HW: FloatArray
) -> tuple[FloatArray, FloatArray, NDArray[np.uint8]]:
    """Returns colour (H, W, 3), depth in metres (inf in the sky) and labels without solids."""
    yard, camera = scene.yard, scene.camera
    eye = _float32(camera.position)
    rays_3N = rays_3HW.reshape(3, -1)
    x, y, z = rays_3N
    wall_depth, is_x = _wall_distance(yard, eye, rays_3N)
    ground_depth = -eye[1] / np.maximum(y, np.float32(1e-6))
    is_ground = ground_depth < wall_depth
    is_sky = ~is_ground & (eye[1] + wall_depth * y < -yard.wall_height_m)
    depth_N = np.where(is_ground, ground_depth, wall_depth)
    lit_N = _light_on_yard(scene, rays_3N, depth_N, is_ground, is_x)
    semantic_N = np.where(is_ground, GROUND, np.where(is_sky, SKY, WALL)).astype(np.uint8)
    image_N3 = np.empty((len(x), 3), np.float32)

    at = np.flatnonzero(is_sky)
    if at.size:
        image_N3[at] = _sky_colour(scene, rays_3N[:, at])
    at = np.flatnonzero(~is_ground & ~is_sky)
    if at.size:
        t = depth_N[at]
        across = np.where(is_x[at], eye[2] + t * z[at], eye[0] + t * x[at])
        height = eye[1] + t * y[at]
        colour = paint(yard.wall, across, height, t / np.float32(camera.focal_px))
        rim = np.float32(yard.wall_height_m) + height  # a pale edge on top, a dark one below
        shade = np.where(rim < 0.12, np.float32(1.25), np.float32(1.0))
        shade = np.where(height > -0.15, np.float32(0.7), shade) * lit_N[at]
        image_N3[at] = colour * shade[:, None]
    at = np.flatnonzero(is_ground)
    if at.size:
        t = depth_N[at]
        x_m, z_m = eye[0] + t * x[at], eye[2] + t * z[at]
        pixel_m = t * t / np.float32(camera.focal_px * -camera.position[1])
        colour = paint(yard.ground, x_m, z_m, pixel_m)
        beside = _beside_path(yard, x_m, z_m)
        on_path = np.flatnonzero(beside < 0)
        colour[on_path] = paint(yard.path, x_m[on_path], z_m[on_path], pixel_m[on_path])
        kerb = (beside > -0.07) & (beside < 0.0)
        shade = np.where(kerb, np.float32(0.72), np.float32(1.0)) * lit_N[at]
        image_N3[at] = colour * shade[:, None]
        semantic_N[at[on_path]] = PATH
    depth_N[is_sky] = np.inf
    shape_hw = rays_3HW.shape[1:]
    return image_N3.reshape(*shape_hw, 3), depth_N.reshape(shape_hw), semantic_N.reshape(shape_hw)


def _beside_path(yard: Yard, x_m: FloatArray, z_m: FloatArray) -> FloatArray:
    """How far points of the ground are from the edge of the path, negative on it.

    The path winds as parabolas that meet smoothly, because a sine is not the same on all machines.
    """
    cos_a, sin_a = (np.float32(f(yard.path_angle_rad)) for f in (np.cos, np.sin))
    off, along = cos_a * x_m + sin_a * z_m, cos_a * z_m - sin_a * x_m
    phase = along * np.float32(0.25)
    phase = 2 * (phase - np.floor(phase)) - 1  # -1..1
    bend = 4 * phase * (1 - np.abs(phase)) * np.float32(yard.path_bend_m)
    beside: FloatArray = np.abs(off - np.float32(yard.path_offset_m) - bend) - np.float32(
        yard.path_half_width_m
    )
    return beside


def _sky_colour(scene: Scene, rays_3S: FloatArray) -> FloatArray:
    """A veil of clouds, brighter and paler towards the walls."""
    x, y, z = rays_3S
    length = np.sqrt(x * x + y * y + z * z)
    rise = np.maximum(-y / length, np.float32(0.02))
    side = 1 / (length * (rise + np.float32(0.25)))
    sky = scene.yard.sky
    p, q = (v * side / np.float32(sky.period_m) + np.float32(sky.offset[0] + 64) for v in (x, z))
    cloud = np.clip(2.6 * noise(p, q) - 0.9, 0.0, 1.0)[:, None]
    a, b = np.array((sky.colour_a, sky.colour_b), np.float32)
    pale = np.float32(0.4) * (1 - rise)[:, None]
    colour: FloatArray = a + cloud * (b - a)
    return colour + pale * (np.float32(0.95) - colour)


def _light_on_yard(
    scene: Scene,
    rays_3N: FloatArray,
    depth_N: FloatArray,
    is_ground: NDArray[np.bool_],
    is_x: NDArray[np.bool_],
) -> FloatArray:
    """Light on ground and walls, (N,): slanted, less in the shadow of walls and solids."""
    yard, camera = scene.yard, scene.camera
    eye, light = _float32(camera.position), _float32(scene.to_light)
    x, y, z = rays_3N * depth_N  # relative to the camera
    across = np.where(is_x, -np.sign(x) * light[0], -np.sign(z) * light[2])
    direct = np.where(is_ground, -light[1], np.maximum(across, 0))
    # A point sees the light if the ray to it leaves the yard above the wall.
    leaving, _ = _wall_distance(
        yard, (eye[0] + x, None, eye[2] + z), tuple(np.full_like(x, v) for v in light)
    )
    over = -(eye[1] + y) - leaving * light[1] - np.float32(yard.wall_height_m)
    direct = direct * np.where(is_ground, np.clip(0.5 + over * 12, 0, 1), np.float32(1))
    # Seen along the light, each solid is near its middle: most points are far from all.
    first, second = _across(scene.to_light)
    p, q = _dot((x, y, z), _float32(first)), _dot((x, y, z), _float32(second))
    for solid in scene.solids:
        centre = _from_camera(solid, camera)
        near = (p - np.float32(_dot(centre, first))) ** 2
        near += (q - np.float32(_dot(centre, second))) ** 2
        at = np.flatnonzero((near < solid.reach_m**2) & (direct > 0))
        if at.size:
            points = (x[at], y[at], z[at])
            direct[at] *= 1 - _shade_of(solid, centre, points, scene.to_light)
    ambient = np.float32(scene.ambient)
    lit: FloatArray = ambient + np.float32(1.25) * (1 - ambient) * direct
    return lit


def _across(direction: Vector) -> tuple[Vector, Vector]:
    """Two unit vectors at right angles to a direction that is not level, and to each other."""
    x, y, z = direction
    length = (y * y + z * z) ** 0.5
    first = (0.0, z / length, -y / length)
    second = (
        y * first[2] - z * first[1],
        z * first[0] - x * first[2],
        x * first[1] - y * first[0],
    )
    return first, second


def _shade_of(solid: Solid, centre: Vector, points: Any, to_light: Vector) -> FloatArray:
    """How much of the light a solid keeps from points, S in 0..1; as if it had no thickness."""
    u_axis, v_axis, normal = solid.axes()
    rise = _dot(to_light, normal)
    rise = rise if abs(rise) > 0.08 else (0.08 if rise >= 0 else -0.08)
    x, y, z = (np.float32(c) - p for c, p in zip(centre, points, strict=True))
    step = _dot((x, y, z), _float32(normal)) / np.float32(rise)
    half = np.float32(0.5 * solid.size_m)
    offset = [step * np.float32(v) - w for v, w in zip(to_light, (x, y, z), strict=True)]
    u, v = (_dot(offset, _float32(axis)) / half for axis in (u_axis, v_axis))
    distance = distance_at(outline_of(solid.shape, solid.variant), u, v)
    soft = np.float32(0.04) + np.float32(0.05) * np.maximum(step, 0)  # wider further away
    shade: FloatArray = np.where(step > 0, np.clip(0.5 - distance / (2 * soft), 0, 1), 0)
    return shade


# Solids ------------------------------------------------------------------------------------------


def _solid_window(camera: Camera, solid: Solid) -> tuple[slice, slice] | None:
    """Returns rows and columns that can show a solid, or None if it is outside the picture."""
    centre = _from_camera(solid, camera)
    axes = camera.axes()
    if _dot(centre, axes[2]) < _NEAREST_M:
        return None
    size, spans = camera.image_size, []
    u_axis, v_axis, normal = solid.axes()
    flat, thick = 0.5 * REACH * solid.size_m, 0.5 * solid.thickness_m
    corners = [
        tuple(
            c + a * flat * u + b * flat * v + k * thick * n
            for c, u, v, n in zip(centre, u_axis, v_axis, normal, strict=True)
        )
        for a in (-1, 1)
        for b in (-1, 1)
        for k in (-1, 1)
    ]
    depths = [_dot(corner, axes[2]) for corner in corners]
    if min(depths) < _NEAREST_M:
        return slice(0, size), slice(0, size)
    for axis in axes[:2]:
        at = [
            0.5 * size + camera.focal_px * _dot(corner, axis) / depth
            for corner, depth in zip(corners, depths, strict=True)
        ]
        spans.append((max(0, int(min(at)) - 2), min(size, int(max(at)) + 3)))
    (left, right), (top, bottom) = spans
    if right - left < 2 or bottom - top < 2:  # no more than the margin
        return None
    return slice(top, bottom), slice(left, right)


def _first_inside(
    outline: Outline, start: list[FloatArray], line: list[FloatArray], distance: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Follows lines of the plane until they enter an outline.

    Args:
        outline: The field of distances.
        start: Both coordinates of points outside, S each.
        line: From there to where the lines end, S each.
        distance: Of the points, S.

    Returns:
        The least distance that was met (S), below 0 where a line enters the outline, and which
        share of the line lies before that (S).
    """
    length = np.sqrt(line[0] ** 2 + line[1] ** 2)
    closest, gone, now = distance, np.zeros_like(distance), distance
    reached = np.zeros_like(distance)
    for _ in range(_STEPS):
        # As far as nothing can be, but at least so far that all steps reach the end.
        step = np.maximum((now + np.float32(0.01)) / length, np.float32(1 / _STEPS))
        after = np.minimum(reached + step, np.float32(1))
        found = distance_at(outline, *(a + after * b for a, b in zip(start, line, strict=True)))
        enters = (closest > 0) & (found <= 0)
        crossing = reached + (after - reached) * now / np.maximum(now - found, np.float32(1e-6))
        gone = np.where(enters, crossing, gone)
        closest = np.where(closest > 0, np.minimum(closest, found), closest)
        reached, now = after, np.maximum(found, np.float32(0))
    return closest, gone


def _draw_solid(
    scene: Scene, solid: Solid, rays_3hw: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns coverage (h, w) in 0..1, depth (h, w) in metres and colour (h, w, 3) of a solid.

    A ray crosses the plate from its near face to its far one; seen along the normal, that is a
    line from one point of the plane to another. The solid is hit where that line first meets the
    outline: at once on the face, later on the rim.
    """
    centre = _from_camera(solid, scene.camera)
    axes = solid.axes()
    half = np.float32(0.5 * solid.size_m)
    du, dv, dn = (_dot(rays_3hw, _float32(axis)) for axis in axes)
    ou, ov, on = (np.float32(-_dot(centre, axis)) for axis in axes)
    dn = np.where(np.abs(dn) < 1e-4, np.float32(1e-4), dn)
    facing = -np.sign(dn)  # which face is seen
    thick = np.float32(0.5 * solid.thickness_m)
    near, far = (thick * facing - on) / dn, (-thick * facing - on) / dn
    u, v = (ou + near * du) / half, (ov + near * dv) / half
    u_way, v_way = (far - near) * du / half, (far - near) * dv / half
    outline = outline_of(solid.shape, solid.variant)
    face = distance_at(outline, u, v)

    closest, gone = face.copy(), np.zeros_like(face)
    way = np.sqrt(u_way**2 + v_way**2)
    at = np.flatnonzero((face > 0) & (face < way))
    if at.size:
        start, line = ([m.ravel()[at] for m in pair] for pair in ((u, v), (u_way, v_way)))
        found = _first_inside(outline, start, line, face.ravel()[at])
        closest.ravel()[at], gone.ravel()[at] = found
    on_rim = (face > 0) & (closest <= 0)
    depth = near + gone * (far - near)
    pixel = depth / np.float32(scene.camera.focal_px) / half
    alpha = np.where(on_rim, np.float32(1), np.clip(0.5 - closest / pixel, 0, 1))
    alpha = np.where(depth > _NEAREST_M, alpha, np.float32(0))

    u, v = u + gone * u_way, v + gone * v_way
    colour = paint(solid.texture, u * half, v * half, pixel * half)
    slope_u, slope_v = slopes_at(outline, u, v)
    # The normal leans from the face to the rim across the bevel.
    lean = np.clip(1 + closest / np.float32(_BEVEL), 0, 1)
    lean = np.where(on_rim, np.float32(1), np.float32(0.8) * lean * lean)
    level = facing * np.sqrt(1 - lean * lean)
    normal = [
        lean * (slope_u * np.float32(a) + slope_v * np.float32(b)) + level * np.float32(c)
        for a, b, c in zip(*axes, strict=True)
    ]
    light = _float32(scene.to_light)
    ambient = np.float32(scene.ambient)
    shade = ambient + np.float32(1.2) * (1 - ambient) * np.maximum(_dot(normal, light), 0)
    length = np.sqrt(_dot(rays_3hw, rays_3hw))
    halfway = [p - d / length for p, d in zip(light, rays_3hw, strict=True)]
    gloss = np.maximum(_dot(normal, halfway), 0) / np.sqrt(_dot(halfway, halfway))
    gloss = gloss**2
    gloss = gloss**2
    gloss = gloss**2
    gloss = gloss**2  # to the power of 16
    return alpha, depth, colour * shade[..., None] + np.float32(0.3) * gloss[..., None]
