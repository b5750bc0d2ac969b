"""The text tower of PE Core, and the model of both towers that scores texts against pictures.

Shape legend: B texts or pictures, L tokens, C width of the text tower, D width of the embedding,
M heads.

Source: Perception Encoder, arXiv:2504.13181; the behaviour of facebookresearch/perception_models @
3e352cc (core/vision_encoder/pe.py and config.py). Written from the description, under the official
parameter names. Licence of the released weights: Apache-2.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.encoders.conversion import State, both_towers_to_official, shorten
from pe_dense.encoders.pe import MLP, PerceptionEncoder, SelfAttention, Transformer
from pe_dense.encoders.text_tokens import Tokens, tokenize
from pe_dense.encoders.weights import (
    fit_to_tower,
    read_state_dict,
    require_finite,
    resolve_weights,
)
from pe_dense.files import file_sha256

VISUAL = "visual."  # prefix of the vision tower in the official file; text has none
VOCABULARY = 49_408  # of CLIP's byte pairs; the end token is the last, and the largest id of a text
START_TEMPERATURE = 0.07


class CausalAttention(SelfAttention):
    """Multi-head self-attention in which a token sees itself and those before it."""

    def forward(self, tokens_BLC: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, C)."""
        q, k, v = self.qkv(tokens_BLC).unflatten(2, (3, self.num_heads, -1)).unbind(2)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, M, L, C / M)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


class TextBlock(nn.Module):
    """Pre-norm transformer block, as the vision tower's but for the attention."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(embed_dim, eps=1e-5)
        self.attn = CausalAttention(embed_dim, num_heads)
        self.ln_2 = nn.LayerNorm(embed_dim, eps=1e-5)
        self.mlp = MLP(embed_dim, 4 * embed_dim)

    def forward(self, x_BLC: Tensor) -> Tensor:
        """One block: (B, L, C) -> (B, L, C)."""
        x_BLC = x_BLC + self.attn(self.ln_1(x_BLC))
        return x_BLC + self.mlp(self.ln_2(x_BLC))


class TextTower(nn.Module):
    """Token ids to a text embedding.

    Args:
        context_length: Most tokens of a text.
        embed_dim: Width C.
        depth: Blocks.
        num_heads: Heads M.
        output_dim: Width D of the embedding.
        vocabulary_size: Number of tokens; the end token has the largest id of a text.

    Raises:
        ValueError: If the heads do not divide the width, or a size is below 1.
    """

    def __init__(
        self,
        *,
        context_length: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        output_dim: int,
        vocabulary_size: int = VOCABULARY,
    ) -> None:
        super().__init__()
        sizes = dict(context_length=context_length, depth=depth, output_dim=output_dim)
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name}={size} of a text tower must be 1 or more")
        if embed_dim % num_heads:
            raise ValueError(f"text width {embed_dim} is no multiple of {num_heads} heads")
        self.context_length, self.output_dim = context_length, output_dim
        self.token_embedding = nn.Embedding(vocabulary_size, embed_dim)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, embed_dim))
        self.transformer = Transformer([TextBlock(embed_dim, num_heads) for _ in range(depth)])
        self.ln_final = nn.LayerNorm(embed_dim, eps=1e-5)
        self.text_projection = nn.Parameter(torch.empty(embed_dim, output_dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise for training from scratch, as CLIP (arXiv:2103.00020)."""
        width, depth = self.token_embedding.embedding_dim, len(self.transformer.resblocks)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=width**-0.5)
        for block in self.transformer.resblocks:
            into_stream = width**-0.5 * (2 * depth) ** -0.5
            nn.init.normal_(block.attn.in_proj_weight, std=width**-0.5)
            nn.init.normal_(block.attn.out_proj.weight, std=into_stream)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=into_stream)
            for layer in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj):
                nn.init.zeros_(layer.bias)

    def tokens(self, ids_BL: Tensor) -> Tensor:
        """The last states after the final norm: ids (B, L) -> (B, L, C).

        Raises:
            ValueError: If texts are longer than the tower, empty, or have ids that it lacks.
        """
        if ids_BL.ndim != 2 or not 1 <= ids_BL.shape[1] <= self.context_length:
            raise ValueError(
                f"token ids {tuple(ids_BL.shape)} do not fit a tower of {self.context_length} "
                "tokens; pass (B, L) with L from 1 to that"
            )
        if ids_BL.numel() and int(ids_BL.max()) >= self.token_embedding.num_embeddings:
            raise ValueError(
                f"token id {int(ids_BL.max())} is above the vocabulary of "
                f"{self.token_embedding.num_embeddings}; use the tokenizer of this tower"
            )
        x_BLC = self.token_embedding(ids_BL) + self.positional_embedding[: ids_BL.shape[1]]
        for block in self.transformer.resblocks:
            x_BLC = block(x_BLC)
        return self.ln_final(x_BLC)

    def forward(self, ids_BL: Tensor, normalize: bool = False) -> Tensor:
        """Text embeddings (B, D): the state of the end token, projected.

        Args:
            ids_BL: Token ids, padded with 0 behind the end token.
            normalize: Make them unit length.
        """
        tokens_BLC, end_B = self.tokens(ids_BL), ids_BL.argmax(dim=1)
        pooled_BC = tokens_BLC[torch.arange(len(ids_BL), device=ids_BL.device), end_B]
        embedding_BD = pooled_BC @ self.text_projection
        return F.normalize(embedding_BD, dim=-1) if normalize else embedding_BD


class ImageTextModel(nn.Module):
    """A Core tower with its text tower; the official file fills it whole.

    Args:
        visual: Core tower, with an attention pool.
        text: Its text tower, of the same embedding width.

    Raises:
        ValueError: If the two have no embedding of one width.
    """

    def __init__(self, visual: PerceptionEncoder, text: TextTower) -> None:
        super().__init__()
        if visual.output_dim is None:
            raise ValueError(
                f"{visual.name} has no image embedding, so that no text can be compared with it; "
                "use a pe_core_* encoder"
            )
        if visual.output_dim != text.output_dim:
            raise ValueError(
                f"{visual.name} embeds images in {visual.output_dim} numbers and the text tower "
                f"texts in {text.output_dim}; both need one width"
            )
        self.visual, self.text = visual, text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / START_TEMPERATURE)))

    @property
    def name(self) -> str:
        """How errors call it: by its vision tower."""
        return self.visual.name

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of some texts for this tower, and how many of them were cut."""
        return tokenize(texts, self.text.context_length)

    def encode_image(self, images_B3HW: Tensor, normalize: bool = False) -> Tensor:
        """Image embeddings (B, D)."""
        return self.visual.encode_image(images_B3HW, normalize)

    def encode_video(self, clips_BT3HW: Tensor, normalize: bool = False) -> Tensor:
        """Mean of frame embeddings (B, D), see `PerceptionEncoder.encode_video`."""
        return self.visual.encode_video(clips_BT3HW, normalize)

    def encode_text(self, ids_BL: Tensor, normalize: bool = False) -> Tensor:
        """Text embeddings (B, D)."""
        return self.text(ids_BL, normalize)

    def forward(self, images_B3HW: Tensor, ids_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings of images and texts, (B, D) each, and the scale of their product."""
        images_BD = self.encode_image(images_B3HW, normalize=True)
        return images_BD, self.encode_text(ids_BL, normalize=True), self.logit_scale.exp()

    def logits(self, images_B3HW: Tensor, ids_BL: Tensor) -> Tensor:
        """Score of every text for every image, (images, texts)."""
        images_BD, texts_BD, scale = self(images_B3HW, ids_BL)
        return scale * images_BD @ texts_BD.T

    def official_state(self) -> State:
        """The state dict in the layout of the official file: text at the top, vision below."""
        text = self.text.state_dict()
        visual = {VISUAL + key: value for key, value in self.visual.state_dict().items()}
        return {"logit_scale": self.logit_scale.detach(), **text, **visual}

    def load_official_state(self, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Fill both towers from an official state dict, or open_clip's of its port, strictly.

        The vision tower is adapted as it was built (patch, grid, cls token), the text tower not.

        Returns:
            Every adaptation, in words.

        Raises:
            ValueError: If something is missing, left over or of another shape; nothing has changed
                then.
        """
        state = both_towers_to_official(state)
        visual = {k.removeprefix(VISUAL): v for k, v in state.items() if k.startswith(VISUAL)}
        rest = {k: v for k, v in state.items() if not k.startswith(VISUAL)}
        wanted = {"logit_scale": self.logit_scale, **self.text.state_dict()}
        if not visual or not rest:
            lacks = "vision" if rest else "text"
            raise ValueError(
                f"the file holds no {lacks} tower; name the released file of a PE Core model"
            )
        missing, strange = sorted(wanted.keys() - rest.keys()), sorted(rest.keys() - wanted.keys())
        if missing or strange:
            what, names = ("lacks", missing) if missing else ("has besides", strange)
            raise ValueError(f"the text tower of the file {what} {shorten(names, 3)}")
        for name, value in wanted.items():
            if rest[name].shape != value.shape:
                raise ValueError(
                    f"{name} of the file is {tuple(rest[name].shape)}, that of {self.name} is "
                    f"{tuple(value.shape)}; use the encoder that the file belongs to"
                )
        fitted, notes = fit_to_tower(visual, self.visual.state_dict())
        self.visual.load_state_dict(fitted, strict=True)
        self.text.load_state_dict({k: v for k, v in rest.items() if k != "logit_scale"})
        with torch.no_grad():
            self.logit_scale.copy_(rest["logit_scale"])
        return notes


def load_image_text(model: ImageTextModel, weights: str | Path) -> WeightsInfo:
    """Load the official file of a PE Core model whole, strictly, and say where it came from.

    Args:
        model: Built with `build.build_image_text`.
        weights: 'random' (nothing is loaded), a path, or 'hf://repo[@revision][:file]'.

    Raises:
        ValueError: If the file cannot be found, read or fitted; nothing has changed then.
    """
    if str(weights) == "random":
        return WeightsInfo("random", "random")
    path = resolve_weights(weights)
    state = read_state_dict(path)
    require_finite(state, path)
    try:
        notes = model.load_official_state(state)
    except ValueError as error:
        raise ValueError(f"weights file {path} does not fit {model.name}: {error}") from error
    source = str(weights) if str(weights).startswith("hf://") else path.name
    return WeightsInfo(source, file_sha256(path), notes)
