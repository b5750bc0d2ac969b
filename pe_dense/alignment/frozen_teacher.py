"""What all teachers of spatial alignment share: they are frozen, and belong to no checkpoint.

Shape legend: B images, C teacher channels, H W pixels, h w token grid, N = h w tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.encoders.contract import check_choice
from pe_dense.encoders.fingerprint import state_sha256
from pe_dense.openmmlab.backbone import AMP_DTYPES

RESAMPLINGS = ("bilinear", "antialias", "area")


class FrozenTeacher(nn.Module):
    """Gives the tokens that a student is aligned to.

    The network is held without being a submodule: `state_dict`, `parameters`, `modules` and
    `train` of a model that contains the teacher do not see it, so that it is in no checkpoint, no
    optimizer and no gradient bucket; loading a checkpoint strictly asks for none of it. It does
    follow `.to(...)`. Deep copies (as of an averaged model) share it.

    Args:
        network: The frozen network, None for a teacher without one.
        num_channels: C.
        settings: Everything besides weights that changes the tokens, fit for JSON.
        resampling: From the teacher's grid to the student's: 'bilinear' (of the four nearest
            cells), 'antialias' (bilinear, over all cells that a coarser one covers) or 'area'
            (mean over the cells that a coarser one covers).
        amp_dtype: 'bfloat16' or 'float16' runs the network under autocast; None in the precision
            of its weights, also where the student trains under autocast.

    Attributes:
        sha256: Of the weights: of their file where one is known, otherwise of names, shapes and
            values of all tensors.
        needs_samples: Whether `forward` reads `data_samples`.

    Raises:
        ValueError: If the resampling or the precision is unknown.
    """

    needs_samples = False

    def __init__(
        self,
        network: nn.Module | None,
        num_channels: int,
        settings: dict[str, Any],
        resampling: str = "bilinear",
        amp_dtype: str | None = None,
        sha256: str | None = None,
    ) -> None:
        super().__init__()
        check_choice("resampling", resampling, RESAMPLINGS)
        if amp_dtype is not None:
            check_choice("amp_dtype", amp_dtype, tuple(AMP_DTYPES))
        self.num_channels, self.resampling, self.amp_dtype = num_channels, resampling, amp_dtype
        if network is not None:
            network.requires_grad_(False).eval()
        self._held = _Held(network)
        state = {} if network is None else network.state_dict()
        self.sha256 = sha256 or state_sha256(state, with_layout=True)
        self._settings = {
            "type": type(self).__name__,
            **settings,
            "resampling": resampling,
            "amp_dtype": amp_dtype,
        }
        self._has_seen_range = False

    @property
    def network(self) -> Any:
        """The frozen network, or None."""
        return self._held.network

    def facts(self) -> dict[str, Any]:
        """What a checkpoint or a cache keeps of the teacher: its settings and its sha256."""
        return {**self._settings, "sha256": self.sha256}

    @property
    def identity(self) -> str:
        """SHA-256 of `facts`: two teachers with the same one give the same tokens."""
        text = json.dumps(self.facts(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def forward(
        self,
        images_B3HW: Tensor,
        grid_hw: tuple[int, int],
        data_samples: Sequence[Any] | None = None,
    ) -> Tensor:
        """Tokens (B, N, C), float32, row by row on the student's grid; no gradient.

        Args:
            images_B3HW: RGB in 0..1; the teacher normalises by its own mean and deviation.
            grid_hw: The student's grid, which covers the same images.
            data_samples: One per image, for teachers that read annotations.

        Raises:
            ValueError: If the images are none, are not in 0..1 (looked at once), or cannot be cut
                into the grid by square patches.
        """
        if images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3 or not images_B3HW.numel():
            raise ValueError(f"{tuple(images_B3HW.shape)} are no images; pass (B, 3, H, W)")
        check_grid(grid_hw, tuple(images_B3HW.shape[2:]), "student")
        if not self._has_seen_range:  # once, because it waits for the device
            low, high = (v.item() for v in images_B3HW.detach().float().aminmax())
            if not (low >= -0.01 and high <= 1.01):
                raise ValueError(
                    f"images lie in {low:.2f}..{high:.2f}, but a teacher takes RGB in 0..1 and "
                    "normalises itself; pass them before the student's normalisation"
                )
            self._has_seen_range = True
        device, dtype = images_B3HW.device.type, AMP_DTYPES.get(self.amp_dtype or "")
        with torch.no_grad(), torch.autocast(device, dtype, enabled=dtype is not None):
            maps_BChw = self.maps(images_B3HW, grid_hw, data_samples)
        with torch.no_grad(), torch.autocast(device, enabled=False):
            maps_BChw = resample(maps_BChw.float(), grid_hw, self.resampling)
        return maps_BChw.flatten(2).transpose(1, 2)  # (B, N, C)

    def maps(
        self, images_B3HW: Tensor, grid_hw: tuple[int, int], data_samples: Sequence[Any] | None
    ) -> Tensor:
        """Maps (B, C, h', w') that cover the images, on a grid of the teacher's own."""
        raise NotImplementedError

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenTeacher:
        super()._apply(fn, recurse)
        if self.network is not None:
            self.network._apply(fn, recurse)
        return self


class _Held:
    """Keeps a network out of its owner's submodules; copies of the owner share it."""

    def __init__(self, network: nn.Module | None) -> None:
        self.network = network

    def __deepcopy__(self, memo: dict[int, Any]) -> _Held:
        return self


def check_grid(grid_hw: tuple[int, int], image_hw: tuple[int, int], owner: str) -> None:
    """Refuse a grid that no square patches, cut or padded at the border, make of the images.

    Raises:
        ValueError: If so; the message names both sizes.
    """
    ranges = []
    for cells, side in zip(grid_hw, image_hw, strict=True):
        if cells < 1:
            raise ValueError(f"the {owner}'s grid {grid_hw} is empty; pass (h, w) above 0")
        ranges.append((side / (cells + 1), side / (cells - 1) if cells > 1 else float("inf")))
    (low_h, high_h), (low_w, high_w) = ranges
    if max(low_h, low_w) >= min(high_h, high_w):
        raise ValueError(
            f"the {owner}'s grid of {grid_hw[0]} x {grid_hw[1]} tokens cannot be matched to images "
            f"of {image_hw[0]} x {image_hw[1]} pixels, because no square patch gives it; feed "
            "teacher and student the same images"
        )


def resample(maps_BChw: Tensor, grid_hw: tuple[int, int], resampling: str) -> Tensor:
    """Maps on another grid over the same image; pixel centres at half integers.

    Example:
        >>> resample(torch.tensor([[[[1.0, 3.0]]]]), (1, 1), "area").item()
        2.0
    """
    if tuple(maps_BChw.shape[2:]) == tuple(grid_hw):
        return maps_BChw
    if resampling == "area":
        return F.interpolate(maps_BChw, grid_hw, mode="area")
    return F.interpolate(maps_BChw, grid_hw, mode="bilinear", antialias=resampling == "antialias")


def point_grid(points_per_side: int) -> Tensor:
    """Cell centres of a square grid as shares of the image, (P, 2) as x, y, row by row.

    Source: facebookresearch/sam2, `build_point_grid` of its automatic mask generator; written
    from the description.

    Example:
        >>> point_grid(2).tolist()
        [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    """
    if points_per_side < 1:
        raise ValueError(f"points_per_side={points_per_side} is not positive; the paper takes 32")
    centres = (torch.arange(points_per_side) + 0.5) / points_per_side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def normalised(images_B3HW: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(images - mean) / std by channel."""
    mean_311, std_311 = (images_B3HW.new_tensor(v).view(3, 1, 1) for v in (mean, std))
    return (images_B3HW - mean_311) / std_311
