"""Losses of many heads at the resolution of the labels, without the large logits.

Every function returns one loss a head; the sum of them is what is differentiated, so that the
gradient of a head is that of its own loss. Gradients are made on the way, a few heads at a time,
and kept at token resolution.

Shape legend: B images, P heads, K outputs, h w token grid, H W pixels, R rows of one band.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pe_dense.pixelwise.upsampled_loss import first_derivative_only, interpolation_matrix

# Upsampled logits that exist at a time; on the CPU a band should stay in the caches.
BAND_NUMEL = {"cpu": 2**19, "default": 2**25}
# Natural logarithms. A pixel mixes four tokens and the nearest has a weight of 1/4 or more, so that
# within this spread its best class stays above exp(-0.75 * 100), which float32 can still hold.
SAFE_SPREAD = 100.0


class LabelMaps:
    """Label maps of a batch with all that heads on one token grid share; made once a batch.

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
        self.num_counted = int(self.counted_BHW.sum())
        if self.num_counted:
            used = labels_BHW[self.counted_BHW]
            low, high = int(used.min()), int(used.max())
            if low < 0 or high >= num_classes:
                raise ValueError(
                    f"labels hold {low} to {high} beside the ignored {ignore_index}, but there are "
                    f"{num_classes} classes; check reduce_zero_label and the class count"
                )
        self._grids: dict[tuple[int, int], _TokenGrid] = {}

    def on_grid(self, h: int, w: int, like: Tensor) -> _TokenGrid:
        """The maps as seen from h x w tokens."""
        if (h, w) not in self._grids:
            self._grids[h, w] = self._grid(h, w, like)
        return self._grids[h, w]

    def _grid(self, h: int, w: int, like: Tensor) -> _TokenGrid:
        height, width = self.labels_BHW.shape[1:]
        budget = BAND_NUMEL.get(like.device.type, BAND_NUMEL["default"])
        band = max(1, min(budget // (self.num_classes * width), -(-height // h)))
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


class _TokenGrid(NamedTuple):
    """Bands of pixel rows, columns of the upsampling, downsampled labels, heads in a chunk."""

    bands: list[tuple[slice, slice, Tensor]]
    columns_Ww: Tensor
    target_BKhw: Tensor
    at_once: int


class _HeadCrossEntropy(torch.autograd.Function):
    """Sum over the pixels of the cross-entropy of every head.

    Three things make a pixel cheap. The largest logit of every token is subtracted before the
    upsampling, so that no maximum is sought at full resolution. The logits of the annotated
    classes are linear in the token logits: their sum is a product with the downsampled one-hot
    labels, which all heads share. And the gradient needs the same exponentials as the loss.
    """

    @staticmethod
    def forward(ctx, logits_BPKhw: Tensor, maps: LabelMaps) -> Tensor:
        tokens = logits_BPKhw.detach().float()
        tokens = tokens - tokens.amax(2, keepdim=True)
        heads = tokens.shape[1]
        grid = maps.on_grid(*tokens.shape[3:], tokens)
        wide_P = (tokens.amin((0, 2, 3, 4)) < -SAFE_SPREAD).tolist()
        wants_grad = ctx.needs_input_grad[0]
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
        ctx.save_for_backward(grad)
        ctx.dtype = logits_BPKhw.dtype
        return totals_P.float()

    @staticmethod
    def backward(ctx, grad_P: Tensor) -> tuple[Tensor | None, None]:
        (grad,) = ctx.saved_tensors
        if grad is None:
            return None, None
        scaled = grad * grad_P[:, None, None, None]
        return first_derivative_only(scaled.to(ctx.dtype)), None


def _bands(rows_Hh: Tensor, band: int) -> list[tuple[slice, slice, Tensor]]:
    """Pixel rows, the token rows that they depend on, and the (R, h') weights between them.

    A band has at most `band` rows and lies between the centres of two token rows, so that h' is 1
    or 2 where tokens are coarser than pixels, and the products with the weights are cheap.
    """
    used_Hh = (rows_Hh != 0).cpu()
    first_H = used_Hh.int().argmax(1).tolist()
    last_H = (used_Hh.shape[1] - used_Hh.flip(1).int().argmax(1)).tolist()  # exclusive
    found, start = [], 0
    for end in range(1, len(rows_Hh) + 1):
        if end < len(rows_Hh):
            is_same_cell = last_H[end] - first_H[start] <= 2
            if is_same_cell and end - start < band:
                continue
        tokens = slice(first_H[start], last_H[end - 1])
        found.append((slice(start, end), tokens, rows_Hh[start:end, tokens].contiguous()))
        start = end
    return found


def _downsampled_labels(
    labels_HW: Tensor,
    counted_HW: Tensor,
    bands: list[tuple[slice, slice, Tensor]],
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


def head_cross_entropy(
    logits_BPKhw: Tensor,
    labels: LabelMaps | Tensor,
    ignore_index: int = 255,
    average_counted: bool = False,
) -> Tensor:
    """Mean cross-entropy of every head, its logits upsampled bilinearly to the label map.

    For each head the number and gradient of `pixelwise.upsampled_loss.upsampled_cross_entropy`.

    Args:
        logits_BPKhw: Token logits (B, P, K, h, w), any floating type; computed in float32, also
            under autocast.
        labels: Classes (B, H, W), 0 to K - 1 or `ignore_index`; or `LabelMaps` of them, which
            several calls share.
        ignore_index: Pixels of this label add nothing; that of `LabelMaps` where they are given.
        average_counted: Divide by the number of other pixels; False divides by all, as mmseg.

    Returns:
        (P,); 0 if no pixel counts. A head with nan or infinite logits gets nan, the rest do not.

    Raises:
        ValueError: If shapes do not fit or a label is out of range.
        RuntimeError: If the gradient is differentiated again.
    """
    maps = labels
    if isinstance(labels, Tensor):
        maps = LabelMaps(labels, logits_BPKhw.shape[2], ignore_index)
    if logits_BPKhw.ndim != 5 or len(logits_BPKhw) != len(maps.labels_BHW):
        raise ValueError(
            f"logits {tuple(logits_BPKhw.shape)} and labels {tuple(maps.labels_BHW.shape)} are not "
            "(B, P, K, h, w) and (B, H, W) of one batch"
        )
    with torch.autocast(logits_BPKhw.device.type, enabled=False):
        totals_P = _HeadCrossEntropy.apply(logits_BPKhw, maps)
    return totals_P / max(maps.num_counted if average_counted else maps.labels_BHW.numel(), 1)


class _HeadByHead(torch.autograd.Function):
    """A loss of every head, each computed with its gradient before the next begins."""

    @staticmethod
    def forward(ctx, logits_BPKhw: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
        wants_grad = ctx.needs_input_grad[0]
        grad = torch.empty_like(logits_BPKhw) if wants_grad else None
        losses = []
        for p in range(logits_BPKhw.shape[1]):
            with torch.set_grad_enabled(wants_grad):
                logits_BKhw = logits_BPKhw[:, p].detach().requires_grad_(wants_grad)
                value = loss(logits_BKhw)
            if grad is not None:
                (grad[:, p],) = torch.autograd.grad(value, logits_BKhw)
            losses.append(value.detach())
        ctx.save_for_backward(grad)
        return torch.stack(losses)

    @staticmethod
    def backward(ctx, grad_P: Tensor) -> tuple[Tensor | None, None]:
        (grad,) = ctx.saved_tensors
        if grad is None:
            return None, None
        return first_derivative_only(grad * grad_P[:, None, None, None]), None


def losses_head_by_head(logits_BPKhw: Tensor, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """(P,) values of `loss`, a function from (B, K, h, w) to a scalar, with their gradients.

    What the function keeps for its backward pass exists for one head at a time. Their gradients
    cannot be differentiated again.
    """
    return _HeadByHead.apply(logits_BPKhw, loss)
