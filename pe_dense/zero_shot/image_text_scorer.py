"""Scores pictures and videos by names and captions; nothing is trained.

Shape legend: B pictures or videos, T frames, H W pixels, S side of the tower's square, D width of
the embedding, K classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement
from torch import Tensor

import pe_dense
from pe_dense.data.image_files import stamp_of
from pe_dense.data.picture import read_picture
from pe_dense.data.picture_input import FITS, fitted, tower_input
from pe_dense.encoders.fingerprint import settings_of, state_sha256
from pe_dense.files import code_sha256
from pe_dense.results.provenance import library_versions
from pe_dense.text_dense.class_vectors import class_vectors
from pe_dense.zero_shot.top_classes import top_classes
from pe_dense.zero_shot.vector_store import VectorStore
from pe_dense.zero_shot.video_frames import read_frames

FRAME_MEANS = ("raw", "unit")
TEXTS_AT_ONCE = 256
# Distributions whose code makes vectors of pictures.
LIBRARIES = ("torch", "timm", "open_clip_torch", "pillow", "av")
# Those of texts, tokenizers among them.
TEXT_LIBRARIES = (
    "torch", "timm", "open_clip_torch", "ftfy", "regex", "transformers", "tokenizers",
)  # fmt: skip


@MODELS.register_module()
class ImageTextScorer(BaseModel):
    """Gives each picture its best classes, or its vector and those of its captions.

    Args:
        backbone: Config of an `ImageTextBackbone`, or what has its members: `encoder`,
            `encode_texts`, `weights_info`, and images to embeddings when called.
        fit: 'squash' or 'crop', see `picture_input`.
        side: S in pixels; None: the encoder's own.
        frame_mean: What of the frames of a video is averaged: 'raw' embeddings, or 'unit' ones.
            PE's evaluation takes raw ones for classes and unit ones for retrieval.
        images_at_once: Pictures that the encoder sees together.
        threads: That decode ahead; None: 2, and more where the encoder is on another device.
        journal_dir: Folder that lets a killed run go on at the next batch; None keeps none.
        results_dir: Folder for vectors that are to be kept, of pictures for other protocols of the
            same pictures and input, and of sentences; None keeps none.
        data_preprocessor, init_cfg: As in MMEngine.

    Raises:
        ValueError: If an option is unknown, a file cannot be read, or a vector is not finite.

    Source: facebookresearch/perception_models @ 3e352cc, apps/pe/clip_benchmark/metrics.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        fit: str = "squash",
        side: int | None = None,
        frame_mean: str = "raw",
        images_at_once: int = 32,
        threads: int | None = None,
        journal_dir: str | None = None,
        results_dir: str | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        for name, value, known in (("fit", fit, FITS), ("frame_mean", frame_mean, FRAME_MEANS)):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(known)}")
        for name, number in (("images_at_once", images_at_once), ("threads", threads)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} must be at least 1")
        self.backbone = MODELS.build(dict(backbone))
        encoder = self.backbone.encoder
        self.fit, self.side, self.frame_mean = fit, side or encoder.native_hw[0], frame_mean
        self.images_at_once, self.threads = images_at_once, threads
        self.journal_dir, self.results_dir = journal_dir, results_dir
        self._store: VectorStore | None = None
        self._text_store: VectorStore | None = None
        self._classes: tuple[Any, Tensor, int] | None = None

    @property
    def written_to(self) -> Path | None:
        """Folder of the vectors that were kept on purpose."""
        return None if self.results_dir is None else Path(self.results_dir)

    def forward(
        self,
        inputs: Any,
        data_samples: Sequence[BaseDataElement] | None = None,
        mode: str = "predict",
    ) -> Sequence[BaseDataElement]:
        """As MMEngine asks; only 'predict' is there, and `inputs` is not used."""
        if mode != "predict" or data_samples is None:
            raise ValueError(f"nothing is trained here: mode {mode!r} is not 'predict'")
        infos = [sample.metainfo for sample in data_samples]
        found = self.by_class(infos) if "target" in infos[0] else self.by_caption(infos)
        for sample, fields in zip(data_samples, found, strict=True):
            for name, value in fields.items():
                sample.set_field(value, name)
        return data_samples

    @torch.no_grad()
    def by_class(self, infos: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Best classes of items of `ClassFolders`: top, score and num_cut of each."""
        classes_KD, num_cut = self._class_vectors(infos[0])
        target_B = torch.tensor([info["target"] for info in infos])
        images_BD = F.normalize(self._vectors(infos), dim=-1)
        found = top_classes(images_BD, classes_KD, target_B, silent=infos[0]["silent"])
        return [
            {"top": top_J, "score": score_J, "num_cut": num_cut}
            for top_J, score_J in zip(
                found.class_NJ.numpy(), found.score_NJ.double().numpy(), strict=True
            )
        ]

    @torch.no_grad()
    def by_caption(self, infos: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Vectors of items of `CaptionedPictures`: vector, text_vectors and num_cut of each."""
        images_BD = self._vectors(infos)
        if infos[0]["media"] == "image":
            images_BD = F.normalize(images_BD, dim=-1)
        texts = [caption for info in infos for caption in info["captions"]]
        texts_ND, num_cut = self._texts(texts)
        texts_ND = F.normalize(texts_ND, dim=-1)
        counts = [len(info["captions"]) for info in infos]
        parts = zip(images_BD, texts_ND.split(counts), strict=True)
        rows = [{"vector": v, "text_vectors": t, "num_cut": 0} for v, t in parts]
        rows[0]["num_cut"] = num_cut
        return rows

    # ---- texts -----------------------------------------------------------------------------------

    def _class_vectors(self, info: Mapping[str, Any]) -> tuple[Tensor, int]:
        """(K, D) of unit length, found out once; and how many sentences were cut."""
        key = info["class_names"], info["templates"]
        if self._classes is None or self._classes[0] != key:
            cut = [0]

            def encode(texts: Sequence[str]) -> Tensor:
                vectors_BD, num_cut = self.backbone.encode_texts(texts)
                cut[0] += num_cut
                return self._finite("text", vectors_BD.cpu(), texts)

            names = list(dict.fromkeys(info["class_names"]))  # a name that stands twice counts once

            def find_out() -> tuple[Tensor, int]:
                return class_vectors(encode, names, info["templates"], TEXTS_AT_ONCE), cut[0]

            vectors, num_cut = self._kept_texts(["classes", names, info["templates"]], find_out)
            place = {name: k for k, name in enumerate(names)}
            self._classes = key, vectors[[place[name] for name in info["class_names"]]], num_cut
        return self._classes[1], self._classes[2]

    def _texts(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        return self._kept_texts(["texts", texts], lambda: self._encoded_texts(texts))

    def _kept_texts(
        self, of: Sequence[Any], find_out: Callable[[], tuple[Tensor, int]]
    ) -> tuple[Tensor, int]:
        """Vectors of texts, and how many were cut, which is kept as a row behind them."""
        if self._text_store is None:
            parts = ("encoders", "zero_shot", "text_dense", "data")
            self._text_store = self._new_store(parts, TEXT_LIBRARIES)

        def with_count() -> Tensor:
            vectors_ND, num_cut = find_out()
            assert num_cut < 2**24, "float32 counts no further"
            return torch.cat([vectors_ND, vectors_ND.new_full((1, vectors_ND.shape[1]), num_cut)])

        rows = self._text_store.get(of, with_count)
        return rows[:-1], int(rows[-1, 0])

    def _encoded_texts(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        parts, total = [], 0
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            some = texts[start : start + TEXTS_AT_ONCE]
            vectors_BD, num_cut = self.backbone.encode_texts(some)
            parts.append(self._finite("text", vectors_BD.cpu(), some))
            total += num_cut
        return torch.cat(parts), total

    # ---- pictures --------------------------------------------------------------------------------

    def _vectors(self, infos: Sequence[Mapping[str, Any]]) -> Tensor:
        """(B, D) float32 on the CPU; of a video the mean over its frames."""
        of = [[info["image_id"], *stamp_of(info["img_path"])] for info in infos]
        settings = [infos[0][name] for name in ("media", "num_frames", "as_stored", "bits")]
        return self._opened_store().get([settings, *of], lambda: self._encoded(infos))

    def _opened_store(self) -> VectorStore:
        if self._store is None:
            settings = [self.fit, self.side, self.frame_mean]
            self._store = self._new_store(("encoders", "zero_shot", "data"), LIBRARIES, settings)
        return self._store

    def _new_store(
        self, parts: Sequence[str], libraries: Sequence[str], settings: Sequence[Any] = ()
    ) -> VectorStore:
        """A store of vectors that depend on these parts of the package and these libraries."""
        folder = self.results_dir or self.journal_dir
        about: dict[str, Any] = {}
        if folder is not None:  # once it is known which weights the run has
            package = Path(pe_dense.__file__).parent
            about = dict(
                code=[code_sha256(package / part) for part in parts],
                weights=state_sha256(self.backbone.state_dict(), with_layout=False),
                built=settings_of(self.backbone),
                libraries=library_versions(libraries),
                input=list(settings),
                device=str(next(self.parameters()).device.type),
            )
        return VectorStore(folder, about)

    def _encoded(self, infos: Sequence[Mapping[str, Any]]) -> Tensor:
        encoder, device = self.backbone.encoder, next(self.parameters()).device
        counts, parts = [], []
        for pictures in self._batches(infos, device):
            frames = [frame for item in pictures for frame in item]
            counts += [len(item) for item in pictures]
            for start in range(0, len(frames), self.images_at_once):
                images = tower_input(
                    frames[start : start + self.images_at_once], encoder.mean, encoder.std
                )
                parts.append(self.backbone(images.to(device)).cpu())
        frames_ND = torch.cat(parts)
        if self.frame_mean == "unit":
            frames_ND = F.normalize(frames_ND, dim=-1)
        vectors_BD = torch.stack([frames.mean(dim=0) for frames in frames_ND.split(counts)])
        return self._finite("picture", vectors_BD, [info["image_id"] for info in infos])

    def _batches(
        self, infos: Sequence[Mapping[str, Any]], device: torch.device
    ) -> Iterator[list[list[np.ndarray]]]:
        """Fitted frames of some items at a time, the next ones being read meanwhile."""
        per_item = infos[0]["num_frames"] if infos[0]["media"] == "video" else 1
        at_once = max(1, self.images_at_once // per_item)
        threads = self.threads or (2 if device.type == "cpu" else min(8, os.cpu_count() or 2))
        with ThreadPoolExecutor(threads) as pool:
            ahead = [pool.submit(self._read, info) for info in infos[: 2 * at_once]]
            for start in range(0, len(infos), at_once):
                stop = start + at_once
                ahead += [
                    pool.submit(self._read, info)
                    for info in infos[stop + at_once : stop + 2 * at_once]
                ]
                some, ahead = ahead[:at_once], ahead[at_once:]
                yield [task.result() for task in some]

    def _read(self, info: Mapping[str, Any]) -> list[np.ndarray]:
        if info["media"] == "video":
            frames = read_frames(Path(info["img_path"]), info["num_frames"])
        else:
            frames = [
                read_picture(
                    info["img_path"],
                    as_stored=info["as_stored"],
                    backend="pillow",
                    bits=info["bits"],
                )
            ]
        return [fitted(frame, self.side, self.fit) for frame in frames]

    def _finite(self, what: str, vectors_BD: Tensor, names: Sequence[str]) -> Tensor:
        is_bad_B = ~torch.isfinite(vectors_BD).all(dim=1)
        if bool(is_bad_B.any()):
            name = names[int(is_bad_B.nonzero()[0])]
            raise ValueError(f"the vector of {what} {name!r} is not finite; its tower is broken")
        return vectors_BD
