"""Triton kernels that count what J and F of a frame are made of.

Counts are whole numbers, so scores made from them are those of `region_and_boundary.frame_scores`
to the last digit.

Shape legend: H W image, K objects with the labels 1 to K, B label maps.
"""

from __future__ import annotations

import triton
import triton.language as tl

COUNTS = ("annotated", "predicted", "both", "edge", "predicted_edge", "near_edge", "near_predicted")


@triton.jit
def _object(label_ptr, pixel, right, below, is_pixel, label):
    """Whether pixels have a label, and whether they are boundary pixels of that object."""
    here = tl.load(label_ptr + pixel, mask=is_pixel, other=0) == label
    at_right = tl.load(label_ptr + pixel + right, mask=is_pixel, other=0) == label
    at_below = tl.load(label_ptr + pixel + below, mask=is_pixel, other=0) == label
    at_both = tl.load(label_ptr + pixel + right + below, mask=is_pixel, other=0) == label
    return here, (here != at_right) | (here != at_below) | (here != at_both)


@triton.jit(do_not_specialize=("first_map", "maps_per_annotation", "height", "width"))
def count_pixels(
    annotation_ptr,
    prediction_ptr,
    edge_ptr,
    counts_ptr,
    first_map,
    maps_per_annotation,
    height,
    width,
    BLOCK: tl.constexpr,
):
    """Boundaries uint8 (B, 2, K, H, W), and the first five of the counts (B, K, 7), added there.

    A boundary pixel differs from its right, lower or lower right neighbour, see
    `region_and_boundary.boundary_map`. Grid: blocks of pixels, objects, label maps.
    """
    k, b = tl.program_id(1), tl.program_id(2)
    objects = tl.num_programs(1)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pixels = height * width
    is_pixel = pixel < pixels
    # A neighbour outside the frame is replaced by the pixel at the edge.
    right = tl.where(pixel % width < width - 1, 1, 0)
    below = tl.where(pixel // width < height - 1, width, 0)
    annotation = ((first_map + b) // maps_per_annotation).to(tl.int64)
    a, a_edge = _object(annotation_ptr + annotation * pixels, pixel, right, below, is_pixel, k + 1)
    p, p_edge = _object(
        prediction_ptr + b.to(tl.int64) * pixels, pixel, right, below, is_pixel, k + 1
    )
    edge_ptr += (b.to(tl.int64) * 2 * objects + k) * pixels
    tl.store(edge_ptr + pixel, a_edge.to(tl.uint8), mask=is_pixel)
    edge_ptr += objects.to(tl.int64) * pixels
    tl.store(edge_ptr + pixel, p_edge.to(tl.uint8), mask=is_pixel)
    counts_ptr += (b * objects + k) * 7
    tl.atomic_add(counts_ptr, tl.sum(a.to(tl.int32), axis=0))
    tl.atomic_add(counts_ptr + 1, tl.sum(p.to(tl.int32), axis=0))
    tl.atomic_add(counts_ptr + 2, tl.sum((a & p).to(tl.int32), axis=0))
    tl.atomic_add(counts_ptr + 3, tl.sum(a_edge.to(tl.int32), axis=0))
    tl.atomic_add(counts_ptr + 4, tl.sum(p_edge.to(tl.int32), axis=0))


@triton.jit(do_not_specialize=("height", "width", "radius"))
def count_near(edge_ptr, counts_ptr, height, width, radius, BLOCK: tl.constexpr):
    """Boundary pixels that have one of the other label map within `radius`, added to the counts.

    Grid: blocks of pixels, objects, label maps times two: pixels of the annotation, of the map.
    """
    k, b, which = tl.program_id(1), tl.program_id(2) // 2, tl.program_id(2) % 2
    objects = tl.num_programs(1)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    pixels = height * width
    own = ((b * 2 + which).to(tl.int64) * objects + k) * pixels
    other = ((b * 2 + 1 - which).to(tl.int64) * objects + k) * pixels
    is_edge = tl.load(edge_ptr + own + pixel, mask=pixel < pixels, other=0) > 0
    if tl.sum(is_edge.to(tl.int32), axis=0) > 0:  # most blocks have none
        y, x = pixel // width, pixel % width
        is_near = tl.zeros((BLOCK,), tl.int32)
        side = 2 * radius + 1
        step = 0
        while step < side * side:
            dy = step // side - radius
            dx = step % side - radius
            if dy * dy + dx * dx <= radius * radius:
                is_inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
                there = edge_ptr + other + pixel + dy * width + dx
                is_near |= tl.load(there, mask=is_edge & is_inside, other=0).to(tl.int32)
            step += 1
        tl.atomic_add(counts_ptr + (b * objects + k) * 7 + 5 + which, tl.sum(is_near, axis=0))
