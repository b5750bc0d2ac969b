"""A trained model over pictures, prepared and run as its test prepares and runs them.

Shape legend: H W pixels of a picture.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS
from mmengine.structures import BaseDataElement

from pe_dense.data.picture import read_picture
from pe_dense.openmmlab.finite_outputs import RequireFiniteOutputs
from pe_dense.openmmlab.named_pipeline import NamedPipeline
from pe_dense.pixelwise.depth_errors import kb_box
from pe_dense.predict.results import MOST_STEPS, DepthMap, Detections, LabelMap, Result
from pe_dense.run.task import task_of
from pe_dense.run.trained_run import TrainedRun, encoder_settings, trained_model

TASKS = ("detection", "segmentation", "depth")
ANNOTATION_STEPS = ("LoadAnnotations", "LoadPolygons", "LoadDepth")
SCALES = (1000.0, 256.0, 100.0, 10.0, 1.0)  # steps per metre of 16-bit depth


@dataclass(frozen=True, eq=False)
class Prepared:
    """A picture that is ready for the model.

    Attributes:
        image_HW3: As it was read, RGB uint8.
        sample: What the pipeline of the test makes of it.
        file: Where it was read from; None for arrays.
    """

    image_HW3: np.ndarray
    sample: dict[str, Any]
    file: Path | None


class Predictor:
    """A model of detection, segmentation or depth with the pipeline that it is tested with.

    Preparing may happen in several threads at once, running in one.

    Args:
        run: The checkpoint with its config, or a config that trains nothing.
        device: 'cpu', 'cuda', 'cuda:1' ...; None takes the machine's GPU if there is one.
        amp: Run the encoder in bfloat16, also where it was trained without.

    Attributes:
        task: 'detection', 'segmentation' or 'depth'.
        classes: Names, by label; none for depth.
        ids: What the files call each class, by label: 1 to K for detections (see `Detections`),
            else the numbers of the training's label maps.
        batch_size: That of the test.
        device: Where the model is.
        bits: Of 16-bit pictures, as the config says.

    Raises:
        ValueError: If the run is of another task, the device is not here, or the checkpoint does
            not fit.
    """

    def __init__(self, run: TrainedRun, device: str | None = None, amp: bool = False) -> None:
        cfg = run.cfg
        self.task = task_of_pictures(cfg, run)
        if amp:
            encoder_settings(cfg).amp_dtype = "bfloat16"
        where = None if device is None else usable_device(device)
        if where is not None and where.type == "cuda":
            torch.cuda.set_device(where)  # kernels run where the process is
        loader = cfg.test_dataloader
        self.classes = tuple(map(str, cfg.get("classes") or ())) if self.task != "depth" else ()
        self.ids = self._ids(loader.dataset)
        self.batch_size = int(loader.batch_size)
        self.is_amp = bool(amp or run.facts.amp)
        self._read, steps = split_pipeline(loader.dataset.pipeline)
        self.bits = self._read["bits"]
        self._crops = self.task == "depth" and any(s["type"] == "KBCrop" for s in flat(steps))
        model = trained_model(run)
        self._pipeline = NamedPipeline(Compose(steps))
        self._has_views = "tta_model" in cfg
        if self._has_views:
            model = MODELS.build(dict(**copy.deepcopy(cfg.tta_model), module=model)).eval()
        self.model = model if where is None else model.to(where)
        self.device = next(self.model.parameters()).device
        self._palette_K3: np.ndarray | None = None
        if self.task == "segmentation":
            from pe_dense.segmentation.pictures import palette_of  # heavy: mmseg

            self._palette_K3 = palette_of(loader.dataset, self.classes)
        self.steps_per_metre = steps_per_metre(cfg) if self.task == "depth" else 0.0
        source = f"encoder {cfg.encoder}" if run.file is None else f"checkpoint {run.file}"
        self._guard = RequireFiniteOutputs(source)
        self._runner: Any = SimpleNamespace(model=self.model, iter=0)
        self._guard.before_test(self._runner)

    def _ids(self, dataset: Mapping[str, Any]) -> tuple[int, ...]:
        if self.task == "segmentation":
            from pe_dense.segmentation.label_ids import label_ids  # heavy: mmseg

            return label_ids(dataset, self.classes)
        return tuple(range(1, len(self.classes) + 1))

    def read(self, file: str | Path) -> np.ndarray:
        """(H, W, 3) RGB uint8 by the rule of the loaders.

        Raises:
            ValueError: If it is missing or cannot be decoded; see `pe_dense.data.picture`.
        """
        if not Path(file).is_file():
            raise ValueError(f"picture {file} does not exist; check the path")
        return read_picture(file, as_stored=self.task != "detection", **self._read)

    def prepare(self, image_HW3: np.ndarray, file: Path | None = None) -> Prepared:
        """A picture, RGB uint8, as the test's pipeline makes it.

        Raises:
            ValueError: If it is none, or a step of the pipeline cannot take it.
        """
        image_HW3 = as_picture(image_HW3)
        shape = image_HW3.shape[:2]
        results: dict[str, Any] = dict(
            img=cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR), img_shape=shape, ori_shape=shape,
            img_path=str(file or "array"), img_id=0, seg_fields=[],
        )  # fmt: skip
        return Prepared(image_HW3, self._pipeline(results), file)

    def predict(self, prepared: Sequence[Prepared]) -> list[Result]:
        """Results in order; what is padded to one size runs together.

        Raises:
            ValueError: If the model gives NaN or infinite numbers.
        """
        sizes: dict[tuple[int, ...], list[int]] = {}
        for place, item in enumerate(prepared):
            sizes.setdefault(self._padded_size(place, item), []).append(place)
        found: list[Any] = [None] * len(prepared)
        for places in sizes.values():
            items = [prepared[place] for place in places]
            for place, item, sample in zip(places, items, self._run(items), strict=True):
                found[place] = self._result(item, sample)
        return found

    def _padded_size(self, place: int, item: Prepared) -> tuple[int, ...]:
        """What pictures must share to run together.

        Padding beside a larger picture would change what the encoder sees, so that a prediction
        depended on the other pictures of its batch.
        """
        if self._has_views:
            return (place,)
        divisor = getattr(self.model.data_preprocessor, "pad_size_divisor", None) or 1
        height, width = item.sample["inputs"].shape[-2:]
        return -(-height // divisor), -(-width // divisor)

    def predict_batch(
        self, images_HW3: Sequence[np.ndarray], files: Sequence[Path] | None = None
    ) -> list[Result]:
        """Pictures, each (H, W, 3) RGB uint8 of any size, run together -> their results.

        Args:
            images_HW3: As many as fit into memory at once.
            files: Where they were read from, for titles and messages.

        Raises:
            ValueError: As `prepare` and `predict`.
        """
        known = files or [None] * len(images_HW3)
        return self.predict([self.prepare(i, f) for i, f in zip(images_HW3, known, strict=True)])

    def _run(self, items: Sequence[Prepared]) -> list[BaseDataElement]:
        with torch.no_grad():
            samples = self.model.test_step(pseudo_collate([item.sample for item in items]))
        self._guard.after_test_iter(self._runner, 0, None, samples)
        return [sample.cpu() for sample in samples]

    def _result(self, item: Prepared, sample: Any) -> Result:
        known = item.image_HW3, self.classes, item.file
        if self.task == "detection":
            found = sample.pred_instances
            masks = found.get("masks")
            return Detections(
                *known,
                found.bboxes.numpy().astype(np.float64).reshape(-1, 4),
                found.scores.numpy().astype(np.float64),
                found.labels.numpy().astype(np.int64),
                None if masks is None else np.asarray(masks).astype(bool),
            )
        if self.task == "segmentation":
            labels_HW = sample.pred_sem_seg.data[0].numpy().astype(np.int64)
            return LabelMap(*known, labels_HW, self.ids, self._palette_K3)
        depth_HW = sample.pred_depth_map.data[0].float().numpy()
        if self._crops:
            part_HW = depth_HW
            depth_HW = np.full(item.image_HW3.shape[:2], np.nan, np.float32)
            depth_HW[kb_box(*depth_HW.shape).slices] = part_HW
        return DepthMap(*known, depth_HW, self.steps_per_metre)


def task_of_pictures(cfg: Config, run: TrainedRun) -> str:
    """The task of a run that predicts pictures.

    Raises:
        ValueError: For any other.
    """
    task = task_of(cfg)
    if cfg.model.get("type") == "LayerProbe":
        raise ValueError(
            f"checkpoint {run.file} is a probe with many heads on every layer, and no one of them "
            "gives the prediction; train one head on the layer that it chose, with a config of "
            f"configs/{task}/"
        )
    if task not in TASKS:
        raise ValueError(
            f"checkpoint {run.file} is of {task}, and pictures are predicted by {', '.join(TASKS)};"
            " name a checkpoint of one of these"
        )
    return task


def usable_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: If torch does not know it, or finds none.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        here = "cpu" + (f", cuda:0 to cuda:{torch.cuda.device_count() - 1}"
                        if torch.cuda.is_available() else "")  # fmt: skip
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {name} cannot be used ({reason}); here is {here}") from error
    return device


def split_pipeline(steps: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[dict]]:
    """How a pipeline reads pictures (options of `read_picture`), and its other steps.

    Steps that load annotations are left out, also inside of others.

    Raises:
        ValueError: If it does not begin with LoadImage.
    """
    kinds = [step["type"] for step in steps]
    if kinds[:1] != ["LoadImage"]:
        raise ValueError(
            f"the test pipeline begins with {kinds[:1]}, and only pictures that LoadImage reads "
            "are predicted; correct test_dataloader.dataset.pipeline in the config"
        )
    first, *rest = steps
    reads = dict(backend=first.get("imdecode_backend", "cv2"), bits=first.get("bits"))
    return reads, [_without_annotations(step) for step in rest if not _annotates(step)]


def _annotates(step: Mapping[str, Any]) -> bool:
    return step["type"] in ANNOTATION_STEPS


def _without_annotations(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step, and the same of the steps inside of it."""
    found = {**copy.deepcopy(dict(step))}
    if step["type"] == "Compose":
        inner = [s for s in step["transforms"] if not _annotates(s)]
        found["transforms"] = [_without_annotations(s) for s in inner]
    elif step["type"] == "TestTimeAug":
        kept = [[s for s in group if not _annotates(s)] for group in step["transforms"]]
        found["transforms"] = [[_without_annotations(s) for s in group] for group in kept if group]
    return found


def flat(steps: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Steps, and those inside of Compose."""
    found: list[Mapping[str, Any]] = []
    for step in steps:
        found += [step, *flat(step["transforms"] if step["type"] == "Compose" else ())]
    return found


def steps_per_metre(cfg: Mapping[str, Any]) -> float:
    """The finest scale of 16-bit files that holds the depths of a config: millimetres if it can.

    Example:
        >>> steps_per_metre(dict(max_depth=10.0)), steps_per_metre(dict(max_depth=80.0))
        (1000.0, 256.0)
    """
    most = float(cfg.get("max_depth") or 0.0)
    return next((scale for scale in SCALES if most * scale <= MOST_STEPS), SCALES[-1])


def as_picture(image_HW3: np.ndarray) -> np.ndarray:
    """The array as it is, if it is a picture.

    Raises:
        ValueError: If not.
    """
    shape, kind = getattr(image_HW3, "shape", None), getattr(image_HW3, "dtype", None)
    if kind != np.uint8 or shape is None or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise ValueError(
            f"a picture is an array (height, width, 3) of RGB uint8, and this one is {shape} "
            f"{kind}; convert it"
        )
    return np.ascontiguousarray(image_HW3)
