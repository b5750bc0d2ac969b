"""Triton kernels of label propagation: unit vectors, similarities of tiles, labels of neighbours.

The step of a frame takes three launches, whatever the number of settings:

1. `unit_halves` writes each token as a unit vector in two float16 numbers a component, 22 bits
   together, in the four bytes that float32 would take.
2. `tile_similarities` compares tiles of queries with the rectangle of each context frame that
   their neighbourhood can reach, by three products of float16 matrices, and keeps the highest
   similarity of every `BLOCK_KEYS` tokens. It is the only one with a large result.
3. `gather_labels` finds the neighbours of one query under one setting. The kept maxima are upper
   bounds: the block with the highest one is looked at, and either holds the next neighbour or has
   its bound lowered. About k blocks are read of all.

Results are those of `reference.next_labels` in float32: what ties with the k-th neighbour counts,
and equal tokens have equal similarities, since all are summed in one order.

Counts for 60 x 104 tokens of width 1024, 8 context frames and radius 12: 3 x 54 GFLOP within the
neighbourhoods, 3 x 112 in rectangles of 32 x 32 around tiles of 8 x 8; 230 MB of features read and
218 MB of similarities written. On an H100 (750 TFLOP/s in float16, 3 TB/s) that is 0.22, 0.45 and
0.15 ms; the step was measured there at 0.88 ms. Soft labels were within 1e-6 of those of float64
(3e-7 with float32 products), with the same arg-max, except where the k-th and the next neighbour
were equally similar to about 1e-7: either may count then, as with any order of sums.

Shape legend: F frame slots, N = h w tokens, P padded width, T tiles of a launch, Q queries of a
tile, M context frames, B blocks of keys that a rectangle has, S = B BLOCK_KEYS keys, Z settings,
C labels.
"""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK_KEYS = 128
SCALE = 4096.0  # of unit vectors: keeps components down to 2**-26 normal in float16
LOW_SCALE = 2048.0  # of what float16 leaves of them
NEVER = 2**31 - 1  # no frame was refused
# Numbers that differ between frames and grids: one compiled kernel serves them all.
PLACES = (
    "frame", "ring", "num_frames", "first_tile", "h", "w", "reach", "rect_h", "rect_w", "blocks",
)  # fmt: skip


@triton.jit(do_not_specialize=("number", "stride_y", "stride_x", "w", "width"))
def unit_halves(
    frame_ptr,
    halves_ptr,
    refused_ptr,
    number,
    stride_y,
    stride_x,
    stride_c,
    w,
    width,
    SCALE: tl.constexpr,
    LOW_SCALE: tl.constexpr,
    P: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One token of a frame (h, w, D) to (2, P) float16: the unit vector, high part and rest.

    A zero token stays zero. One that holds nan or infinity becomes zero, and the number of the
    frame is noted in `refused`.
    """
    token = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    start = (token // w).to(tl.int64) * stride_y + (token % w).to(tl.int64) * stride_x
    x = tl.load(frame_ptr + start + column * stride_c, mask=column < width, other=0.0)
    x = x.to(tl.float32)
    norm = tl.sqrt(tl.sum(x * x, axis=0))
    is_finite = norm < float("inf")  # false for nan
    tl.atomic_min(refused_ptr, number, mask=is_finite == 0)
    x = tl.where(is_finite, x / tl.maximum(norm, 1e-12), 0.0) * SCALE
    high = x.to(tl.float16)
    low = ((x - high.to(tl.float32)) * LOW_SCALE).to(tl.float16)
    out = halves_ptr + token.to(tl.int64) * 2 * P + column
    tl.store(out, high, mask=column < P)
    tl.store(out + P, low, mask=column < P)


@triton.jit(do_not_specialize=PLACES)
def tile_similarities(
    halves_ptr,
    similarity_ptr,
    bound_ptr,
    frame,
    ring,
    num_frames,
    first_tile,
    h,
    w,
    reach,
    rect_h,
    rect_w,
    blocks,
    UNSCALE: tl.constexpr,
    LOW_UNSCALE: tl.constexpr,
    P: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Similarities (Q, BLOCK_KEYS) of a tile with a block of a context frame, and their maxima.

    Written to (T, Q, M, S) and (T, Q, M, B); -inf where a token is further away than `reach`
    along an axis. Grid: blocks, tiles, context frames.
    """
    block, tile, m = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    Q: tl.constexpr = TILE_H * TILE_W
    tiles_w = (w + TILE_W - 1) // TILE_W
    top = (first_tile + tile) // tiles_w * TILE_H
    left = (first_tile + tile) % tiles_w * TILE_W
    query = tl.arange(0, Q)
    y_Q = tl.minimum(top + query // TILE_W, h - 1)
    x_Q = tl.minimum(left + query % TILE_W, w - 1)
    # The rectangle is moved into the grid at its edges, so that its size is always the same.
    key = block * BLOCK_KEYS + tl.arange(0, BLOCK_KEYS)
    is_key = key < rect_h * rect_w
    y_S = tl.maximum(tl.minimum(top - reach, h - rect_h), 0) + key // rect_w
    x_S = tl.maximum(tl.minimum(left - reach, w - rect_w), 0) + key % rect_w
    token_S = tl.where(is_key, y_S * w + x_S, 0)
    # Slot 0 is the first frame; m = 1 is the frame before this one, and so on back.
    slot = tl.where(m == 0, 0, 1 + (frame - m - 1 + ring) % ring)
    query_slot = 1 + (frame - 1) % ring
    token_bytes: tl.constexpr = 2 * P
    query_ptr = halves_ptr + query_slot.to(tl.int64) * h * w * token_bytes
    key_ptr = halves_ptr + slot.to(tl.int64) * h * w * token_bytes
    column = tl.arange(0, BLOCK_P)
    query_ptr += (y_Q * w + x_Q)[:, None] * token_bytes + column
    key_ptr += token_S[:, None] * token_bytes + column
    high = tl.zeros((Q, BLOCK_KEYS), tl.float32)
    low = tl.zeros((Q, BLOCK_KEYS), tl.float32)
    for _ in range(0, P, BLOCK_P):
        query_high = tl.load(query_ptr)
        query_low = tl.load(query_ptr + P)
        key_high = tl.load(key_ptr).T
        key_low = tl.load(key_ptr + P).T
        high = tl.dot(query_high, key_high, high)
        low = tl.dot(query_high, key_low, low)
        low = tl.dot(query_low, key_high, low)
        query_ptr += BLOCK_P
        key_ptr += BLOCK_P
    similarity = (high + low * LOW_UNSCALE) * UNSCALE
    dy = tl.abs(y_S[None, :] - y_Q[:, None])
    dx = tl.abs(x_S[None, :] - x_Q[:, None])
    is_near = (dy <= reach) & (dx <= reach) & is_key[None, :]
    similarity = tl.where(is_near, similarity, -float("inf"))
    row = (tile.to(tl.int64) * Q + query) * num_frames + m
    out = row[:, None] * (blocks * BLOCK_KEYS) + key[None, :]
    tl.store(similarity_ptr + out, similarity)
    tl.store(bound_ptr + row * blocks + block, tl.max(similarity, axis=1))


@triton.jit(do_not_specialize=(*PLACES, "num_labels"))
def gather_labels(
    similarity_ptr,
    bound_ptr,
    labels_ptr,
    out_ptr,
    refused_ptr,
    options_ptr,
    temperature_ptr,
    frame,
    ring,
    num_frames,
    first_tile,
    h,
    w,
    reach,
    rect_h,
    rect_w,
    blocks,
    num_labels,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_BOUNDS: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Labels of one query under one setting, from its neighbours in order of similarity.

    Labels are read from the slots (F, Z, N, C) and written there and to (Z, C, N); nan from the
    first refused frame on. Grid: queries of the tiles, settings. `options` (Z, 4) int32 are the
    number of context frames, radius, whether it is a circle, and k.
    """
    query, z = tl.program_id(0), tl.program_id(1)
    Q: tl.constexpr = TILE_H * TILE_W
    tiles_w = (w + TILE_W - 1) // TILE_W
    tile, place = first_tile + query // Q, query % Q
    top, left = tile // tiles_w * TILE_H, tile % tiles_w * TILE_W
    y, x = top + place // TILE_W, left + place % TILE_W
    if (y < h) & (x < w):
        y_start = tl.maximum(tl.minimum(top - reach, h - rect_h), 0)
        x_start = tl.maximum(tl.minimum(left - reach, w - rect_w), 0)
        used_frames = tl.minimum(tl.load(options_ptr + 4 * z), num_frames)
        radius = tl.load(options_ptr + 4 * z + 1)
        is_circle = tl.load(options_ptr + 4 * z + 2) > 0
        topk = tl.load(options_ptr + 4 * z + 3)
        temperature = tl.load(temperature_ptr + z)
        label = tl.arange(0, BLOCK_C)
        key_in_block = tl.arange(0, BLOCK_KEYS)
        block_ids = tl.arange(0, BLOCK_BOUNDS)
        row = query.to(tl.int64) * num_frames
        first_key = block_ids % blocks * BLOCK_KEYS
        first_row = y_start + first_key // rect_w
        last_row = y_start + (first_key + BLOCK_KEYS - 1) // rect_w
        is_block = block_ids < used_frames * blocks
        is_block = is_block & (last_row >= y - radius) & (first_row <= y + radius)
        bounds = tl.load(bound_ptr + row * blocks + block_ids, mask=is_block, other=-float("inf"))
        labels_C = tl.zeros((BLOCK_C,), tl.float32)
        total = 0.0
        best = -float("inf")
        kth = -float("inf")
        taken = 0
        # What was taken last: taken are all above it, and of its equals those that come before.
        last = float("inf")
        last_block = -1
        last_key = -1
        bound, block = tl.max(bounds, axis=0, return_indices=True)
        while (bound > -float("inf")) & ((taken < topk) | (bound >= kth)):
            m = block // blocks
            key = block % blocks * BLOCK_KEYS + key_in_block
            found = tl.load(similarity_ptr + (row + m) * (blocks * BLOCK_KEYS) + key)
            dy = tl.abs(y_start + key // rect_w - y)
            dx = tl.abs(x_start + key % rect_w - x)
            in_circle = dy * dy + dx * dx <= radius * radius
            in_square = (dy <= radius) & (dx <= radius)
            is_near = (is_circle & in_circle) | ((is_circle == 0) & in_square)
            is_later = (block > last_block) | ((block == last_block) & (key_in_block > last_key))
            is_left = (found < last) | ((found == last) & is_later)
            found = tl.where(is_near & is_left, found, -float("inf"))
            top_value, at = tl.max(found, axis=0, return_indices=True)
            # As an integer in between: triton's interpreter spreads a comparison of floats wrongly.
            is_next = (top_value == bound) & (top_value > -float("inf"))
            is_next = tl.where(is_next, 1, 0) > 0
            best = tl.where(is_next & (taken == 0), top_value, best)
            taken += is_next.to(tl.int32)
            kth = tl.where(is_next & (taken == topk), top_value, kth)
            weight = tl.where(is_next, tl.exp((top_value - best) / temperature), 0.0)
            best_key = block % blocks * BLOCK_KEYS + at
            token = (y_start + best_key // rect_w) * w + x_start + best_key % rect_w
            slot = tl.where(m == 0, 0, 1 + (frame - m - 1 + ring) % ring)
            store = (slot.to(tl.int64) * tl.num_programs(1) + z) * h * w + token
            row_C = tl.load(
                labels_ptr + store * num_labels + label,
                mask=(label < num_labels) & is_next,
                other=0.0,
            )
            labels_C += weight * row_C
            total += weight
            last = tl.where(is_next, top_value, last)
            last_block = tl.where(is_next, block, last_block)
            last_key = tl.where(is_next, at, last_key)
            rest = tl.max(tl.where(is_next & (key_in_block == at), -float("inf"), found), axis=0)
            bounds = tl.where(block_ids == block, rest, bounds)
            bound, block = tl.max(bounds, axis=0, return_indices=True)
        labels_C = tl.where(tl.load(refused_ptr) <= frame, float("nan"), labels_C / total)
        token = y * w + x
        slot = 1 + (frame - 1) % ring
        store = (slot.to(tl.int64) * tl.num_programs(1) + z) * h * w + token
        is_label = label < num_labels
        tl.store(labels_ptr + store * num_labels + label, labels_C, mask=is_label)
        out = (z * num_labels + label).to(tl.int64) * h * w + token
        tl.store(out_ptr + out, labels_C, mask=is_label)
