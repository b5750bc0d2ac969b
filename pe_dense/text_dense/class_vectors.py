"""One vector for each class or name, from sentences with it: for pictures and for patches.

Shape legend: K classes, P templates, B texts, D width of the embedding.

Source: CLIP (arXiv:2103.00020, section 3.1.4): the embeddings of a class's sentences are made unit
length, averaged, and made unit length again. PE's evaluation does the same
(facebookresearch/perception_models @ 3e352cc, apps/pe/clip_benchmark/metrics/
zeroshot_classification.py). Written from the description.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PLACE = "{}"  # where a template has the name of the class
Encode = Callable[[Sequence[str]], Tensor]


def require_templates(templates: Sequence[str]) -> None:
    """Refuse sentences that cannot stand for a class.

    Raises:
        ValueError: If there is none, one is no text, has no place for the name, or stands twice.

    Example:
        >>> require_templates(["a photo of a {}."])
    """
    if isinstance(templates, str) or not templates:
        raise ValueError(
            f"templates={templates!r} is no list of sentences; give one, such as '{{}}'"
        )
    for template in templates:
        if not isinstance(template, str) or PLACE not in template:
            raise ValueError(
                f"template {template!r} has no place for the name of a class; write {{}} there"
            )
    require_once("template", templates)


def folded(text: str) -> str:
    """A text without what tokenizers make nothing of: case and white space.

    Example:
        >>> folded(" A  man. ")
        'a man.'
    """
    return " ".join(text.split()).casefold()


def require_names(names: Sequence[str]) -> None:
    """Refuse class names that do not tell the classes apart.

    Raises:
        ValueError: If there are fewer than two, one is empty, or one stands twice, but for case and
            spaces.

    Example:
        >>> require_names(["cat", "Cat"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: class name 'cat' stands twice, since case and spaces do not count; ...
    """
    if len(names) < 2:
        raise ValueError(f"{len(names)} classes cannot be told apart; name two or more")
    for place, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"class {place} is called {name!r}; give it a name")
    require_once("class name", names)
    require_once("class name", list(map(folded, names)), ", since case and spaces do not count")


def require_once(what: str, texts: Sequence[str], but_for: str = "") -> None:
    """Raises ValueError if a text stands twice; `but_for` says what makes no difference."""
    if len(set(texts)) < len(texts):
        seen: set[str] = set()
        twice = next(text for text in texts if text in seen or seen.add(text))  # type: ignore[func-returns-value]
        raise ValueError(f"{what} {twice!r} stands twice{but_for}; give each one once")


def sentences(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """All sentences, those of the first class first.

    Braces in a name stay as they are.

    Example:
        >>> sentences(["cat", "dog"], ["a {}.", "the {}."])
        ['a cat.', 'the cat.', 'a dog.', 'the dog.']
    """
    return [template.replace(PLACE, name) for name in names for template in templates]


def class_vectors(
    encode: Encode, names: Sequence[str], templates: Sequence[str], at_once: int = 512
) -> Tensor:
    """(K, D) of unit length: normalised, averaged over templates, normalised.

    Args:
        encode: Texts -> (B, D), of any length.
        names: K class names.
        templates: P sentences with `{}` for the name.
        at_once: Texts that are encoded together, at most, or those of one class.

    Raises:
        ValueError: If names or templates cannot be used, or the sentences of a class cancel out.

    Example:
        >>> encode = lambda texts: torch.tensor([[float(len(text)), 1.0] for text in texts])
        >>> class_vectors(encode, ["a", "bcd"], ["{}", "{}!"]).shape
        torch.Size([2, 2])
    """
    require_names(names)
    return name_vectors(encode, names, templates, at_once)


def name_vectors(
    encode: Encode, names: Sequence[str], templates: Sequence[str], at_once: int = 512
) -> Tensor:
    """The same for names of which one may be alone: (Q, D).

    Raises:
        ValueError: If there is none, a template cannot be used, or the sentences of one cancel out.
    """
    if not names:
        raise ValueError("there is no name to make a vector of; give one")
    require_templates(templates)
    classes_at_once = max(1, at_once // len(templates))
    parts = []
    for start in range(0, len(names), classes_at_once):
        some = names[start : start + classes_at_once]
        texts_BD = encode(sentences(some, templates))
        parts.append(mean_directions(texts_BD.unflatten(0, (len(some), len(templates)))))
        if bool((parts[-1].norm(dim=-1) < 0.5).any()):
            raise ValueError(
                f"the sentences of a class among {some[0]!r} ... {some[-1]!r} cancel out, so that "
                "it has no vector; check the text tower"
            )
    return torch.cat(parts)


def mean_directions(texts_KPD: Tensor) -> Tensor:
    """(K, P, D) -> (K, D) of unit length; zero where the directions cancel out."""
    return F.normalize(F.normalize(texts_KPD, dim=-1).mean(dim=1), dim=-1)
