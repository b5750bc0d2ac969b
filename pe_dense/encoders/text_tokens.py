"""Texts to token ids: CLIP's byte pairs, as PE Core was trained with.

The vocabulary and its rules come from open_clip (the package `open_clip_torch`), which is kept up;
its ids equal those of the official tokenizer (facebookresearch/perception_models @ 3e352cc,
core/vision_encoder/tokenizer.py): text repaired, HTML unescaped twice, white space folded, lower
case, start and end tokens, padded with 0.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Tokens(NamedTuple):
    """Token ids, and how many texts did not fit.

    Attributes:
        ids_BL: Padded with 0 behind the end token.
        num_cut: Texts that lost words at their end; the end token stays.
    """

    ids_BL: Tensor
    num_cut: int


def tokenize(texts: Sequence[str], context_length: int) -> Tokens:
    """Token ids of some texts.

    Args:
        texts: B texts.
        context_length: L, of the text tower; start and end tokens count.

    Raises:
        ValueError: If a text is empty or no text, the context has no room for a word, or open_clip
            is not installed.
    """
    if context_length < 3:
        raise ValueError(
            f"a context of {context_length} tokens has no room for a word; use 3 or more"
        )
    require_texts(texts)
    tokenizer = _tokenizer()
    rows = torch.zeros(len(texts), context_length, dtype=torch.long)
    num_cut = 0
    for row, text in zip(rows, texts, strict=True):
        words = tokenizer.encode(text)
        num_cut += len(words) > context_length - 2
        ids = [tokenizer.sot_token_id, *words[: context_length - 2], tokenizer.eot_token_id]
        row[: len(ids)] = torch.tensor(ids)
    return Tokens(rows, num_cut)


def require_texts(texts: Sequence[str]) -> None:
    """Refuse what is no text or has no word.

    Raises:
        ValueError: With the place of the first.
    """
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"text {place} is {text!r}; give a text with a word in it")


@functools.lru_cache
def _tokenizer() -> Any:
    try:
        from open_clip.tokenizer import SimpleTokenizer
    except ImportError as error:
        raise ValueError(
            "texts need the package open_clip_torch, which is not installed; run: "
            "pip install 'pe_dense[text]'"
        ) from error
    return SimpleTokenizer()
