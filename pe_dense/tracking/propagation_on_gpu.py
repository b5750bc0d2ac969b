"""Label propagation on a GPU: what the kernels of `propagation_kernel` need, and their launches.

Nothing here waits for the GPU, so frames are propagated while the host prepares the next ones. An
encoder's nan is therefore seen late: the labels of that frame and of the following ones are nan,
and the error comes when one of the next frames, or the end, is asked for.

Shape legend: as in `propagation_kernel`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pe_dense.tracking.propagation_kernel import (
    BLOCK_KEYS,
    LOW_SCALE,
    NEVER,
    SCALE,
    gather_labels,
    tile_similarities,
    unit_halves,
)
from pe_dense.tracking.reference import PropagationSetting

TILE_HW = (8, 8)
BLOCK_WIDTH = 32  # components of a step of the product
MAX_SIMILARITIES = 2**25  # numbers held at a time, 128 MiB
WARPS, STAGES = 4, 4  # of the product
FEW_BOUNDS = 1024  # up to here a query is searched by one warp


class GpuPropagation:
    """Labels of one frame after the other; the context is a ring of the last frames.

    Slot 0 holds the first frame. Equal to `label_propagation.TiledPropagation`, which does the
    same in plain PyTorch.

    Args:
        frame_hwD: Tokens of the first frame: float32, float16 or bfloat16.
        labels_Chw: Its labels.
        settings: At least one.
    """

    def __init__(
        self, frame_hwD: Tensor, labels_Chw: Tensor, settings: Sequence[PropagationSetting]
    ) -> None:
        self.h, self.w, self.width = frame_hwD.shape
        self.ring = 1 + max(setting.last_frames for setting in settings)  # with the query's frame
        num_tokens, device = self.h * self.w, frame_hwD.device
        self.device = device
        self.padded = -(-self.width // BLOCK_WIDTH) * BLOCK_WIDTH
        halves_shape = 1 + self.ring, num_tokens, 2, self.padded
        self.halves_FN2P = torch.empty(halves_shape, dtype=torch.float16, device=device)
        store_shape = 1 + self.ring, len(settings), num_tokens, len(labels_Chw)
        self.labels_FZNC = torch.empty(store_shape, dtype=torch.float32, device=device)
        self.labels_FZNC[0] = labels_Chw.detach().to(self.labels_FZNC).flatten(1).T
        self.refused = torch.full((1,), NEVER, dtype=torch.int32, device=device)
        self.refused_seen = torch.full(
            (1,), NEVER, dtype=torch.int32, pin_memory=device.type == "cuda"
        )
        radii = [setting.radius or self.h + self.w for setting in settings]  # 0: all of the grid
        options = [
            (1 + s.last_frames, radius, int(s.reach[1] == "circle"), s.topk)
            for s, radius in zip(settings, radii, strict=True)
        ]
        self.options_Z4 = torch.tensor(options, dtype=torch.int32, device=device)
        temperatures = [setting.temperature for setting in settings]
        self.temperature_Z = torch.tensor(temperatures, dtype=torch.float32, device=device)
        self.reach = max(radii)
        self.rect_h = min(TILE_HW[0] + 2 * self.reach, self.h)
        self.rect_w = min(TILE_HW[1] + 2 * self.reach, self.w)
        self.blocks = -(-self.rect_h * self.rect_w // BLOCK_KEYS)
        self.tiles = -(-self.h // TILE_HW[0]) * -(-self.w // TILE_HW[1])
        self.similarity: Tensor | None = None
        self.frame = 0
        self._put(frame_hwD, 0)
        self.frame = 1

    def next_labels(self, frame_hwD: Tensor, given_Chw: Tensor | None) -> tuple[Tensor, ...]:
        """Labels (C, h, w) of the next frame for each setting; the frame joins the context.

        Args:
            frame_hwD: Tokens, of the shape of the first frame.
            given_Chw: Labels that replace those of tokens for which they are not zero.

        Raises:
            ValueError: If it is known by now that a frame before held nan or infinity.
        """
        self._refuse(self.refused_seen)
        slot = 1 + (self.frame - 1) % self.ring
        self._put(frame_hwD, slot)
        out_ZCN = self._propagate()
        if given_Chw is not None:
            given_CN = given_Chw.to(out_ZCN).flatten(1)
            out_ZCN = torch.where(given_CN.any(dim=0), given_CN, out_ZCN)
            self.labels_FZNC[slot] = out_ZCN.mT
        self.refused_seen.copy_(self.refused, non_blocking=True)
        self.frame += 1
        return out_ZCN.unflatten(2, (self.h, self.w)).unbind()

    def finish(self) -> None:
        """After the last frame.

        Raises:
            ValueError: If a frame held nan or infinity.
        """
        self._refuse(self.refused)

    @staticmethod
    def _refuse(refused: Tensor) -> None:
        number = int(refused)
        if number != NEVER:
            raise ValueError(f"features of frame {number} hold nan or infinity; check the encoder")

    def _put(self, frame_hwD: Tensor, slot: int) -> None:
        """Unit vectors of a frame to a slot."""
        frame_hwD = frame_hwD.detach()
        with _device_of(frame_hwD):
            unit_halves[(self.h * self.w,)](
                frame_hwD,
                self.halves_FN2P[slot],
                self.refused,
                self.frame,
                *frame_hwD.stride(),
                self.w,
                self.width,
                SCALE=SCALE,
                LOW_SCALE=LOW_SCALE,
                P=self.padded,
                BLOCK=_power_of_2(self.padded),
            )

    def _propagate(self) -> Tensor:
        """Labels (Z, C, N) of the frame whose unit vectors are in its slot."""
        _, num_settings, num_tokens, num_labels = self.labels_FZNC.shape
        out_ZCN = self.labels_FZNC.new_empty(num_settings, num_labels, num_tokens)
        frames = min(self.frame, self.ring)  # the first one, and up to ring - 1 others
        queries = TILE_HW[0] * TILE_HW[1]
        most = queries * self.ring * self.blocks * BLOCK_KEYS  # similarities of a tile
        step = min(max(1, MAX_SIMILARITIES // most), self.tiles)
        if self.similarity is None:
            self.similarity = out_ZCN.new_empty(step * most)
        bounds = out_ZCN.new_empty(step * queries * self.ring * self.blocks)
        tile = dict(TILE_H=TILE_HW[0], TILE_W=TILE_HW[1], BLOCK_KEYS=BLOCK_KEYS)
        for first in range(0, self.tiles, step):
            tiles = min(step, self.tiles - first)
            place = (
                self.frame, self.ring, frames, first, self.h, self.w,
                self.reach, self.rect_h, self.rect_w, self.blocks,
            )  # fmt: skip
            with _device_of(out_ZCN):
                tile_similarities[(self.blocks, tiles, frames)](
                    self.halves_FN2P,
                    self.similarity,
                    bounds,
                    *place,
                    UNSCALE=SCALE**-2,
                    LOW_UNSCALE=1 / LOW_SCALE,
                    P=self.padded,
                    **tile,
                    BLOCK_P=BLOCK_WIDTH,
                    num_warps=WARPS,
                    num_stages=STAGES,
                )
                gather_labels[(tiles * queries, num_settings)](
                    self.similarity,
                    bounds,
                    self.labels_FZNC,
                    out_ZCN,
                    self.refused,
                    self.options_Z4,
                    self.temperature_Z,
                    *place,
                    num_labels,
                    **tile,
                    BLOCK_BOUNDS=_power_of_2(self.ring * self.blocks),
                    BLOCK_C=_power_of_2(num_labels),
                    num_warps=1 if self.ring * self.blocks <= FEW_BOUNDS else 4,
                )
        return out_ZCN


def _device_of(tensor: Tensor) -> torch.cuda.device:
    """Kernels are launched on the current device, which may be another one than the tensor's."""
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)


def _power_of_2(number: int) -> int:
    """The smallest power of 2 that is not below `number`."""
    return 1 << (number - 1).bit_length()
