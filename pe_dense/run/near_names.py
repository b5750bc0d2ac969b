"""Which of the known names a person most likely meant; nothing here imports torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near_names(name: str, known: Iterable[str], limit: int = 3, cutoff: float = 0.6) -> list[str]:
    """Known names that resemble one that is not known, the nearest first.

    Those that begin as it does come first: who leaves an end out means one of them.

    Args:
        name: What was typed.
        known: Names that exist.
        limit: How many at most.
        cutoff: How alike they must be, 0 to 1.

    Example:
        >>> near_names("pe_spatial_b16", ["pe_spatial_b14_448", "pe_spatial_b16_512", "mae_b16"])
        ['pe_spatial_b16_512', 'pe_spatial_b14_448']
        >>> near_names("max_epoch", ["max_epochs", "max_iters", "lr"])
        ['max_epochs']
        >>> near_names("", ["a"])
        []
    """
    plain = {_plain(item): item for item in sorted(set(known), reverse=True)}
    typed = _plain(name)
    if len(typed) < 2:
        return []
    begun = sorted((item for item in plain if item.startswith(typed)), key=lambda i: (len(i), i))
    alike = difflib.get_close_matches(typed, plain, n=limit, cutoff=cutoff)
    return [plain[item] for item in dict.fromkeys([*begun, *alike])][:limit]


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def hint(name: str, known: Iterable[str], limit: int = 3, cutoff: float = 0.6) -> str:
    """'did you mean a, b?', or nothing where no name is near.

    Example:
        >>> hint("trian", ["train", "test"])
        'did you mean train?'
    """
    found = near_names(name, known, limit, cutoff)
    return f"did you mean {', '.join(found)}?" if found else ""
