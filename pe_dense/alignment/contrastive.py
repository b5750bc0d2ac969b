"""A small image-text pair of towers that learns from captions: where a Core tower comes from.

It stands for the first stage of Perception Encoder (arXiv:2504.13181, section 2): a vision tower
with attention pooling and a text tower learn to find each other's embedding in a batch. Here it is
small enough for a CPU and the mini world, and serves to ask on which layer dense features lie
before spatial alignment.

Source: CLIP (arXiv:2103.00020, section 2.3): symmetric cross-entropy over cosines with a learned
temperature that starts at 0.07 and is never below 0.01.

Deviations: captions of the mini world can be the same twice in a batch; all pictures of such a
caption are then equally right, where CLIP would call all but one wrong. The loss is over the batch
of one process. The text tower sees both directions and takes the mean over the words, because
captions are short and closed; a bag of words would not do, because which colour belongs to which
shape is in the order alone.

Shape legend: B pairs, L tokens of a caption, C width of the text tower, E width of the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import METRICS, MODELS
from torch import Tensor, nn

from pe_dense.alignment.frozen_teacher import normalised
from pe_dense.mini_world.captions import MAX_TOKENS, PAD, VOCABULARY

MAX_SCALE = 100.0
START_TEMPERATURE = 0.07


class CaptionTower(nn.Module):
    """A pre-norm transformer over words, and the mean of their last states.

    Args:
        output_dim: E.
        embed_dim: C.
        depth: Blocks.
        num_heads: Heads, which must divide C.
        vocabulary_size: Number of words; index 0 is padding.
        max_tokens: Longest caption.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(
        self,
        output_dim: int,
        embed_dim: int = 64,
        depth: int = 2,
        num_heads: int = 2,
        vocabulary_size: int = len(VOCABULARY),
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"text width {embed_dim} is no multiple of {num_heads} heads; change one of them"
            )
        self.words = nn.Embedding(vocabulary_size, embed_dim, padding_idx=PAD)
        self.positions = nn.Parameter(torch.empty(max_tokens, embed_dim))
        # Words and places equally large: with words of deviation 1, order hardly counts at first.
        for table in (self.words.weight, self.positions):
            nn.init.normal_(table, std=embed_dim**-0.5)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                embed_dim,
                num_heads,
                4 * embed_dim,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.projection = nn.Linear(embed_dim, output_dim, bias=False)

    def forward(self, tokens_BL: Tensor) -> Tensor:
        """Word indices -> embeddings (B, E), of any length.

        Raises:
            ValueError: If captions are longer than the tower, or one has no word.
        """
        if tokens_BL.ndim != 2 or tokens_BL.shape[1] > len(self.positions):
            raise ValueError(
                f"captions {tuple(tokens_BL.shape)} do not fit a tower of {len(self.positions)} "
                "tokens; pass (B, L) with a smaller L"
            )
        is_pad_BL = tokens_BL == PAD
        if bool(is_pad_BL.all(dim=1).any()):
            raise ValueError("a caption has no word; caption_tokens makes none of that kind")
        longest = int((~is_pad_BL).sum(dim=1).max())  # padding that all captions share is cut off
        tokens_BL, is_pad_BL = tokens_BL[:, :longest], is_pad_BL[:, :longest]
        x_BLC = self.words(tokens_BL) + self.positions[:longest]
        for block in self.blocks:
            x_BLC = block(x_BLC, src_key_padding_mask=is_pad_BL)
        weights_BL1 = (~is_pad_BL)[..., None].to(x_BLC)
        mean_BC = (self.norm(x_BLC) * weights_BL1).sum(dim=1) / weights_BL1.sum(dim=1)
        return self.projection(mean_BC)


@MODELS.register_module()
class ContrastivePair(BaseModel):
    """A Core tower and a caption tower under one contrastive loss.

    The state dict has the image tower under 'backbone.encoder.', as that of `SpatialAligner`.

    Args:
        backbone: Config of a `DenseBackbone` with a Core tower, all blocks of it; its pool and
            projection are trained here, unlike in dense tasks.
        text: Arguments of `CaptionTower`, without output_dim.
        data_preprocessor: Must give RGB in 0..1; default: `ImgDataPreprocessor` that does so from
            BGR bytes.
        init_cfg: Must stay None.

    Raises:
        ValueError: If the encoder has no attention pool, is cut or frozen, or there are several
            processes.
    """

    def __init__(
        self,
        backbone: Mapping[str, Any],
        text: Mapping[str, Any] | None = None,
        data_preprocessor: Mapping[str, Any] | None = None,
        init_cfg: None = None,
    ) -> None:
        if get_world_size() > 1:
            raise ValueError(
                f"ContrastivePair compares the pairs of one process, so that {get_world_size()} "
                "processes would train another loss; leave --launcher out"
            )
        if init_cfg is not None:
            raise ValueError("ContrastivePair takes no init_cfg; name weights in backbone.weights")
        if data_preprocessor is None:
            data_preprocessor = dict(
                type="ImgDataPreprocessor", mean=[0.0] * 3, std=[255.0] * 3, bgr_to_rgb=True
            )
        super().__init__(data_preprocessor)
        self.backbone = MODELS.build(dict(backbone))
        encoder = self.backbone.encoder
        if encoder.output_dim is None:
            raise ValueError(
                f"{self.backbone.encoder_name} has no attention pool; use a pe_core_* encoder"
            )
        if self.backbone.frozen:
            raise ValueError("a frozen encoder learns nothing; set frozen=False")
        for parameter in encoder.head_parameters():
            parameter.requires_grad_(True)
        self.text = CaptionTower(encoder.output_dim, **(text or {}))
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / START_TEMPERATURE)))

    def forward(
        self, inputs: Tensor, data_samples: Sequence[Any] | None = None, mode: str = "tensor"
    ) -> Any:
        """Image embeddings ('tensor'), the loss ('loss'), or samples with embeddings ('predict').

        Args:
            inputs: RGB in 0..1, (B, 3, H, W).
            data_samples: One an image, with `caption_tokens`; not needed for 'tensor'.
            mode: See above. 'predict' sets `image_embedding` and `text_embedding` (E,) of each
                sample, of unit length.

        Raises:
            ValueError: For another mode, or samples that are missing.
        """
        if mode == "tensor":
            return self.image_embeddings(inputs)
        if mode not in ("loss", "predict"):
            raise ValueError(f"mode={mode!r} is not 'tensor', 'loss' or 'predict'")
        if data_samples is None or len(data_samples) != len(inputs):
            count = "no" if data_samples is None else str(len(data_samples))
            raise ValueError(f"{count} captions for {len(inputs)} images; give one an image")
        tokens_BL = torch.stack([sample.caption_tokens for sample in data_samples])
        tokens_BL = tokens_BL.to(inputs.device)
        image_BE = self.image_embeddings(inputs)
        text_BE = F.normalize(self.text(tokens_BL), dim=-1)
        if mode == "loss":
            scale = self.log_scale.exp().clamp(max=MAX_SCALE)
            return {"loss": contrastive_loss(image_BE, text_BE, scale, same_captions(tokens_BL))}
        for sample, image_E, text_E in zip(data_samples, image_BE, text_BE, strict=True):
            sample.image_embedding, sample.text_embedding = image_E, text_E
        return list(data_samples)

    def image_embeddings(self, images_B3HW: Tensor) -> Tensor:
        """RGB in 0..1 -> (B, E) of unit length."""
        encoder = self.backbone.encoder
        images_B3HW = normalised(images_B3HW, encoder.mean, encoder.std)
        return encoder.encode_image(images_B3HW, normalize=True)


def same_captions(tokens_BL: Tensor) -> Tensor:
    """Which captions are equal, (B, B) bool; the diagonal always."""
    return (tokens_BL[:, None] == tokens_BL[None]).all(dim=-1)


def contrastive_loss(
    image_BE: Tensor, text_BE: Tensor, scale: Tensor | float, is_same_BB: Tensor | None = None
) -> Tensor:
    """Symmetric cross-entropy of a batch; ln B for towers that know nothing.

    Args:
        image_BE: Unit length.
        text_BE: Unit length; row b belongs to image b.
        scale: Inverse of the temperature.
        is_same_BB: Symmetric; which captions are equal, so that each is right for the images of
            all of them. None: no two are.

    Raises:
        ValueError: If the batch is empty or the embeddings do not match.

    Example:
        >>> contrastive_loss(torch.ones(2, 1), torch.ones(2, 1), 5.0).item()
        0.6931471824645996
    """
    if image_BE.shape != text_BE.shape or image_BE.ndim != 2 or not len(image_BE):
        raise ValueError(
            f"image embeddings {tuple(image_BE.shape)} and text embeddings {tuple(text_BE.shape)} "
            "are no pairs; pass (B, E) twice, B at least 1"
        )
    logits_BB = scale * image_BE @ text_BE.T
    if is_same_BB is None:
        is_same_BB = torch.eye(len(image_BE), dtype=torch.bool, device=image_BE.device)
    target_BB = is_same_BB.to(logits_BB)
    target_BB = target_BB / target_BB.sum(dim=1, keepdim=True)
    by_image = F.cross_entropy(logits_BB, target_BB)
    by_text = F.cross_entropy(logits_BB.T, target_BB)  # symmetric, so of its transpose as well
    return (by_image + by_text) / 2


def retrieval_accuracy(
    image_NE: Tensor, text_NE: Tensor, is_same_NN: Tensor, ks: Sequence[int] = (1, 5)
) -> dict[str, float]:
    """Share of pictures (captions) among whose k nearest captions (pictures) is a right one.

    Ties are broken against the model: a right one that is as near as a wrong one stands behind it.

    Returns:
        'image_to_text_R<k>' and 'text_to_image_R<k>' in 0..1, and 'chance_R1'.

    Raises:
        ValueError: If there is no pair.
    """
    if not len(image_NE):
        raise ValueError("no pair to retrieve; the validation set is empty")
    cosine_NN = image_NE @ text_NE.T
    scores = {}
    for name, table_NN in (("image_to_text", cosine_NN), ("text_to_image", cosine_NN.T)):
        best_N1 = table_NN.masked_fill(~is_same_NN, -torch.inf).amax(dim=1, keepdim=True)
        rank_N = ((table_NN >= best_N1) & ~is_same_NN).sum(dim=1)
        scores |= {f"{name}_R{k}": (rank_N < k).double().mean().item() for k in ks}
    scores["chance_R1"] = is_same_NN.double().mean().item()
    return scores


@METRICS.register_module()
class RetrievalAccuracy(BaseMetric):
    """`retrieval_accuracy` over the whole validation set."""

    default_prefix = "retrieval"

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        """Keep the embeddings of a batch."""
        keys = ("image_embedding", "text_embedding", "caption_tokens")
        self.results.extend(tuple(s[key].detach().cpu() for key in keys) for s in data_samples)

    def compute_metrics(self, results: list[tuple[Tensor, Tensor, Tensor]]) -> dict[str, float]:
        """Scores of all that was kept."""
        image_NE, text_NE, tokens_NL = (torch.stack(part) for part in zip(*results, strict=True))
        return retrieval_accuracy(image_NE, text_NE, same_captions(tokens_NL))
