"""A trained model that is called with pictures: `load(CHECKPOINT)("street.jpg")`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import Image, ImageOps

from pe_dense.predict.predictor import Predictor, Prepared
from pe_dense.predict.results import Result
from pe_dense.predict.text_run import CONFIG, TextRequest, open_text, text_facts
from pe_dense.run.opened_run import open_run
from pe_dense.run.request import RunRequest
from pe_dense.run.saved_run import open_saved
from pe_dense.run.trained_run import TrainedRun

Picture = str | Path | np.ndarray | Image.Image
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def open_trained(
    checkpoint: str | Path,
    config: str | None = None,
    encoder: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> TrainedRun:
    """A checkpoint, or the newest of a work dir, with the config that fits it.

    Args:
        checkpoint: File or work dir.
        config: Config file, for checkpoints that do not hold their own.
        encoder: Replaces the config's encoder.
        options: Overrides of config values.

    Raises:
        ValueError: If they do not fit, or the checkpoint cannot be read.
    """
    if config is None:
        run = open_saved(checkpoint, options)
        if encoder not in (None, run.facts.encoder):
            raise ValueError(
                f"checkpoint {run.file} holds {run.facts.encoder}, not {encoder}; leave --encoder "
                "out"
            )
        return run
    return open_run(RunRequest(config, encoder, options=options), Path(checkpoint))


def load(
    checkpoint: str | Path,
    config: str | None = None,
    device: str | None = None,
    amp: bool = False,
    options: Mapping[str, Any] | None = None,
    prompts: Sequence[str] | None = None,
    weights: str | None = None,
    readout: str | None = None,
    layer: int | None = None,
    threshold: float | None = None,
) -> Model:
    """The model of a checkpoint, or of names; see `pe_dense.load`."""
    if prompts is None:
        given = dict(weights=weights, readout=readout, layer=layer, threshold=threshold)
        for name, value in given.items():
            if value is not None:
                raise ValueError(f"{name}={value!r} goes with prompts; give them, or leave it out")
        return Model(Predictor(open_trained(checkpoint, config, options=options), device, amp))
    asked = TextRequest(
        config or CONFIG, str(checkpoint), weights, prompts, readout, layer, threshold, options
    )
    model = Model(Predictor(open_text(asked), device, amp))
    text_facts(model.predictor.model)  # refuses what is no name
    return model


class Model:
    """A trained model, called with pictures.

    Args:
        predictor: What runs it.

    Attributes:
        task: 'detection', 'segmentation' or 'depth'.
        classes: Names, by label; none for depth.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.task, self.classes = predictor.task, predictor.classes

    @overload
    def __call__(self, pictures: Picture, batch_size: int | None = None) -> Result: ...

    @overload
    def __call__(
        self, pictures: Sequence[Picture], batch_size: int | None = None
    ) -> list[Result]: ...

    def __call__(
        self, pictures: Picture | Sequence[Picture], batch_size: int | None = None
    ) -> Result | list[Result]:
        """The result of a picture, or those of several.

        Args:
            pictures: A path, an array (H, W, 3) of RGB uint8 ((H, W) of grey, or (H, W, 4), whose
                alpha is dropped), a PIL image, or a list of these.
            batch_size: How many run together; default: as in the test.

        Returns:
            `Detections`, `LabelMap` or `DepthMap`, at the size of the picture.

        Raises:
            ValueError: If a picture cannot be read or used; the message names it.
        """
        if isinstance(pictures, str | Path | np.ndarray | Image.Image):
            return self.predictor.predict([self._prepared(pictures)])[0]
        size = batch_size or self.predictor.batch_size
        if size < 1:
            raise ValueError(f"batch_size is {size}; pass 1 or more")
        results: list[Result] = []
        for first in range(0, len(pictures), size):
            batch = [self._prepared(picture) for picture in pictures[first : first + size]]
            results += self.predictor.predict(batch)
        return results

    def _prepared(self, picture: Picture) -> Prepared:
        if isinstance(picture, str | Path):
            return self.predictor.prepare(self.predictor.read(picture), Path(picture))
        if isinstance(picture, Image.Image):
            return self.predictor.prepare(array_of(picture, self.task == "detection"))
        if getattr(picture, "ndim", 0) == 2:
            picture = np.repeat(picture[..., None], 3, axis=2)
        if getattr(picture, "ndim", 0) == 3 and picture.shape[2] == 4:
            picture = picture[..., :3]
        return self.predictor.prepare(picture)


def array_of(picture: Image.Image, is_turned: bool) -> np.ndarray:
    """(H, W, 3) RGB uint8 of a PIL image.

    Args:
        picture: Of 8 bits.
        is_turned: Turn it as its Exif entry says.

    Raises:
        ValueError: If it has more bits, which Pillow cuts off rather than scales.
    """
    if picture.mode not in _EIGHT_BITS:
        raise ValueError(
            f"a PIL image of mode {picture.mode} has no known white; give its file, or convert it "
            "to RGB"
        )
    turned = ImageOps.exif_transpose(picture) if is_turned else picture
    return np.asarray(turned.convert("RGB"))
