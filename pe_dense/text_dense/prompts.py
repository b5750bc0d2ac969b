"""What a person typed to be looked for: texts, each of which becomes a class."""

from __future__ import annotations

from collections.abc import Sequence

from pe_dense.text_dense.class_vectors import folded


def typed_prompts(words: Sequence[str]) -> list[str]:
    """Texts of a command line: a word each, or several in one with commas between them.

    Example:
        >>> typed_prompts(["a red car", "road, sky"])
        ['a red car', 'road', 'sky']
    """
    return [text.strip() for word in words for text in word.split(",")]


def require_prompts(prompts: Sequence[str]) -> None:
    """Refuse texts among which no pixel can be given one.

    Tokenizers fold case and white space, so that texts which differ in these alone are one.

    Raises:
        ValueError: If they are one text instead of a list, fewer than two, or one is empty or
            stands twice.

    Example:
        >>> require_prompts(["road", "Road "])
        Traceback (most recent call last):
        ValueError: prompt 'Road ' stands twice, since case and spaces do not count; keep one
    """
    if isinstance(prompts, str):
        raise ValueError(f"prompts are one text, {prompts!r}; give a list of texts")
    seen: set[str] = set()
    for place, prompt in enumerate(prompts, start=1):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"prompt {place} is {prompt!r}; write what to look for")
        if folded(prompt) in seen:
            raise ValueError(
                f"prompt {prompt!r} stands twice, since case and spaces do not count; keep one"
            )
        seen.add(folded(prompt))
    if len(seen) < 2:
        raise ValueError(
            f"prompts are {len(seen)}, and every pixel gets the nearest of them; give two or more, "
            "such as what else is in the pictures"
        )
