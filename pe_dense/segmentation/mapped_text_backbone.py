"""Any encoder whose patches a fitted linear map takes into the space of a tower's texts.

Shape legend: B images, C width of the encoder, H W pixels, h w patch grid, D width of embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from pe_dense.encoders.build import build_loaded
from pe_dense.encoders.contract import check_choice, resolve_indices
from pe_dense.encoders.fingerprint import state_sha256
from pe_dense.files import file_sha256
from pe_dense.text_dense.linear_map import LinearMap, mapped_patches
from pe_dense.text_dense.map_file import MapFacts, load_map, require_made_for

READOUT = "map"
AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@MODELS.register_module()
class MappedTextBackbone(BaseModule):
    """A frozen encoder, the text tower of another, and the map between them.

    Args:
        encoder: Whose patches are labelled; any of the zoo.
        weights: Of it: 'random', 'released', a path, or 'hf://repo[@revision][:file]'.
        texts: Config of an `ImageTextBackbone` or what has its members; its pictures are embedded
            where a map is fitted, its texts where one is used.
        text_encoder: Its name, which the map must have been fitted for.
        layer: Block that is mapped, negatives allowed.
        map_file: See `text_dense.map_file`; None where one is to be fitted.
        map_rule: What the map must have been fitted by.
        shuffle_seed: None, or that of the control which the map must be.
        amp_dtype: 'bfloat16' or 'float16' runs the encoder under autocast; the map is float32.
        init_cfg: Must stay None.

    Raises:
        ValueError: If the file is no map, or one for anything else than this.
    """

    def __init__(
        self,
        encoder: str,
        weights: str,
        texts: Mapping[str, Any],
        text_encoder: str,
        layer: int = -1,
        map_file: str | None = None,
        map_rule: Mapping[str, Any] | None = None,
        shuffle_seed: int | None = None,
        amp_dtype: str | None = None,
        init_cfg: None = None,
    ) -> None:
        if init_cfg is not None:
            raise ValueError("MappedTextBackbone takes no init_cfg; name the file in weights=...")
        if amp_dtype is not None:
            check_choice("amp_dtype", amp_dtype, tuple(AMP_DTYPES))
        super().__init__()
        self.amp_dtype = amp_dtype
        self.encoder, self.weights_info = build_loaded(encoder, weights)
        (self.layer,) = resolve_indices([layer], self.encoder.depth)
        self.texts = MODELS.build(dict(texts))
        self.made_for = dict(
            encoder=encoder,
            weights_sha256=sha256_of(self.encoder, self.weights_info.sha256),
            layer=self.layer,
            text_encoder=text_encoder,
            text_weights_sha256=sha256_of(self.texts, self.texts.weights_info.sha256),
            rule=_plain(map_rule or {}),
            shuffle_seed=shuffle_seed,
        )
        self.map_facts: MapFacts | None = None
        if map_file is not None:
            path = Path(map_file).expanduser()
            found, self.map_facts = load_map(path)
            self._map_sha256 = file_sha256(path)
            require_made_for(self.map_facts, path, **self.made_for)
            if found.weight_CD.shape[0] != self.encoder.embed_dim:
                raise ValueError(
                    f"map {path} takes features of width {found.weight_CD.shape[0]}, and {encoder} "
                    f"has {self.encoder.embed_dim}; fit it again"
                )
            self.register_buffer("map_weight", found.weight_CD, persistent=False)
            self.register_buffer("map_offset", found.offset_D, persistent=False)
        self.requires_grad_(False)
        self.eval()

    @property
    def patch_reader(self) -> MapReader:
        """What reads patches through the map."""
        return MapReader(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a record, or a folder of predictions, should say of the map."""
        if self.map_facts is None:
            return ()
        return (f"{self.map_facts.in_words()}, file {self._map_sha256[:12]}",)

    def init_weights(self) -> None:
        """There is nothing to draw; encoder and towers keep what they loaded."""
        self._is_init = True

    def train(self, mode: bool = True) -> MappedTextBackbone:
        """Everything stays in eval."""
        return super().train(False)

    def encode_texts(self, texts: Sequence[str]) -> tuple[Tensor, int]:
        """Those of the text tower: (B, D), and how many were cut."""
        return self.texts.encode_texts(texts)

    def features(self, images_B3HW: Tensor) -> Tensor:
        """(B, C, h, w) float32 of the block that is mapped, of normalised images."""
        with self.precision(images_B3HW.device):
            (found_BChw,) = self.encoder.forward_intermediates(images_B3HW, (self.layer,))
        return found_BChw.float()

    def embeddings(self, images_B3HW: Tensor) -> Tensor:
        """(B, D) of unit length: the same images as the tower of the texts sees them.

        Args:
            images_B3HW: Normalised for the encoder; resized to the square of the tower, bilinear
                and antialiased, whatever their shape, as PE Core's own input is.
        """
        tower = self.texts.encoder
        pixels_B3HW = images_B3HW * _column(self.encoder.std, images_B3HW)
        pixels_B3HW += _column(self.encoder.mean, images_B3HW)
        fitted_B3SS = F.interpolate(
            pixels_B3HW, size=tower.native_hw, mode="bilinear", antialias=True, align_corners=False
        )
        inputs_B3SS = (fitted_B3SS - _column(tower.mean, images_B3HW)) / (
            _column(tower.std, images_B3HW)
        )
        return F.normalize(self.texts(inputs_B3SS).float(), dim=-1)

    def precision(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context that the encoder runs in."""
        if self.amp_dtype is None:
            return nullcontext()
        return torch.autocast(device.type, dtype=AMP_DTYPES[self.amp_dtype])


class MapReader:
    """Patches through the map of a backbone.

    Args:
        backbone: With a map, unless nothing is read.
    """

    readouts = (READOUT,)

    def __init__(self, backbone: MappedTextBackbone) -> None:
        self.backbone, self.depth = backbone, backbone.encoder.depth

    def look(self, images_B3HW: Tensor) -> Tensor:
        """The features that are mapped."""
        if self.backbone.map_facts is None:
            raise ValueError(
                "no map is named; fit one with tools/fit_text_map.py, and name it with "
                "--cfg-options map_file=FILE"
            )
        return self.backbone.features(images_B3HW)

    def embeddings(self, looked: Tensor, readout: str, layer: int) -> Tensor:
        """(B, D, h, w) of unit length, float32.

        Raises:
            ValueError: If the map is of another block.
        """
        check_choice("readout", readout, self.readouts)
        if layer != self.backbone.layer:
            raise ValueError(
                f"the map is of block {self.backbone.layer}, not {layer}; leave --layer out, or "
                "set layer=... and fit one for it"
            )
        mapping = LinearMap(self.backbone.map_weight, self.backbone.map_offset)
        with torch.autocast(looked.device.type, enabled=False):
            return mapped_patches(mapping, looked)


def sha256_of(model: torch.nn.Module, sha256: str) -> str:
    """Of the file of a model's weights; of its tensors where they were drawn."""
    if sha256 != "random":
        return sha256
    return state_sha256(model.state_dict(), with_layout=False)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


def _plain(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A rule as JSON has it."""
    return {
        str(key): list(value) if isinstance(value, list | tuple) else value
        for key, value in rule.items()
    }
