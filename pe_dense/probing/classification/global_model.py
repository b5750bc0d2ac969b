"""A frozen encoder and the features of pictures that it gives, each found out once.

Shape legend: B pictures, F width of a feature, S side of the encoder's square.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

import pe_dense
from pe_dense.data.picture import read_picture
from pe_dense.data.picture_input import FITS, fitted, tower_input
from pe_dense.encoders.fingerprint import settings_of, state_sha256
from pe_dense.files import code_sha256, file_sha256
from pe_dense.probing.classification.feature_store import FeatureStore
from pe_dense.probing.classification.global_features import (
    feature_width,
    global_features,
    require_readout,
)
from pe_dense.probing.head_bank import Source, resolve_sources
from pe_dense.results.provenance import library_versions

# Distributions whose code makes features of pictures.
LIBRARIES = ("torch", "timm", "open_clip_torch", "pillow")
CODE = ("encoders", "data")  # folders; and of this one:
READING = ("global_features.py", "global_model.py")


class GlobalFeatureModel(BaseModel):
    """What probes of whole pictures share: pictures in, features of all asked layers out.

    Args:
        backbone: Config of a `DenseBackbone`, or of what has `encoder` and `weights_info`.
        encoder_depth: Number of blocks of the encoder.
        sources: Layers, as in `LayerProbe`.
        readout, norm: See `global_features`.
        fit: 'squash' or 'crop', see `picture_input`.
        side: S in pixels; None: the encoder's own.
        results_dir: Folder in which features are kept; None keeps them in memory.
        images_at_once: Pictures that the encoder sees together.
        threads: That decode ahead; None: 2, and more where the encoder is on another device.
        data_preprocessor, init_cfg: As in MMEngine.

    Raises:
        ValueError: If an option is unknown, the encoder cannot give what is asked, a picture cannot
            be read, or a feature is not finite.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        encoder_depth: int,
        sources: Sequence[Source] | str = (-1,),
        readout: str = "class",
        norm: str = "none",
        fit: str = "crop",
        side: int | None = None,
        results_dir: str | None = None,
        images_at_once: int = 32,
        threads: int | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        if fit not in FITS:
            raise ValueError(f"fit={fit!r} is unknown; choose one of {', '.join(FITS)}")
        for name, number in (("images_at_once", images_at_once), ("threads", threads)):
            if number is not None and number < 1:
                raise ValueError(f"{name}={number} must be at least 1")
        self.sources = resolve_sources(sources, encoder_depth)
        self.layers = tuple(sorted({layer for source in self.sources for layer in source}))
        settings = copy.deepcopy(dict(backbone))
        if settings.get("type") == "DenseBackbone":
            settings.update(out_indices=list(self.layers), frozen=True)
        self.backbone = MODELS.build(settings)
        self.backbone.requires_grad_(False).eval()
        encoder = self.backbone.encoder
        require_readout(encoder, readout, norm)
        if norm == "final":
            _require_final_norm(encoder)
        self.readout, self.norm, self.fit = readout, norm, fit
        self.side = side or encoder.native_hw[0]
        self.results_dir, self.images_at_once, self.threads = results_dir, images_at_once, threads
        self.width = feature_width(encoder.embed_dim, readout)
        self._about: dict[str, Any] | None = None
        self._stores: dict[str, FeatureStore] = {}

    def train(self, mode: bool = True) -> GlobalFeatureModel:
        """Switch mode; the encoder stays in eval."""
        super().train(mode)
        self.backbone.eval()
        return self

    def features(self, infos: Sequence[Mapping[str, Any]]) -> dict[int, Tensor]:
        """Layer -> (B, F) float32 on the CPU, of items of `ClassImages`, also of several lists."""
        found = {layer: torch.empty(len(infos), self.width) for layer in self.layers}
        for key in dict.fromkeys(info["list_sha256"] for info in infos):
            places = [b for b, info in enumerate(infos) if info["list_sha256"] == key]
            some = [infos[b] for b in places]
            values = self.store(some[0]).get(
                self.layers,
                [info["row"] for info in some],
                lambda lacking, some=some: self._encoded([some[n] for n in lacking]),
            )
            for layer, values_nF in values.items():
                found[layer][places] = torch.from_numpy(values_nF)
        return found

    def store(self, info: Mapping[str, Any]) -> FeatureStore:
        """Where the features of the list of an item are kept."""
        key = info["list_sha256"]
        if key not in self._stores:
            about = {**self._depends_on(), "list": key, "turned": not info["as_stored"]}
            self._stores[key] = FeatureStore(
                self.results_dir, {**about, "bits": info["bits"]}, info["num_rows"], self.width
            )
        return self._stores[key]

    def _depends_on(self) -> dict[str, Any]:
        if self._about is None:  # once it is known which weights the run has
            package, encoder = Path(pe_dense.__file__).parent, self.backbone.encoder
            self._about = dict(
                code=[
                    *(code_sha256(package / part) for part in CODE),
                    *(file_sha256(Path(__file__).parent / name) for name in READING),
                ],
                weights=state_sha256(encoder.state_dict(), with_layout=False),
                built=settings_of(encoder),
                libraries=library_versions(LIBRARIES),
                input=[self.fit, self.side],
                read=[self.readout, self.norm, getattr(self.backbone, "amp_dtype", None)],
                device=str(next(self.backbone.parameters()).device.type),
            )
        return self._about

    @torch.no_grad()
    def _encoded(self, infos: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """(n, F) of every layer."""
        encoder, device = self.backbone.encoder, next(self.backbone.parameters()).device
        amp = getattr(self.backbone, "amp_dtype", None)
        dtype = None if amp is None else getattr(torch, amp)
        parts: list[list[Tensor]] = [[] for _ in self.layers]
        for pictures in self._batches(infos, device):
            images = tower_input(pictures, encoder.mean, encoder.std).to(device)
            with torch.autocast(device.type, dtype=dtype, enabled=dtype is not None):
                found = global_features(encoder, images, self.layers, self.readout, self.norm)
            for part, values_nF in zip(parts, found, strict=True):
                part.append(values_nF.float().cpu())
        whole = [torch.cat(part) for part in parts]
        for layer, values_nF in zip(self.layers, whole, strict=True):
            is_bad_n = ~torch.isfinite(values_nF).all(dim=1)
            if bool(is_bad_n.any()):
                name = infos[int(is_bad_n.nonzero()[0])]["image_id"]
                raise ValueError(
                    f"the feature of {name} in layer {layer} is not finite; use other weights, or "
                    "leave --amp out"
                )
        return [values_nF.numpy() for values_nF in whole]

    def _batches(
        self, infos: Sequence[Mapping[str, Any]], device: torch.device
    ) -> Iterator[list[np.ndarray]]:
        """Fitted pictures, some at a time, the next ones being read meanwhile."""
        at_once = self.images_at_once
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

    def _read(self, info: Mapping[str, Any]) -> np.ndarray:
        picture = read_picture(
            info["img_path"], as_stored=info["as_stored"], backend="pillow", bits=info["bits"]
        )
        return fitted(picture, self.side, self.fit)


def _require_final_norm(encoder: nn.Module) -> None:
    """Raises ValueError if the encoder has no final norm; found out before any picture is read."""
    height, width = (encoder.patch_size,) * 2 if encoder.any_size else encoder.native_hw
    device = next(encoder.parameters()).device
    with torch.no_grad():
        try:
            nothing = torch.zeros(1, 3, height, width, device=device)
            encoder.forward_intermediates(nothing, [0], norm=True)
        except ValueError as error:
            raise ValueError(str(error).replace("norm=False", "norm=plain or norm=none")) from None
