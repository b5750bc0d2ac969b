"""Whether weights are the file that was released, by the sha256 that its publisher gives.

The hub gives one for every large file and names its cached copy by it; files of timm's own site end
in its first digits, 'name-0123abcd.pth'; and the zoo holds some, for files that came another way.
"""

from __future__ import annotations

import re
from pathlib import Path

from pe_dense.encoders.contract import WeightsInfo
from pe_dense.encoders.zoo import ENCODERS, find_encoder

RELEASED, ANOTHER, UNKNOWN = "the released file", "another file", "no published hash"
_SNAPSHOT = re.compile(r"/snapshots/([0-9a-f]{40})/")
_NAMED = re.compile(r".+-([0-9a-f]{8,64})\.(pth|pt|bin|safetensors)")


def require_published(path: Path, sha256: str, source: str, released_as: str | None = None) -> bool:
    """Compare a downloaded file with the hash that its publisher gives.

    Args:
        path: The file in the cache of the hub, or of timm.
        sha256: Its hash.
        source: How errors call it.
        released_as: 'hf://owner/repo:file', as the zoo may have it. With a revision it has none:
            that may be another file.

    Returns:
        Whether there was something to compare with.

    Raises:
        ValueError: If it is another file.
    """
    stored_as = path.resolve().name  # the hub's cache names large files by their sha256
    is_object = re.fullmatch("[0-9a-f]{64}", stored_as) is not None
    if is_object and stored_as != sha256:
        raise ValueError(
            f"the cached copy of {source} is damaged (its sha256 is {sha256[:12]}..., expected "
            f"{stored_as[:12]}...); delete {path.resolve()} and download it again"
        )
    known = {spec.weights: spec.sha256 for spec in ENCODERS.values() if spec.sha256}
    named = None if is_object else _NAMED.fullmatch(path.name)
    expected = known.get(released_as or "") or (named[1] if named else None)
    if expected is not None and not sha256.startswith(expected):
        remedy = (
            "name the revision that you mean as hf://owner/repo@revision:file"
            if is_object
            else f"delete {path} and download it again"
        )
        raise ValueError(
            f"{source} is not the file that was released: its sha256 is {sha256[:12]}..., and "
            f"{expected[:12]} was published; {remedy}"
        )
    return is_object or expected is not None


def revision_of(path: Path) -> str | None:
    """Commit of the hub's repository that a file of its cache is of, 40 hex digits, or None.

    Example:
        >>> revision_of(Path("/hub/models--a--b/snapshots") / ("0" * 40) / "b.pt") == "0" * 40
        True
    """
    found = _SNAPSHOT.search(path.as_posix())
    return found[1] if found else None


def standing(encoder: str, weights: WeightsInfo) -> str | None:
    """How weights stand to those that were released for an encoder; None for random ones.

    Args:
        encoder: Name in the zoo.
        weights: What was loaded.

    Returns:
        `RELEASED`, `ANOTHER`, or `UNKNOWN` where there is no published hash to tell.
    """
    if weights.sha256 == "random":
        return None
    spec = find_encoder(encoder)
    if spec.sha256 is not None:
        return RELEASED if weights.sha256 == spec.sha256 else ANOTHER
    own = f"timm:{spec.arch['model_name']}" if spec.weights == "timm" else spec.weights
    source = re.sub("@[^:]*", "", weights.source)
    short = own.rpartition(":")[0] if own.startswith("hf://") else own  # NAME.pt is the default
    return RELEASED if weights.is_published and source in (own, short) else UNKNOWN
