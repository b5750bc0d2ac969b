"""Label propagation, fast: labels of the first frame follow similar tokens from frame to frame.

What is computed, and its source, stand in `reference`, which makes all similarities of all tokens
and throws most of them away. This finds the same with less:

* Tiles of queries meet only the part of the context that their neighbourhood can reach.
* All settings share the similarities, and those of one neighbourhood the search for neighbours.
* Tokens at one place in all context frames are searched for together, by their best.
* One neighbour more than k is looked up; only queries where that one ties with the k-th, rare in
  real features, look at every token again.
* Frames stream through a ring of the longest context, and the memory of tiles is used again.

On CUDA devices kernels do it, see `propagation_on_gpu`; what stands here then serves float64 alone.

Shape legend: h w token grid, N = h w tokens, D width, C labels, M context frames, Q queries of a
tile, S context tokens a tile can reach, k neighbours, c places with the best neighbours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pe_dense.kernels import use_kernels
from pe_dense.tracking.reference import PropagationSetting
from pe_dense.tracking.token_tiles import bands, cut, fitting_tile, neighbourhood_bias, reached
from pe_dense.tracking.top_values import top_values

TILE_HW = (10, 13)  # queries; fastest at radius 12 on a CPU, where the product dominates


def propagate_labels(
    frames: Iterable[Tensor],
    first_labels_Chw: Tensor,
    settings: Sequence[PropagationSetting],
    tile_hw: tuple[int, int] = TILE_HW,
    given: Mapping[int, Tensor] | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """Soft labels of all frames after the first, for several settings at once.

    Settings share the similarities, which are most of the work, and where they also share radius
    and neighbourhood the search for neighbours. A frame is taken from `frames` when its labels
    are asked for, and as many stay in memory as the longest context has. Results do not depend
    on which settings are computed together, except in the last digits of a product.

    Args:
        frames: Token features (h, w, D) of one frame after the other, not normalised; computed
            in float64 if the first frame is, else in float32, on its device.
        first_labels_Chw: Labels of the first frame on the token grid, any weights; as a rule 0
            or 1, see `labels_on_grid`.
        settings: One result for each.
        tile_hw: Queries handled together where kernels do not serve; smaller tiles waste less at
            small radii.
        given: Labels (C, h, w) of some later frames, by number of the frame: where a token has
            any, they replace what was propagated to it, in the result and for later frames.

    Yields:
        For each frame from the second on one (C, h, w) per setting, in the order of `settings`.

    Raises:
        ValueError: If there is no setting, or frames differ in shape from each other or from
            the labels, or hold nan or infinity. Kernels notice these while later frames are
            prepared: the error comes with one of the next frames, or the end, and labels are nan
            until then.
    """
    settings = tuple(settings)
    if not settings:
        raise ValueError("settings is empty; pass at least one PropagationSetting")
    if min(tile_hw) < 1:
        raise ValueError(f"tile_hw = {tuple(tile_hw)} must be at least 1 x 1")
    return _stream(frames, first_labels_Chw, settings, tile_hw, given or {})


def propagate_layers(
    maps_of_frames: Iterable[Sequence[Tensor]],
    first_labels_Chw: Tensor,
    settings: Sequence[PropagationSetting],
    given: Mapping[int, Tensor],
    pool: ThreadPoolExecutor | None,
) -> Iterator[list[tuple[Tensor, ...]]]:
    """`propagate_labels` for the maps (h, w, D) of several layers, each layer in a thread.

    Without a pool one comes after the other: a GPU works in the order in which it is asked.
    """
    streams: list[Iterator[tuple[Tensor, ...]]] = []
    for t, maps in enumerate(maps_of_frames):
        if t == 0:
            queues: list[deque[Tensor]] = [deque() for _ in maps]
            streams = [
                propagate_labels(_drained(queue), first_labels_Chw, settings, given=given)
                for queue in queues
            ]
        for queue, map_hwD in zip(queues, maps, strict=True):
            queue.append(map_hwD)
        if t:
            yield list(map(next, streams) if pool is None else pool.map(next, streams))
    for stream in streams:
        next(stream, None)  # there is no further frame: what was seen late is told now


def _drained(queue: deque[Tensor]) -> Iterator[Tensor]:
    while queue:
        yield queue.popleft()


class TiledPropagation:
    """Labels of one frame after the other; the context is a ring of the last frames.

    Slot 0 holds the first frame. `propagation_on_gpu.GpuPropagation` does the same by kernels.

    Args:
        frame_hwD: Tokens of the first frame.
        labels_Chw: Its labels.
        settings: At least one.
        tile_hw: Queries handled together.
    """

    def __init__(
        self,
        frame_hwD: Tensor,
        labels_Chw: Tensor,
        settings: tuple[PropagationSetting, ...],
        tile_hw: tuple[int, int],
    ) -> None:
        dtype = torch.float64 if frame_hwD.dtype == torch.float64 else torch.float32
        like = frame_hwD.new_empty(0, dtype=dtype)
        labels_NC = labels_Chw.detach().to(like).flatten(1).T.contiguous()
        self.settings, self.tile_hw = settings, tile_hw
        self.scratch = _Scratch(like)
        self.ring = max(setting.last_frames for setting in settings)
        self.query_hwD = like.new_empty(frame_hwD.shape)  # of the next frame
        self.features_MhwD = like.new_empty(1 + self.ring, *frame_hwD.shape)
        # One label store for each setting: labels that were propagated differ between them.
        store_shape = len(settings), 1 + self.ring, *labels_NC.shape
        self.labels_SMNC = labels_NC.new_empty(store_shape)
        self.labels_SMNC[:, 0] = labels_NC
        self.frame = 1  # the next one to label
        _normalise(frame_hwD.to(like), 0, self.features_MhwD[0])

    def next_labels(self, frame_hwD: Tensor, given_Chw: Tensor | None) -> tuple[Tensor, ...]:
        """Labels (C, h, w) of the next frame for each setting; the frame joins the context.

        Args:
            frame_hwD: Tokens, of the shape of the first frame.
            given_Chw: Labels that replace those of tokens for which they are not zero.

        Raises:
            ValueError: If the tokens hold nan or infinity.
        """
        _normalise(frame_hwD.to(self.query_hwD), self.frame, self.query_hwD)
        labels_NC = _step(self.query_hwD, self, self.scratch, self.tile_hw)
        if given_Chw is not None:
            given_NC = given_Chw.to(self.query_hwD).flatten(1).T
            replaced_N1 = given_NC.any(dim=1, keepdim=True)
            labels_NC = [torch.where(replaced_N1, given_NC, labels) for labels in labels_NC]
        if self.ring:
            slot = 1 + (self.frame - 1) % self.ring
            self.features_MhwD[slot] = self.query_hwD
            self.labels_SMNC[:, slot] = torch.stack(labels_NC)
        self.frame += 1
        return tuple(labels.T.reshape(-1, *frame_hwD.shape[:2]) for labels in labels_NC)

    def finish(self) -> None:
        """After the last frame; every frame was checked when it came."""

    def slots(self, setting: PropagationSetting) -> list[int]:
        """Slots of the context of the next frame."""
        last = range(max(1, self.frame - setting.last_frames), self.frame)
        return [0, *(1 + (frame - 1) % self.ring for frame in last)]

    @property
    def filled(self) -> int:
        """Frames in the context of the next one."""
        return 1 + min(self.frame - 1, self.ring)


def _stream(frames, first_labels_Chw, settings, tile_hw, given) -> Iterator[tuple[Tensor, ...]]:
    """Generator behind `propagate_labels`."""
    propagation = None
    for number, frame_hwD in enumerate(frames):
        if propagation is None:
            if frame_hwD.ndim != 3 or first_labels_Chw.shape[1:] != frame_hwD.shape[:2]:
                raise ValueError(
                    f"first frame has shape {tuple(frame_hwD.shape)} and its labels "
                    f"{tuple(first_labels_Chw.shape)}; pass (h, w, D) and (C, h, w)"
                )
            shape = frame_hwD.shape
            propagation = _start(frame_hwD, first_labels_Chw, settings, tile_hw)
            continue
        if frame_hwD.shape != shape:
            raise ValueError(
                f"frame {number} has shape {tuple(frame_hwD.shape)}, the first frame "
                f"{tuple(shape)}; pass frames of one size"
            )
        yield propagation.next_labels(frame_hwD, given.get(number))
    if propagation is not None:
        propagation.finish()


def _start(frame_hwD, first_labels_Chw, settings, tile_hw):
    """The way that suits the device and the precision of the first frame."""
    if frame_hwD.dtype != torch.float64 and use_kernels(frame_hwD):
        from pe_dense.tracking.propagation_on_gpu import GpuPropagation

        return GpuPropagation(frame_hwD, first_labels_Chw, settings)
    return TiledPropagation(frame_hwD, first_labels_Chw, settings, tile_hw)


def _normalise(frame_hwD: Tensor, number: int, out: Tensor) -> None:
    """Writes unit vectors, zero where the token is zero; nan and infinity are refused."""
    frame_hwD = frame_hwD.detach()
    norm_hw1 = torch.linalg.vector_norm(frame_hwD, dim=-1, keepdim=True)
    if not norm_hw1.isfinite().all():
        raise ValueError(f"features of frame {number} hold nan or infinity; check the encoder")
    torch.div(frame_hwD, norm_hw1.clamp(min=1e-12), out=out)


class _Scratch:
    """Memory reused by all tiles: fresh pages cost as much time as the copies into them.

    A block is as large as it will ever have to be: what is not used costs no memory.
    """

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.blocks: dict[str, Tensor] = {}

    def take(self, name: str, most: int, *shape: int) -> Tensor:
        """Uninitialised numbers of a shape; `most` is the same for a name at every call."""
        if name not in self.blocks:
            self.blocks[name] = self.like.new_empty(most)
        return self.blocks[name][: math.prod(shape)].view(shape)


@torch.no_grad()
def _step(
    queries_hwD: Tensor, context: TiledPropagation, scratch: _Scratch, tile_hw: tuple[int, int]
) -> list[Tensor]:
    """Labels of the next frame, (N, C) for each setting."""
    h, w, width = queries_hwD.shape
    radii = [setting.radius for setting in context.settings]
    radius = 0 if 0 in radii else max(radii)
    num_labels = context.labels_SMNC.shape[3]
    out_hwC = [queries_hwD.new_empty(h, w, num_labels) for _ in context.settings]
    groups: dict[tuple[int, str], list[int]] = {}
    for i, setting in enumerate(context.settings):
        groups.setdefault(setting.reach, []).append(i)
    num_slots = len(context.features_MhwD)
    tile_h, tile_w = fitting_tile(tile_hw, (h, w), radius, num_slots)
    widest = min(tile_w + 2 * radius, w)
    most = num_slots * tile_h * tile_w * h * w
    if radius:
        most = num_slots * tile_h * tile_w * min(tile_h + 2 * radius, h) * widest
    for columns in bands(w, tile_w):
        near_columns = reached(columns, w, radius)
        # Contiguous columns of the context, once for all tiles below each other.
        strip_MhxD = context.features_MhwD[: context.filled]
        if len(near_columns) < w:
            strip_most = num_slots * h * widest * width
            strip_shape = context.filled, h, len(near_columns), width
            strip_MhxD = scratch.take("strip", strip_most, *strip_shape)
            strip_MhxD.copy_(context.features_MhwD[: context.filled, :, cut(near_columns)])
        for rows in bands(h, tile_h):
            near_rows = reached(rows, h, radius)
            queries_QD = queries_hwD[cut(rows), cut(columns)].reshape(-1, width)
            num_near = len(near_rows) * len(near_columns)
            shape = context.filled, len(queries_QD), num_near
            similarity_MQS = scratch.take("similarity", most, *shape)
            near_MDS = strip_MhxD[:, cut(near_rows)].flatten(1, 2).transpose(1, 2)
            torch.bmm(queries_QD.expand(context.filled, -1, -1), near_MDS, out=similarity_MQS)
            for reach, members in groups.items():
                bias_QS = neighbourhood_bias(rows, columns, near_rows, near_columns, *reach)
                if bias_QS is not None:
                    bias_QS = bias_QS.to(queries_QD)
                tile = _Tile(similarity_MQS, bias_QS, near_rows, near_columns, w)
                for i, labels_QC in tile.labels(context, members):
                    tile_shape = len(rows), len(columns), -1
                    out_hwC[i][cut(rows), cut(columns)] = labels_QC.view(tile_shape)
    return [labels_hwC.flatten(0, 1) for labels_hwC in out_hwC]


class _Neighbours(NamedTuple):
    """The most similar tokens of each query.

    Attributes:
        cosines_Qk: In any order.
        tokens_Qk: Numbers in the context of the tokens with these cosines.
        falling_Qk: The same cosines in falling order.
    """

    cosines_Qk: Tensor
    tokens_Qk: Tensor
    falling_Qk: Tensor


class _Tile:
    """Similarities of a tile of queries with what they reach, and the labels that follow.

    `bias_QS` is 0 within the neighbourhood and -inf outside, None where all is within.
    """

    def __init__(
        self,
        similarity_MQS: Tensor,
        bias_QS: Tensor | None,
        near_rows: range,
        near_columns: range,
        w: int,
    ) -> None:
        self.similarity_MQS, self.bias_QS = similarity_MQS, bias_QS
        device = similarity_MQS.device
        rows = torch.arange(near_rows.start, near_rows.stop, device=device)
        columns = torch.arange(near_columns.start, near_columns.stop, device=device)
        self.tokens_S = (rows[:, None] * w + columns).flatten()

    def labels(self, context: TiledPropagation, members: list[int]) -> Iterator[tuple[int, Tensor]]:
        """Number and (Q, C) labels of the settings of one neighbourhood.

        Settings with the same context share one search, for the largest k of all members, and a
        longer context goes on from the best of the next shorter one, which it contains. One more
        neighbour than k is looked up: if it is as similar as the k-th, there are ties. Rows with
        ties, rare in real features, are done again without a list of neighbours.
        """
        _, frames, num_tokens, num_labels = context.labels_SMNC.shape
        every_XC = context.labels_SMNC.view(-1, num_labels)  # X = settings * frames * tokens
        contexts: dict[tuple[int, ...], list[int]] = {}
        for i in sorted(members, key=lambda i: context.settings[i].last_frames):
            contexts.setdefault(tuple(context.slots(context.settings[i])), []).append(i)
        most = max(context.settings[i].topk for i in members)
        device = every_XC.device
        none_Q0 = self.similarity_MQS.new_empty(self.similarity_MQS.shape[1], 0)
        near = _Neighbours(none_Q0, none_Q0.long(), none_Q0)
        searched: set[int] = set()
        for slots, sharing in contexts.items():
            new_slots = [slot for slot in slots if slot not in searched]
            searched.update(new_slots)
            near = self._nearest(new_slots, most + 1, num_tokens, near)
            falling_Qk, found = near.falling_Qk, near.falling_Qk.shape[1]
            settings = [context.settings[i] for i in sharing]  # Z of them
            last_Z = [min(setting.topk, found) - 1 for setting in settings]
            temperatures_Z11 = none_Q0.new_tensor([s.temperature for s in settings])[:, None, None]
            kth_ZQ1 = falling_Qk[:, last_Z].T[:, :, None]
            # `softmax` takes several times longer where rows are this short.
            weights_ZQk = ((near.cosines_Qk - falling_Qk[:, :1]) / temperatures_Z11).exp_()
            weights_ZQk.masked_fill_(near.cosines_Qk < kth_ZQ1, 0.0)
            weights_ZQk /= weights_ZQk @ weights_ZQk.new_ones(found, 1)
            stores_Z11 = torch.tensor(sharing, device=device)[:, None, None]
            labels_ZQC = F.embedding_bag(
                (near.tokens_Qk + stores_Z11 * (frames * num_tokens)).flatten(0, 1),
                every_XC,
                mode="sum",
                per_sample_weights=weights_ZQk.flatten(0, 1),
            ).view(len(settings), -1, num_labels)
            next_Z = [min(last + 1, found - 1) for last in last_Z]
            tied_ZQ = kth_ZQ1[:, :, 0] == falling_Qk[:, next_Z].T
            any_tied = bool(tied_ZQ.any())
            for z, i in enumerate(sharing):
                if any_tied and next_Z[z] > last_Z[z]:
                    tied_Q = tied_ZQ[z] & kth_ZQ1[z, :, 0].isfinite()
                    if tied_Q.any():
                        labels_ZQC[z, tied_Q] = self._with_ties(
                            settings[z], slots, context.labels_SMNC[i], tied_Q, kth_ZQ1[z, tied_Q]
                        )
                yield i, labels_ZQC[z]

    def _nearest(
        self, slots: list[int], most: int, num_tokens: int, known: _Neighbours
    ) -> _Neighbours:
        """The best tokens of some context frames and of those `known` from others.

        Tokens at one place in all frames are searched for together: the best ones lie at the
        `most` places with the highest peaks over frames, or tie with some that do.
        """
        peaks_QS = self.similarity_MQS[slots[0]]
        if len(slots) > 1:
            peaks_QS = torch.maximum(peaks_QS, self.similarity_MQS[slots[1]])
        for slot in slots[2:]:
            torch.maximum(peaks_QS, self.similarity_MQS[slot], out=peaks_QS)
        if self.bias_QS is not None:
            peaks_QS = peaks_QS + self.bias_QS
        places_Qc = top_values(peaks_QS, most).columns_Rn
        near_QMc = torch.stack([self.similarity_MQS[m].gather(1, places_Qc) for m in slots], dim=1)
        if self.bias_QS is not None:
            near_QMc += self.bias_QS.gather(1, places_Qc)[:, None]
        slots_M1 = torch.tensor(slots, device=places_Qc.device)[:, None]
        tokens_QMc = self.tokens_S[places_Qc][:, None] + slots_M1 * num_tokens
        top = top_values(torch.cat([near_QMc.flatten(1), known.cosines_Qk], dim=1), most)
        tokens_Qn = torch.cat([tokens_QMc.flatten(1), known.tokens_Qk], dim=1)
        tokens_Qk = tokens_Qn.gather(1, top.columns_Rn)
        return _Neighbours(top.values_Rn, tokens_Qk, top.falling_Rn)

    def _with_ties(self, setting, slots, labels_MNC, tied_Q, kth_T1) -> Tensor:
        """(T, C) labels of tied queries from all tokens at least as similar as the k-th."""
        near_MTS = self.similarity_MQS[list(slots)][:, tied_Q]
        if self.bias_QS is not None:
            near_MTS += self.bias_QS[tied_Q]
        best_T1 = near_MTS.amax((0, 2))[:, None]
        total_TC, sum_T1 = 0.0, 0.0
        for slot, near_TS in zip(slots, near_MTS, strict=True):
            weights_TS = ((near_TS - best_T1) / setting.temperature).exp()
            weights_TS.masked_fill_(near_TS < kth_T1, 0.0)
            total_TC = total_TC + weights_TS @ labels_MNC[slot, self.tokens_S]
            sum_T1 = sum_T1 + weights_TS.sum(dim=1, keepdim=True)
        return total_TC / sum_T1
