"""Cross-entropy of token logits against full-resolution label maps, without the large logits.

One head or many: a linear head trained alone is the case of one head. The gradient is made on the
way, with the same exponentials as the loss, and kept at token resolution.

Shape legend: B images, P heads, K classes, h w token grid, H W pixels, R rows of one band.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pe_dense.kernels import use_kernels
from pe_dense.pixelwise.known_gradient import with_gradient

# Upsampled logits that exist at a time; on the CPU a band should stay in the caches.
BAND_NUMEL = {"cpu": 2**19, "default": 2**25}
# Natural logarithms. A pixel mixes four tokens and the nearest has a weight of 1/4 or more, so that
# within this spread its best class stays above exp(-0.75 * 100), which float32 can still hold.
SAFE_SPREAD = 100.0


def reference_cross_entropy(
    logits_BKhw: Tensor, labels_BHW: Tensor, ignore_index: int = 255, average_counted: bool = False
) -> Tensor:
    """What `upsampled_cross_entropy` computes for one head, slow and with all large logits."""
    logits_BKHW = F.interpolate(logits_BKhw, labels_BHW.shape[1:], mode="bilinear")
    total = F.cross_entropy(
        logits_BKHW, labels_BHW.long(), ignore_index=ignore_index, reduction="sum"
    )
    return total / ((labels_BHW != ignore_index).sum() if average_counted else labels_BHW.numel())


def band_numel(device: torch.device) -> int:
    """Upsampled logits that exist at a time on a device."""
    return BAND_NUMEL.get(device.type, BAND_NUMEL["default"])


def interpolation_matrix(num_in: int, num_out: int, like: Tensor) -> Tensor:
    """(num_out, num_in) float32 weights of bilinear interpolation along one axis.

    That of `F.interpolate(..., align_corners=False)`; every row sums to 1.

    Example:
        >>> interpolation_matrix(2, 4, torch.zeros(1)).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    eye = torch.eye(num_in, device=like.device)[None]
    return F.interpolate(eye, size=num_out, mode="linear", align_corners=False)[0].T.contiguous()


class LabelMaps:
    """Label maps of a batch with all that heads on one token grid share; made once per batch.

    Args:
        labels_BHW: Classes (B, H, W), 0 to `num_classes` - 1 or `ignore_index`.
        num_classes: K.
        ignore_index: Pixels of this label add nothing.

    Raises:
        ValueError: If the shape does not fit or a label is out of range.
    """

    def __init__(self, labels_BHW: Tensor, num_classes: int, ignore_index: int = 255) -> None:
        if labels_BHW.ndim != 3:
            raise ValueError(f"labels of shape {tuple(labels_BHW.shape)} are not (B, H, W)")
        self.labels_BHW, self.num_classes = labels_BHW, num_classes
        self.counted_BHW = labels_BHW != ignore_index
        used_BHW = torch.where(self.counted_BHW, labels_BHW, 0)
        asked = (self.counted_BHW.sum(), used_BHW.min(), used_BHW.max())
        self.num_counted, low, high = torch.stack([n.long() for n in asked]).tolist()
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"labels hold {low} to {high} beside the ignored {ignore_index}, but there are "
                f"{num_classes} classes; check reduce_zero_label and the class count"
            )
        self._grids: dict[tuple[int, int], _TokenGrid] = {}
        self._targets: dict[tuple[int, int], Tensor] = {}

    @property
    def ignored(self) -> int:
        """What `compact` has where a pixel does not count."""
        return 255 if self.num_classes <= 255 else -1

    @functools.cached_property
    def compact(self) -> Tensor:
        """The label maps (B, H, W) in as few bytes as hold the classes, for kernels."""
        dtype = torch.uint8 if self.num_classes <= 255 else torch.int32
        return torch.where(self.counted_BHW, self.labels_BHW, self.ignored).to(dtype).contiguous()

    def target(self, h: int, w: int) -> Tensor:
        """(B, h, w, K) float32: transposed upsampling of the one-hot labels, made by a kernel."""
        if (h, w) not in self._targets:
            from pe_dense.pixelwise.upsampled_loss_kernel import one_hot_target

            self._targets[h, w] = one_hot_target(self.compact, self.num_classes, (h, w))
        return self._targets[h, w]

    def on_grid(self, h: int, w: int, like: Tensor) -> _TokenGrid:
        """The maps as seen from h x w tokens."""
        if (h, w) not in self._grids:
            self._grids[h, w] = self._grid(h, w, like)
        return self._grids[h, w]

    def _grid(self, h: int, w: int, like: Tensor) -> _TokenGrid:
        height, width = self.labels_BHW.shape[1:]
        budget = band_numel(like.device)
        # On the CPU a band depends on few token rows, so that products with their weights are
        # cheap; a GPU would rather have few large bands.
        most = -(-height // h) if like.device.type == "cpu" else height
        band = max(1, min(budget // (self.num_classes * width), most))
        at_once = max(1, budget // (self.num_classes * width * band))
        bands = _bands(interpolation_matrix(h, height, like), band)
        columns_Ww = interpolation_matrix(w, width, like)
        target_BKhw = torch.stack(
            [
                _downsampled_labels(labels, counted, bands, columns_Ww, self.num_classes, h)
                for labels, counted in zip(self.labels_BHW, self.counted_BHW, strict=True)
            ]
        )
        return _TokenGrid(bands, columns_Ww, target_BKhw, at_once)


class _Band(NamedTuple):
    """Pixel rows, the token rows that they depend on, and the (R, h') weights between them."""

    pixels: slice
    tokens: slice
    rows_Rh: Tensor


class _TokenGrid(NamedTuple):
    """Bands of pixel rows, columns of the upsampling, downsampled labels, heads in a chunk."""

    bands: list[_Band]
    columns_Ww: Tensor
    target_BKhw: Tensor
    at_once: int


def _bands(rows_Hh: Tensor, band: int) -> list[_Band]:
    """Bands of at most `band` rows, the first of half as many.

    Where `band` is the height of a token, all then lie between the centres of two token rows.
    """
    used_Hh = (rows_Hh != 0).cpu()
    found = []
    cuts = [0, *range(-(-band // 2), len(rows_Hh), band), len(rows_Hh)]
    for pixels in map(slice, cuts, cuts[1:]):
        used = used_Hh[pixels].any(0).nonzero()
        tokens = slice(int(used[0]), int(used[-1]) + 1)
        found.append(_Band(pixels, tokens, rows_Hh[pixels, tokens].contiguous()))
    return found


def _downsampled_labels(
    labels_HW: Tensor,
    counted_HW: Tensor,
    bands: list[_Band],
    columns_Ww: Tensor,
    classes: int,
    h: int,
) -> Tensor:
    """(K, h, w): transposed upsampling of the one-hot labels, 0 where ignored."""
    width = labels_HW.shape[1]
    wide_hKW = columns_Ww.new_zeros(h, classes * width)
    for pixels, tokens, rows_Rh in bands:
        counted_R1W = counted_HW[pixels, None]
        index_R1W = torch.where(counted_R1W, labels_HW[pixels, None], 0).long()
        one_hot = columns_Ww.new_zeros(len(rows_Rh), classes, width)
        one_hot.scatter_(1, index_R1W, counted_R1W.to(one_hot.dtype))
        wide_hKW[tokens] += rows_Rh.T @ one_hot.flatten(1)
    return (wide_hKW.view(h, classes, width) @ columns_Ww).transpose(0, 1)


def upsampled_cross_entropy(
    logits: Tensor,
    labels: LabelMaps | Tensor,
    ignore_index: int = 255,
    average_counted: bool = False,
) -> Tensor:
    """Mean cross-entropy of logits upsampled bilinearly to the label map, of one head or of many.

    The same number and gradient as `reference_cross_entropy`, but only a band of pixel rows exists
    at a time, a few heads of it: memory does not grow with the resolution of the labels. On CUDA
    Triton kernels keep one number for every pixel and head, and no logit.

    Args:
        logits: Token logits (B, K, h, w), or (B, P, K, h, w) of P heads, any floating type;
            computed in float32, also under autocast.
        labels: Classes (B, H, W), 0 to K - 1 or `ignore_index`; or `LabelMaps` of them, which
            several calls share.
        ignore_index: Pixels of this label add nothing; that of `LabelMaps` where they are given.
        average_counted: Divide by the number of other pixels; False divides by all pixels, as
            mmseg does by default and its published recipes therefore do.

    Returns:
        A scalar, or (P,) with many heads; 0 (with a gradient of 0) if no pixel counts. A head with
        nan or infinite logits gets nan, the others do not.

    Raises:
        ValueError: If shapes do not fit or a label is out of range.
        RuntimeError: If the gradient is differentiated again.
    """
    labels_BHW = labels if isinstance(labels, Tensor) else labels.labels_BHW
    if logits.ndim not in (4, 5) or labels_BHW.ndim != 3 or len(logits) != len(labels_BHW):
        raise ValueError(
            f"logits {tuple(logits.shape)} and labels {tuple(labels_BHW.shape)} are not "
            "(B, K, h, w) or (B, P, K, h, w) and (B, H, W) of one batch"
        )
    maps = LabelMaps(labels, logits.shape[-3], ignore_index) if labels is labels_BHW else labels
    logits_BPKhw = logits if logits.ndim == 5 else logits[:, None]
    wants_grad = logits.requires_grad and torch.is_grad_enabled()
    with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
        if use_kernels(logits):
            totals_P, grad = _totals_of_kernels(logits_BPKhw, maps, wants_grad)
        else:
            totals_P, grad = _totals_and_gradient(logits_BPKhw, maps, wants_grad)
    totals_P = with_gradient(logits_BPKhw, totals_P.float(), grad)
    losses_P = totals_P / max(maps.num_counted if average_counted else labels_BHW.numel(), 1)
    return losses_P if logits.ndim == 5 else losses_P[0]


def _totals_of_kernels(
    logits_BPKhw: Tensor, maps: LabelMaps, wants_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """What `_totals_and_gradient` gives; no logit of a pixel is ever in memory."""
    from pe_dense.pixelwise.upsampled_loss_kernel import totals_and_gradient

    h, w = logits_BPKhw.shape[3:]
    target_BhwK = maps.target(h, w) if wants_grad else None
    return totals_and_gradient(
        logits_BPKhw.detach(), maps.compact, maps.ignored, target_BhwK, SAFE_SPREAD
    )


def _totals_and_gradient(
    logits_BPKhw: Tensor, maps: LabelMaps, wants_grad: bool
) -> tuple[Tensor, Tensor | None]:
    """Sum over the pixels of the cross-entropy of every head (P,), and its gradient.

    Three things make a pixel cheap. The largest logit of every token is subtracted before the
    upsampling, so that no maximum is sought at full resolution. The logits of the annotated
    classes are linear in the token logits: their sum is a product with the downsampled one-hot
    labels, which all heads share. And the gradient needs the same exponentials as the loss.
    """
    tokens = logits_BPKhw.float()
    tokens = tokens - tokens.amax(2, keepdim=True)
    heads = tokens.shape[1]
    grid = maps.on_grid(*tokens.shape[3:], tokens)
    wide_P = (tokens.amin((0, 2, 3, 4)) < -SAFE_SPREAD).tolist()
    grad = torch.empty_like(tokens) if wants_grad else None
    own_BP = torch.einsum(
        "bpn,bn->bp", tokens.flatten(2).double(), grid.target_BKhw.flatten(1).double()
    )
    totals_P = -own_BP.sum(0)
    for b, counted_HW in enumerate(maps.counted_BHW):
        for low in range(0, heads, grid.at_once):
            part = slice(low, low + grid.at_once)
            sums_p, grad_pKhw = _log_sums(
                tokens[b, part], counted_HW, grid, any(wide_P[part]), wants_grad
            )
            totals_P[part] += sums_p
            if grad is not None:
                grad[b, part] = grad_pKhw - grid.target_BKhw[b]
    return totals_P, grad


def _log_sums(
    tokens_PKhw: Tensor,
    counted_HW: Tensor,
    grid: _TokenGrid,
    wide_spread: bool,
    wants_grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """Sum of log sum exp over counted pixels (P,), and its gradient (P, K, h, w)."""
    heads, classes, h, _ = tokens_PKhw.shape
    bands, columns_Ww = grid.bands, grid.columns_Ww
    width = len(columns_Ww)
    weights_HW = counted_HW.to(tokens_PKhw.dtype)
    # Token rows first: upsampling of a band is then one product for all heads and classes.
    across = (tokens_PKhw.permute(2, 0, 1, 3) @ columns_Ww.T).reshape(h, -1)  # (h, P * K * W)
    grad_across = torch.zeros_like(across) if wants_grad else None
    # One array for all bands: fresh pages would cost more than what is computed in them.
    longest = max(len(rows_Rh) for _, _, rows_Rh in bands)
    band_RN = across.new_empty(longest, across.shape[1])
    total_P = across.new_zeros(heads, dtype=torch.float64)
    for pixels, tokens, rows_Rh in bands:
        flat_RN = torch.mm(rows_Rh, across[tokens], out=band_RN[: len(rows_Rh)])
        logits = flat_RN.view(-1, heads, classes, width)  # (R, P, K, W)
        weights_R1W = weights_HW[pixels, None]
        top = None
        if wide_spread:
            top = logits.amax(2, keepdim=True)
            logits -= top
        odds = logits.exp_()
        sum_RP1W = odds.sum(2, keepdim=True)
        log_RPW = sum_RP1W.log()[:, :, 0]
        if top is not None:
            log_RPW += top[:, :, 0]
        # nan stays within its head; a band is short enough to be summed in float32.
        total_P += (log_RPW * weights_R1W).sum((0, 2))
        if grad_across is not None:
            odds *= weights_R1W[:, :, None] / sum_RP1W  # softmax, 0 where ignored
            grad_across[tokens].addmm_(rows_Rh.T, flat_RN)
    if grad_across is None:
        return total_P, None
    grad_hPKw = grad_across.view(h, heads, classes, width) @ columns_Ww
    return total_P, grad_hPKw.permute(1, 2, 0, 3)
