"""A teacher that ran before: its tokens come from a cache, its network is not needed any more.

tools/cache_teacher.py fills the caches that a config names, and the config then trains from them.

Shape legend: B images, C teacher channels, h w token grid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DATASETS, MODELS
from torch import Tensor

from pe_dense.alignment.frozen_teacher import FrozenTeacher
from pe_dense.alignment.teacher_cache import (
    MANIFEST,
    CacheSpec,
    FillReport,
    TeacherCache,
    fill_teacher_cache,
    log,
    view_of_tokens,
)
from pe_dense.alignment.token_code import code_of

_FILL = "fill it: python tools/cache_teacher.py CONFIG"


@MODELS.register_module()
class CachedTeacher(FrozenTeacher):
    """Tokens of another teacher, read from its cache and cut to what an augmented view shows.

    It stands in for running that teacher on the view, see `view_of_tokens`. The images must carry
    the SHA-256 of their files (hash_images=True of the data set). Checkpoints keep the facts of the
    teacher that filled the cache, with the sha256 of its weights.

    Args:
        folder: The cache.
        teacher: Config of the teacher that fills it. It is not built here; what the cache says of
            its teacher must agree with it.
        grid_hw: Token grid of the whole image.
        image_hw: Size in pixels to which the whole image is stretched for the teacher.

    Raises:
        ValueError: If the folder holds no cache, or that of another teacher, grid, size or code.
    """

    needs_samples = True

    def __init__(
        self,
        folder: str | Path,
        teacher: Mapping[str, Any],
        grid_hw: Sequence[int],
        image_hw: Sequence[int],
    ) -> None:
        spec = spec_in(Path(folder))
        wanted = {
            "grid_hw": tuple(grid_hw),
            "image_hw": tuple(image_hw),
            **{key: value for key, value in teacher.items() if key in spec.teacher},
        }
        found = {"grid_hw": spec.grid_hw, "image_hw": spec.image_hw, **spec.teacher}
        for key, value in wanted.items():
            if found[key] != value:
                raise ValueError(
                    f"teacher cache {folder} was made with {key}={found[key]}, and the config has "
                    f"{value}; name another folder, or restore the config"
                )
        kind = MODELS.get(teacher["type"]) if isinstance(teacher.get("type"), str) else None
        if kind is not None and spec.code != code_of(kind, CacheSpec):
            raise ValueError(
                f"teacher cache {folder} was made by other code of {kind.__name__} than is here "
                "now; fill another folder, or go back to that code"
            )
        settings = {"cache": dict(grid_hw=list(spec.grid_hw), image_hw=list(spec.image_hw))}
        super().__init__(None, spec.num_channels, settings, sha256=spec.teacher["sha256"])
        self.cache = TeacherCache(folder, spec)

    def facts(self) -> dict[str, Any]:
        """Those of the teacher that filled the cache, and grid and image size of the cache."""
        return {**self.cache.spec.teacher, "cache": self._settings["cache"]}

    def check_image_set(self, image_set_sha256: str | None) -> None:
        """Refuse other images than those that the cache was filled with.

        Raises:
            ValueError: If they are others.
        """
        known = self.cache.spec.image_set
        if image_set_sha256 != known:
            raise ValueError(
                f"teacher cache {self.cache.folder} belongs to another image set (sha256 {known}, "
                f"not {image_set_sha256}); train on that one, or fill a cache in another folder"
            )

    def maps(
        self, images_B3HW: Tensor, grid_hw: tuple[int, int], data_samples: Sequence[Any] | None
    ) -> Tensor:
        """What the views show, (B, C, h, w), on the student's grid."""
        if not data_samples or any(s.get("image_sha256") is None for s in data_samples):
            raise ValueError(
                f"images carry no SHA-256 by which teacher cache {self.cache.folder} knows them; "
                "set train_dataloader.dataset.hash_images=True"
            )
        tokens_BNC = self.cache.read_batch(
            [s.image_sha256 for s in data_samples], [s.img_path for s in data_samples]
        )
        view_BNC = view_of_tokens(
            tokens_BNC.to(images_B3HW.device),
            self.cache.spec.grid_hw,
            torch.tensor([s.view_yxyx for s in data_samples]),
            torch.tensor([s.flip for s in data_samples]),
            grid_hw,
        )
        return view_BNC.transpose(1, 2).unflatten(2, tuple(grid_hw))


def spec_in(folder: Path) -> CacheSpec:
    """What the cache of a folder belongs to, by its manifest.

    Raises:
        ValueError: If there is none.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content |= {key: tuple(content[key]) for key in ("grid_hw", "image_hw")}
        return CacheSpec(**content)
    except FileNotFoundError:
        raise ValueError(f"teacher cache {folder} is not there; {_FILL}") from None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no manifest of a teacher cache ({error}); {_FILL}") from error


def fill_caches(
    cfg: Mapping[str, Any],
    device: str | torch.device = "cpu",
    batch_size: int = 1,
    part: tuple[int, int] = (0, 1),
    estimate_only: bool = False,
    announce: Callable[[str], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> dict[str, FillReport]:
    """Fill the caches of all `CachedTeacher`s of a config, one after the other.

    Args:
        cfg: A config for tools/train.py, resolved.
        device: Where teachers run.
        batch_size: Images that a teacher takes at once.
        part: (index, count): this process takes every count-th image.
        estimate_only: Say the sizes and stop; folder and manifest are made.
        announce: Takes the estimates; None logs them.
        on_progress: Called with (images done, images to do) of the teacher at work.

    Returns:
        What was done, by name of the teacher.

    Raises:
        ValueError: If the config has no such teacher, or as `fill_teacher_cache`.
    """
    wanted = [t for t in cfg["model"].get("teachers", ()) if t["type"] == "CachedTeacher"]
    if not wanted:
        raise ValueError(
            "the config has no teacher of type CachedTeacher; see "
            "configs/alignment/spatial_align_b16_one_gpu_cached.py"
        )
    images = DATASETS.build(cfg["train_dataloader"]["dataset"])
    reports = {}
    for config in wanted:
        teacher = MODELS.build(dict(config["teacher"]))
        grid_hw, image_hw = tuple(config["grid_hw"]), tuple(config["image_hw"])
        spec = CacheSpec.of(teacher, grid_hw, image_hw, images.image_set_sha256)
        cache = TeacherCache(config["folder"], spec)
        if estimate_only:
            (announce or log)(cache.estimate(len(images)))
            reports[config["name"]] = FillReport(num_found=cache.num_images())
            continue
        reports[config["name"]] = fill_teacher_cache(
            cache, teacher, images, batch_size, device, part, announce, on_progress
        )
    return reports
