"""Label propagation as a model that MMEngine's test loop drives, one video after the other.

The encoder sees every frame once, in batches; all layers and settings follow from that pass.
Label maps are scored as they appear, and none is kept. What is computed stands in `reference`, how
it is done fast in `label_propagation`.

Other roles have files of their own: `annotated_video` reads a video, `frame_scorer` makes label
maps and scores, `layer_choice` selects, `video_journal` keeps what was found.

Shape legend: B frames of a batch, H W pixels, L layers, S settings, K objects, h w token grid, D
width.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from pe_dense.encoders.contract import resolve_indices
from pe_dense.encoders.fingerprint import state_sha256
from pe_dense.files import code_sha256
from pe_dense.kernels import use_kernels
from pe_dense.tracking.annotated_video import read_annotated_video
from pe_dense.tracking.frame_scorer import FrameScorer, QueuedScores
from pe_dense.tracking.frames import SIZE_RULES, frame_batches, network_size
from pe_dense.tracking.label_propagation import propagate_layers
from pe_dense.tracking.layer_choice import InUse, LayerChoice
from pe_dense.tracking.object_statistics import object_statistics
from pe_dense.tracking.reference import PropagationSetting
from pe_dense.tracking.video_journal import (
    ResultsFolder,
    VideoJournal,
    free_folder,
    run_key,
    video_key,
)

MAX_THREADS = 8  # by default; more only keep the thread that starts the GPU's work from its turn


@MODELS.register_module()
class VideoPropagator(BaseModel):
    """Masks of the first frame follow similar tokens, for all layers and settings in one pass.

    Nothing is trained. Videos of the purpose 'select' come first and are run under all layers and
    settings; the best J&F over their objects is then used, alone, for the videos to report.
    Without such videos all layers and settings are reported.

    Args:
        backbone: Config of a backbone such as `DenseBackbone` (`out_indices` and `frozen` are
            set here), or an encoder as in `pe_dense.encoders.contract.Encoder` that is a module.
        encoder_depth: Number of blocks of the encoder.
        settings: Arguments of each `PropagationSetting`.
        layers: Blocks, 0-based, negatives allowed; 'all' is every one, 'middle' the one that two
            thirds of the depth reach, where trained encoders track well (arXiv:2504.13181, table
            36: the last blocks are worse).
        listed_depth: Depth of encoder that `layers` was written for; another one is refused,
            because the layers would be others. None skips this.
        size_rule, short_side: See `pe_dense.tracking.frames.network_size`.
        upsample: 'patch' as DINO (bilinear by the patch size, best label, nearest to the native
            size), 'image' as DINOv3's paper (bilinear to the native size, best label) or 'nearest'
            as DINOv3's notebook (each pixel takes its token's labels, best label). The first mask
            is sampled to tokens as by the source of the rule, see `labels_on_grid`.
        stretch: Stretch each label to 0..1 before the best is taken, as DINO and DINOv3's notebook
            do; see `label_map_from_soft`.
        batch_size: Frames that the encoder sees together. None: 4, and on a GPU more where they are
            small, about 16,000 tokens.
        threads: Frames, label maps and, on a CPU, layers worked on at a time. None: 2, and as many
            as there are processors, up to 8, where the encoder is on another device.
        journal_dir: Folder that lets a killed run go on at the next video; None keeps none.
        results_dir: New folder for indexed PNGs of the videos to report or write, at their native
            size. Needs one layer and setting: only one, or a selection. None writes none.
        number_results: A folder that is not empty is left alone, and RESULTS_DIR-2, -3 ... is
            taken, or the one that a killed run began.
        data_preprocessor, init_cfg: As in MMEngine.

    Raises:
        ValueError: If an option, layer, setting or depth does not fit.

    Source: facebookresearch/dino @ 7c446df, eval_video_segmentation.py; arXiv:2508.10104 and
    facebookresearch/dinov3 @ 6876159, notebooks/segmentation_tracking.ipynb.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any] | nn.Module,
        encoder_depth: int,
        settings: Sequence[Mapping[str, Any]],
        layers: Sequence[int] | str = (-1,),
        listed_depth: int | None = None,
        size_rule: str = "dino",
        short_side: int = 480,
        upsample: str = "patch",
        stretch: bool = True,
        batch_size: int | None = None,
        threads: int | None = None,
        journal_dir: str | None = None,
        results_dir: str | None = None,
        number_results: bool = False,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if listed_depth is not None and listed_depth != encoder_depth:
            raise ValueError(
                f"the layers were listed for an encoder of {listed_depth} blocks, but this one has "
                f"{encoder_depth}; set layers='all', or list layers and listed_depth anew"
            )
        if isinstance(layers, str):
            if layers not in ("all", "middle"):
                raise ValueError(f"layers is {layers!r}; use 'all', 'middle' or a list of blocks")
            layers = range(encoder_depth) if layers == "all" else [middle_block(encoder_depth)]
        self.layers = tuple(resolve_indices(list(layers), encoder_depth))
        self.settings = tuple(PropagationSetting(**setting) for setting in settings)
        for name, values in (("layers", self.layers), ("settings", self.settings)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} is empty or names one twice; list each once")
        for name, value, known in (
            ("size_rule", size_rule, SIZE_RULES),
            ("upsample", upsample, ("patch", "image", "nearest")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}")
        for name, number in (("batch_size", batch_size), ("threads", threads)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} must be at least 1")
        if isinstance(backbone, nn.Module):
            self.backbone = backbone.requires_grad_(False).eval()
            self._encoder_facts: Any = type(backbone).__name__
        else:
            built = {**backbone, "out_indices": list(self.layers), "frozen": True}
            self.backbone = MODELS.build(built)
            self._encoder_facts = {
                k: str(v) for k, v in built.items() if k not in ("weights", "frozen")
            }
        self.size_rule, self.short_side = size_rule, short_side
        self.upsample, self.stretch = upsample, stretch
        self.batch_size, self.threads = batch_size, threads
        self.journal_dir, self.results_dir = journal_dir, results_dir
        self.number_results = number_results
        self._journal: VideoJournal | None = None
        self._results: ResultsFolder | None = None
        self._choice = LayerChoice(self.layers, self.settings)

    def init_weights(self) -> None:
        """There is nothing to draw; the encoder keeps what it loaded."""
        if hasattr(self.backbone, "init_weights"):
            self.backbone.init_weights()
        self._is_init = True

    def train(self, mode: bool = True) -> VideoPropagator:
        """Switch mode; the encoder stays in eval."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "predict",
    ) -> Sequence[BaseDataElement]:
        """As MMEngine asks; only 'predict' is there, and `inputs` is not used."""
        if mode != "predict" or data_samples is None:
            raise ValueError(f"label propagation is not trained: mode {mode!r} is not 'predict'")
        for sample in data_samples:
            for name, value in self.propagate(sample.metainfo).items():
                sample.set_field(value, name)
        return data_samples

    @torch.no_grad()
    def propagate(self, video: Mapping[str, Any]) -> dict[str, Any]:
        """Scores of the objects of one video, an item of `DavisVideos`.

        Returns:
            objects: names of the K objects; layers, settings: those that were run, as numbers
            of blocks and places in `settings`; statistics: (L, S, K, 6) in the order of
            `object_statistics.STATISTICS`, None where the video is not scored; chosen: whether
            layer and setting come from a selection.

        Raises:
            ValueError: If a file is missing, broken or of another size, or the first mask is
                empty where all objects must be in it.
        """
        self._open_folders()
        use = self._choice.in_use(video["purpose"])
        writes = self._results is not None and video["purpose"] != "select"
        if not writes and not video["scored"]:
            raise ValueError(
                f"video {video['video']!r} has no masks to score with, and nothing is written; set "
                "results_dir to a new folder for its masks"
            )
        if writes and len(use.layers) * len(use.settings) > 1:
            raise ValueError(
                f"results_dir={self.results_dir} takes one layer and setting, not "
                f"{len(self.layers)} x {len(self.settings)}; name one, or select on other videos"
            )
        key = video_key(video)
        known = None if self._journal is None else self._journal.read(video["video"], key)
        same_use = known is not None and known["use"] == [list(u) for u in use]
        if same_use and (not writes or self._results.has_all(video)):
            return self._finish(video, known, use)
        objects, statistics_LSK6 = self._run(video, use, writes)
        found = dict(
            use=[list(u) for u in use],
            objects=list(objects),
            statistics=None if statistics_LSK6 is None else statistics_LSK6.tolist(),
        )
        if self._journal is not None:
            self._journal.write(video["video"], key, found)
        return self._finish(video, found, use)

    @property
    def written_to(self) -> Path | None:
        """Folder of the label maps that were written; None where none were."""
        return None if self._results is None else self._results.folder

    def _finish(
        self, video: Mapping[str, Any], found: Mapping[str, Any], use: InUse
    ) -> dict[str, Any]:
        """What `propagate` returns; keeps the statistics that the choice is made from."""
        statistics = found["statistics"]
        if statistics is not None:
            shape = len(use.layers), len(use.settings), len(found["objects"]), 6
            statistics = np.array(statistics, np.float64).reshape(shape)
            if video["purpose"] == "select":
                self._choice.add(statistics)
        return dict(
            objects=tuple(found["objects"]),
            layers=tuple(self.layers[i] for i in use.layers),
            settings=use.settings,
            statistics=statistics,
            chosen=self._choice.chosen is not None,
        )

    def _open_folders(self) -> None:
        """Claim the folders, once it is known which weights the run has."""
        if self._journal is not None or self._results is not None:
            return
        if self.journal_dir is None and self.results_dir is None:
            return
        key = run_key(
            dict(
                code=code_sha256(Path(__file__).parents[1]),
                encoder=self._encoder_facts,
                weights=state_sha256(self.backbone.state_dict(), with_layout=False),
                layers=self.layers,
                settings=[vars(setting) for setting in self.settings],
                size=[self.size_rule, self.short_side],
                output=[self.upsample, self.stretch],
            )
        )
        if self.results_dir is not None:
            go_on = self.journal_dir is not None and Path(self.journal_dir).is_dir()
            folder = Path(self.results_dir)
            if self.number_results:
                folder = free_folder(folder, key if go_on else None)
            self._results = ResultsFolder(folder, key, go_on)
        if self.journal_dir is not None:
            self._journal = VideoJournal(Path(self.journal_dir), key)

    def _run(
        self, video: Mapping[str, Any], use: InUse, writes: bool
    ) -> tuple[tuple[str, ...], np.ndarray | None]:
        """Names of the scored objects and their statistics (L, S, K, 6)."""
        annotated = read_annotated_video(video)
        encoder = getattr(self.backbone, "encoder", self.backbone)
        patch, device = encoder.patch_size, next(self.backbone.parameters()).device
        threads = self.threads or reading_threads(device)
        size_hw = network_size(annotated.native_hw, patch, self.size_rule, self.short_side)
        grid_hw = size_hw[0] // patch, size_hw[1] // patch
        sampling = "pillow" if self.upsample == "patch" else "torch"  # of first masks
        given = annotated.later_labels(grid_hw, sampling)
        scorer = FrameScorer(
            annotated,
            patch if self.upsample == "patch" else None,
            self.stretch,
            self._results if writes else None,
            self.upsample == "nearest",
        )
        scorer.write_first()
        batches = frame_batches(
            annotated.frame_paths,
            annotated.native_hw,
            size_hw,
            self.size_rule,
            encoder.mean,
            encoder.std,
            self.batch_size or frames_together(device, grid_hw[0] * grid_hw[1]),
            threads,
            video["bits"],
            device,
        )
        on_cpu = device.type == "cpu"
        first_Chw = annotated.first_labels(grid_hw, sampling).to(device)
        with ThreadPoolExecutor(threads) as pool:
            soft_labels = propagate_layers(
                self._maps(batches, use.layers),
                first_Chw,
                [self.settings[i] for i in use.settings],
                {t: labels.to(device) for t, labels in given.items()},
                pool if on_cpu else None,
            )
            queue = score_queue(scorer, pool, 1 if on_cpu else 2 * threads, first_Chw)
            for t, soft_LS in enumerate(soft_labels, start=1):
                queue.add(t, soft_LS)
            scores = queue.finish()  # (L, S, K, 2) of each frame
        if not annotated.scored:
            return tuple(str(k + 1) for k in range(annotated.num_objects)), None
        statistics_LSK6 = object_statistics(np.stack([s for s in scores if s is not None]))
        scored_K = ~np.isnan(statistics_LSK6[0, 0, :, 0])
        absent = [k + 1 for k in np.flatnonzero(~scored_K & (annotated.starts_K >= 0)).tolist()]
        if absent:
            print_log(
                f"video {annotated.name!r}: objects {absent} are annotated in no frame that "
                "counts, and are left out",
                logger="current",
            )
        names = tuple(str(k + 1) for k in np.flatnonzero(scored_K))
        return names, statistics_LSK6[:, :, scored_K]

    def _maps(
        self, batches: Iterator[Tensor], use_layers: tuple[int, ...]
    ) -> Iterator[list[Tensor]]:
        """(h, w, D) of every layer in use, frame by frame."""
        for batch_B3HW in batches:
            if hasattr(self.backbone, "encoder"):
                every = self.backbone(batch_B3HW)
                maps = [every[i] for i in use_layers]
            else:
                blocks = [self.layers[i] for i in use_layers]
                maps = self.backbone.forward_intermediates(batch_B3HW, blocks)
            for b in range(len(batch_B3HW)):
                yield [map_BDhw[b].permute(1, 2, 0) for map_BDhw in maps]


def middle_block(depth: int) -> int:
    """The block, 0-based, that two thirds of so many reach.

    Example:
        >>> middle_block(12), middle_block(24), middle_block(1)
        (7, 15, 0)
    """
    return max(round(depth * 2 / 3) - 1, 0)


def score_queue(scorer: FrameScorer, pool: ThreadPoolExecutor, most: int, like: Tensor) -> Any:
    """Where and how frames are scored: by kernels where they are used, else by the threads."""
    if use_kernels(like):
        from pe_dense.tracking.scores_on_gpu import GpuScores

        return GpuScores(scorer, pool, most)
    return QueuedScores(scorer, pool, most)


def frames_together(device: torch.device, tokens: int) -> int:
    """Frames of so many tokens each that the encoder takes at a time.

    Small batches leave a GPU idle: starting the operations of a block takes longer than doing them.
    """
    return 4 if device.type == "cpu" else max(4, 2**14 // tokens)


def reading_threads(device: torch.device) -> int:
    """Where the encoder leaves the processors to reading and scoring, these get them."""
    return 2 if device.type == "cpu" else max(2, min(os.cpu_count() or 2, MAX_THREADS))
