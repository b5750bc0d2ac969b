"""The model that spatial alignment trains: a student, its frozen teachers, and their losses.

Source: Perception Encoder (arXiv:2504.13181), section and appendix on spatial alignment. PE Spatial
G learns from a block of PE core G (token cosine) and from mask logits of SAM 2.1 (pairwise
similarity), the smaller models from PE Spatial G alone: pairwise similarity as it is, token cosine
behind a linear layer that matches widths. The loss is on all tokens, masked or not; teachers see
the same images without masks. The training code is not released.

Shape legend: B images, C student width, D teacher width, H W pixels, h w token grid, N = h w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from pe_dense.alignment.batch_drop_path import draw_paths, replace_drop_paths
from pe_dense.alignment.frozen_teacher import normalised
from pe_dense.alignment.image_random import image_generators
from pe_dense.alignment.losses import TokenCosineLoss
from pe_dense.alignment.masking import TokenMasking, block_masks, masked_patches, patch_embedding
from pe_dense.alignment.student import add_layer_scale
from pe_dense.encoders.contract import resolve_indices

MASKS, PATHS = 4, 5  # streams of random numbers
PROJECTIONS = ("auto", "linear", "none")


@MODELS.register_module()
class SpatialAligner(BaseModel):
    """Aligns the maps of a student to those of teachers.

    The state dict holds the student ('backbone.'), projections and a learned mask token; teachers
    are in none. Masks and DropPath follow from the seed and the place of an image in the training,
    so that any number of processes and any accumulation draws alike.

    Args:
        backbone: Config of the student, a `DenseBackbone`; `encoder_options` has its
            `drop_path_rate` (0.4 in the paper).
        teachers: Configs of `FrozenTeacher`s, each with its own 'name'.
        losses: Configs of losses, each with a 'name' (the term is 'loss_<name>'), the name of its
            'teacher', and optionally:
            layer: Block of the student, -1 by default; must be in the backbone's out_indices.
            projection: 'linear' puts a linear layer between student and loss, which is trained
                along and dropped at export. 'auto' (default) does so for `TokenCosineLoss` where
                widths differ. 'none' never does.
        masking: Arguments of `TokenMasking`, without embed_dim; None masks nothing.
        layer_scale: Gain of LayerScale that is added to a student without one; None adds none.
        data_preprocessor: Must give RGB in 0..1; default: `ImgDataPreprocessor` that does so from
            BGR bytes.
        init_cfg: Must stay None.

    Raises:
        ValueError: If names clash or are unknown, a layer does not come out of the student, or
            widths differ without a projection.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        teachers: Sequence[Mapping[str, Any]],
        losses: Sequence[Mapping[str, Any]],
        masking: Mapping[str, Any] | None = None,
        layer_scale: float | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: None = None,
    ) -> None:
        if init_cfg is not None:
            raise ValueError("SpatialAligner takes no init_cfg; name weights in backbone.weights")
        if data_preprocessor is None:
            data_preprocessor = dict(
                type="ImgDataPreprocessor", mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True
            )
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(dict(backbone))
        if self.backbone.frozen:
            raise ValueError("a frozen student learns nothing; set frozen=False")
        if layer_scale is not None:
            add_layer_scale(self.backbone, layer_scale)
        if masking is None:
            self.masking = None
        else:
            self.masking = TokenMasking(self.backbone.embed_dim, **masking)
            patch_embedding(self.backbone.encoder)  # raises where it cannot be masked
        self._drop_paths = replace_drop_paths(self.backbone.encoder)
        self.teachers = nn.ModuleDict()
        for config in map(dict, teachers):
            name = _own_name(config, self.teachers, "teacher")
            self.teachers[name] = MODELS.build(config)
        self.losses, self.projections = nn.ModuleDict(), nn.ModuleDict()
        self._links: dict[str, tuple[str, int]] = {}  # loss -> teacher, place in out_indices
        for config in map(dict, losses):
            self._add_loss(config)
        unused = set(self.teachers) - {teacher for teacher, _ in self._links.values()}
        if unused or not self._links:
            raise ValueError(
                f"teachers {', '.join(sorted(unused)) or 'and losses'} serve no loss; name each "
                "teacher in a loss"
            )

    def _add_loss(self, config: dict[str, Any]) -> None:
        name = _own_name(config, self.losses, "loss")
        teacher, layer = config.pop("teacher", None), config.pop("layer", -1)
        projection = config.pop("projection", "auto")
        if teacher not in self.teachers:
            raise ValueError(
                f"loss {name} has the teacher {teacher!r}; there are {', '.join(self.teachers)}"
            )
        if projection not in PROJECTIONS:
            raise ValueError(
                f"loss {name} has projection={projection!r}, not one of {', '.join(PROJECTIONS)}"
            )
        (index,) = resolve_indices([layer], self.backbone.encoder.depth)
        if index not in self.backbone.out_indices:
            raise ValueError(
                f"loss {name} reads block {layer} of the student, which gives blocks "
                f"{self.backbone.out_indices}; add it to backbone.out_indices"
            )
        self._links[name] = (teacher, self.backbone.out_indices.index(index))
        self.losses[name] = MODELS.build(config)
        own, wanted = self.backbone.embed_dim, self.teachers[teacher].num_channels
        by_token = isinstance(self.losses[name], TokenCosineLoss)
        if by_token and own != wanted and projection == "none":
            raise ValueError(
                f"loss {name} compares {own} channels of the student with {wanted} of teacher "
                f"{teacher}; set projection='linear'"
            )
        if projection == "linear" or (projection == "auto" and by_token and own != wanted):
            self.projections[name] = nn.Linear(own, wanted)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps of student, teachers, losses and masking, fit for JSON."""
        losses = []
        for name, (teacher, place) in self._links.items():
            loss = self.losses[name]
            numbers = {k: v for k, v in vars(loss).items() if isinstance(v, (bool, int, float))}
            numbers.pop("training")
            losses.append(
                {
                    "name": name,
                    "type": type(loss).__name__,
                    "teacher": teacher,
                    "layer": self.backbone.out_indices[place],
                    "projection": name in self.projections,
                    **numbers,
                }
            )
        return {
            "encoder": self.backbone.encoder_name,
            "teachers": [{"name": n, **t.facts()} for n, t in self.teachers.items()],
            "losses": losses,
            "masking": None if self.masking is None else self.masking.settings(),
        }

    def forward(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Maps of the student ('tensor', never masked), or the losses by name ('loss').

        Args:
            inputs: RGB in 0..1, (B, 3, H, W).
            data_samples: One an image, for teachers that read annotations.
            mode: 'tensor' or 'loss'.

        Raises:
            ValueError: For another mode, images that are no multiples of the student's patch, or
                a teacher whose grid cannot be matched.
        """
        if mode == "tensor":
            return self.backbone(self._normalised(inputs))
        if mode != "loss":
            raise ValueError(f"mode={mode!r} is neither 'tensor' nor 'loss'")
        return self.loss(inputs, data_samples)

    def loss(self, images_B3HW: Tensor, data_samples: Sequence[Any] | None) -> dict[str, Tensor]:
        """Every loss under its name, on all tokens of the student's grid."""
        grid_hw = student_grid(tuple(images_B3HW.shape[2:]), self.backbone.patch_size)
        targets = {
            name: teacher(images_B3HW, grid_hw, data_samples)
            for name, teacher in self.teachers.items()
        }
        maps = self._student_maps(images_B3HW, grid_hw)
        terms = {}
        for name, (teacher, place) in self._links.items():
            if tuple(maps[place].shape[2:]) != grid_hw:
                raise ValueError(
                    f"the student's grid {tuple(maps[place].shape[2:])} is not the one of its "
                    f"patches, {grid_hw}; give it images of multiples of its patch"
                )
            tokens_BNC = maps[place].flatten(2).transpose(1, 2)
            if name in self.projections:
                tokens_BNC = self.projections[name](tokens_BNC)  # (B, N, D)
            terms[f"loss_{name}"] = self.losses[name](tokens_BNC, targets[teacher])
        return terms

    def _student_maps(self, images_B3HW: Tensor, grid_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        images_B3HW = self._normalised(images_B3HW)
        count, device = len(images_B3HW), images_B3HW.device
        draw_paths(self._drop_paths, count, image_generators(PATHS, count), device)
        if self.masking is None or self.masking.ratio == 0:
            return self.backbone(images_B3HW)
        masks_Bhw = self._masks(len(images_B3HW), grid_hw)
        with masked_patches(self.backbone.encoder, self.masking, masks_Bhw):
            return self.backbone(images_B3HW)

    def _masks(self, batch: int, grid_hw: tuple[int, int]) -> Tensor:
        """Masks (B, h, w) of this process's images."""
        return block_masks(
            batch,
            grid_hw,
            self.masking.ratio,
            self.masking.block_size,
            image_generators(MASKS, batch),
        )

    def _normalised(self, images_B3HW: Tensor) -> Tensor:
        encoder = self.backbone.encoder
        return normalised(images_B3HW, encoder.mean, encoder.std)


def student_grid(image_hw: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Tokens (h, w) of an image.

    Raises:
        ValueError: If the patch does not divide a side.

    Example:
        >>> student_grid((448, 448), 14)
        (32, 32)
    """
    if any(side % patch_size or not side for side in image_hw):
        raise ValueError(
            f"images of {image_hw[0]} x {image_hw[1]} pixels give no whole patches of "
            f"{patch_size}; set the size of the crops to a multiple of {patch_size}"
        )
    return image_hw[0] // patch_size, image_hw[1] // patch_size


def _own_name(config: dict[str, Any], known: Any, kind: str) -> str:
    name = config.pop("name", None)
    if not isinstance(name, str) or not name.isidentifier() or name in known:
        raise ValueError(f"a {kind} needs a name of its own, letters and digits, not {name!r}")
    return name
