"""open_clip models of both towers behind the contract of image and text.

Shape legend: B texts or pictures, T frames, L tokens, D width of the embedding, H W pixels.

CLIP, MetaCLIP, DFN, CLIPA, SigLIP and SigLIP 2, and open_clip's own port of PE Core: the members
are those of `text_tower.ImageTextModel`, the numbers are open_clip's.

Source: mlfoundations/open_clip 3.3 (model.py, tokenizer.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.encoders.open_clip_names import PREFIX, find_open_clip, import_open_clip
from pe_dense.encoders.open_clip_vision import (
    VISUAL,
    OpenClipEncoder,
    build_model,
    model_config,
    plain_state,
)
from pe_dense.encoders.text_tokens import Tokens, require_texts, tokenize
from pe_dense.encoders.weights import differences, read_state_dict, require_finite

TEXT = "text."


class OpenClipText(nn.Module):
    """The text tower of an open_clip model with its tokenizer.

    Args:
        tower: open_clip's text tower.
        output_dim: Width D of the embedding.
        settings: The model's `text_cfg`, which names the tokenizer.
        name: How errors call the model.
    """

    def __init__(
        self, tower: nn.Module, output_dim: int, settings: Mapping[str, Any], name: str
    ) -> None:
        super().__init__()
        self.model, self.output_dim, self.name = tower, output_dim, name
        self.context_length = int(tower.context_length)
        self._tokenizer_name = settings.get("hf_tokenizer_name")
        self._tokenizer_options = dict(settings.get("tokenizer_kwargs") or {})
        self._tokenizer_options["tokenizer_mode"] = settings.get("tokenizer_mode")
        self._tokenizer: Any = None

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of some texts, as the model was trained with, and how many were cut.

        Raises:
            ValueError: If a text is empty or no text, or the tokenizer cannot be had.
        """
        if self._tokenizer_name is None:
            return tokenize(texts, self.context_length)
        require_texts(texts)
        tokenizer = self._hub_tokenizer()
        ids_BL = tokenizer(list(texts), self.context_length)
        cleaned = [tokenizer.clean_fn(text) for text in texts]
        lengths = map(len, tokenizer.tokenizer(cleaned, truncation=False)["input_ids"])
        return Tokens(ids_BL, sum(length > self.context_length for length in lengths))

    def _hub_tokenizer(self) -> Any:
        """The hub's tokenizer of the model; it holds tables, and no code of it is run."""
        if self._tokenizer is None:
            import_open_clip()
            from open_clip.tokenizer import HFTokenizer

            options = {**self._tokenizer_options, "trust_remote_code": False}
            try:
                self._tokenizer = HFTokenizer(
                    self._tokenizer_name, context_length=self.context_length, **options
                )
            except ImportError as error:
                raise ValueError(
                    f"the tokenizer of {self.name} needs the package transformers ({error}); run: "
                    "pip install transformers sentencepiece"
                ) from error
            except (OSError, ValueError) as error:
                raise ValueError(
                    f"the tokenizer of {self.name}, {self._tokenizer_name}, is not in the hub's "
                    "cache and cannot be fetched; fetch it once where there is a network"
                ) from error
        return self._tokenizer

    def forward(self, ids_BL: Tensor, normalize: bool = False) -> Tensor:
        """Text embeddings (B, D), as open_clip's.

        Raises:
            ValueError: If the ids are not of the tower's context and vocabulary.
        """
        if ids_BL.ndim != 2 or ids_BL.shape[1] != self.context_length:
            raise ValueError(
                f"token ids {tuple(ids_BL.shape)} do not fit {self.name}; pass (B, "
                f"{self.context_length}), padded as its tokenizer does"
            )
        if ids_BL.numel() and int(ids_BL.max()) >= self.model.token_embedding.num_embeddings:
            raise ValueError(
                f"token id {int(ids_BL.max())} is above the vocabulary of "
                f"{self.model.token_embedding.num_embeddings}; use the tokenizer of {self.name}"
            )
        embedding_BD = self.model(ids_BL)
        return F.normalize(embedding_BD, dim=-1) if normalize else embedding_BD


class OpenClipImageText(nn.Module):
    """An open_clip model of both towers, with the members of `text_tower.ImageTextModel`.

    Args:
        model_name: 'open_clip:<model>' or 'open_clip:<model>.<tag>'.
        image_size: Native side in pixels of the position grid; None keeps open_clip's.

    Raises:
        ValueError: If open_clip cannot be imported or does not know the name, or the model has
            towers of a kind that has no place here.
    """

    def __init__(self, model_name: str, image_size: int | None = None) -> None:
        super().__init__()
        found = find_open_clip(model_name)
        name = PREFIX + model_name.removeprefix(PREFIX)
        config = model_config(found.config, image_size, name)
        model = build_model(config, image_size, name)
        self.visual = OpenClipEncoder.of_model(model, name, found.mean, found.std)
        self.text = OpenClipText(model.text, model.embedding_width, config["text_cfg"], name)
        self.logit_scale, self.logit_bias = model.logit_scale, model.logit_bias
        self.activation = "QuickGELU" if config.get("quick_gelu") else "GELU"
        self.tag = found.tag

    @property
    def name(self) -> str:
        """How errors and records call it."""
        return self.visual.name

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Token ids of some texts, and how many of them were cut."""
        return self.text.tokenize(texts)

    def encode_image(self, images_B3HW: Tensor, normalize: bool = False) -> Tensor:
        """Image embeddings (B, D)."""
        return self.visual.encode_image(images_B3HW, normalize)

    def encode_video(self, clips_BT3HW: Tensor, normalize: bool = False) -> Tensor:
        """Mean of frame embeddings (B, D), see `OpenClipEncoder.encode_video`."""
        return self.visual.encode_video(clips_BT3HW, normalize)

    def encode_text(self, ids_BL: Tensor, normalize: bool = False) -> Tensor:
        """Text embeddings (B, D)."""
        return self.text(ids_BL, normalize)

    def forward(self, images_B3HW: Tensor, ids_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings of images and texts, (B, D) each, and the scale of their product."""
        images_BD = self.encode_image(images_B3HW, normalize=True)
        return images_BD, self.encode_text(ids_BL, normalize=True), self.logit_scale.exp()

    def logits(self, images_B3HW: Tensor, ids_BL: Tensor) -> Tensor:
        """Score of every text for every image, (images, texts); SigLIP's with its bias."""
        images_BD, texts_BD, scale = self(images_B3HW, ids_BL)
        scores = scale * images_BD @ texts_BD.T
        return scores if self.logit_bias is None else scores + self.logit_bias

    def official_state(self) -> dict[str, Tensor]:
        """The state dict in the layout of open_clip's files."""
        state = {VISUAL + key: value for key, value in self.visual.model.state_dict().items()}
        state |= {TEXT + key: value for key, value in self.text.model.state_dict().items()}
        state["logit_scale"] = self.logit_scale.detach()
        if self.logit_bias is not None:
            state["logit_bias"] = self.logit_bias.detach()
        return state

    def load_official_state(self, state: Mapping[str, Tensor]) -> tuple[str, ...]:
        """Fill both towers from the state of an open_clip or OpenAI file, strictly.

        Returns:
            Every adaptation, in words.

        Raises:
            ValueError: If something is missing, left over or of another shape; nothing has changed
                then.
        """
        state = plain_state(state)
        visual = {k.removeprefix(VISUAL): v for k, v in state.items() if k.startswith(VISUAL)}
        rest = {k: v for k, v in state.items() if not k.startswith(VISUAL)}
        visual, notes = self.visual.resampled(visual)
        state = {**rest, **{VISUAL + key: value for key, value in visual.items()}}
        for key in ("logit_scale", "logit_bias"):  # older files keep them as one row
            if key in state and state[key].numel() == 1:
                state[key] = state[key].reshape(self.logit_scale.shape)
        if problem := differences(state, self.official_state()):
            raise ValueError(problem)
        self.visual.model.load_state_dict(visual, strict=True)
        text = {k.removeprefix(TEXT): v for k, v in state.items() if k.startswith(TEXT)}
        self.text.model.load_state_dict(text, strict=True)
        with torch.no_grad():
            self.logit_scale.copy_(state["logit_scale"])
            if self.logit_bias is not None:
                self.logit_bias.copy_(state["logit_bias"])
        if self.tag is None:
            notes += (f"{self.activation} as open_clip builds it; a file leaves no trace of it",)
        return notes

    def load_weights_file(self, path: str | Path, **options: str) -> tuple[str, ...]:
        """Load a safetensors or torch file of both towers strictly.

        Raises:
            ValueError: If the file cannot be read or does not fit, or an option is given; nothing
                has changed then.
        """
        if options:
            raise ValueError(f"{' and '.join(options)} is for PE towers, not for {self.name}")
        state = read_state_dict(path)
        require_finite(state, path)
        try:
            return self.load_official_state(state)
        except ValueError as error:
            raise ValueError(f"weights file {path} does not fit {self.name}: {error}") from error

    def weights_info(self) -> WeightsInfo:
        """Models are built with random weights."""
        return WeightsInfo("random", "random")
