"""Sentences and class names of published protocols, as data files; and a person's own.

A protocol names a file and its sha256, so that its hash says which sentences were used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pe_dense.results.typed_json import unique_keys
from pe_dense.text_dense.class_vectors import PLACE, require_templates

FOLDER = Path(__file__).parent / "prompts"


def load_templates(given: str | Sequence[str], sha256: str | None = None) -> tuple[str, ...]:
    """Sentences with `{}` for the name of a class.

    Args:
        given: The sentences; or the name of a file of this package ('clip_imagenet_templates'); or
            a file of one's own: '.txt' with one a line, '.json' with a list. A list of one such
            name is that name, because options cannot make a text of a list.
        sha256: What the hash of a file must be; None: not checked.

    Raises:
        ValueError: If a file is missing, is another one or holds no sentences, or one has no place
            for the name.

    Example:
        >>> len(load_templates("clip_imagenet_templates")), load_templates(["a {}."])
        (80, ('a {}.',))
    """
    if not isinstance(given, str) and len(given) == 1 and _names_file(given[0]):
        given = given[0]
    if not isinstance(given, str):
        require_templates(given)
        return tuple(given)
    path = FOLDER / f"{given}.json"
    own = Path(given).expanduser()
    if own.suffix in (".txt", ".json"):
        path = own
    elif not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*_templates.json")))
        raise ValueError(
            f"templates={given!r} is neither a list of sentences, nor a .txt or .json file, nor "
            f"one of {known}"
        )
    text = _text(path, sha256)
    if path.suffix == ".txt":
        found: object = [line.strip() for line in text.splitlines() if line.strip()]
    else:
        found = _json(path, text)
        found = found.get("templates") if isinstance(found, dict) else found
    if not isinstance(found, list):
        raise ValueError(f"{path} holds no list of sentences; write one")
    try:
        require_templates(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return tuple(found)


def _names_file(text: object) -> bool:
    """Whether a text is no sentence but the name of a file with some."""
    if not isinstance(text, str) or PLACE in text:
        return False
    return Path(text).suffix in (".txt", ".json") or (FOLDER / f"{text}.json").is_file()


def load_names(given: str, sha256: str | None = None) -> dict[str, str]:
    """Class name of each folder, from a file of this package or one's own '.json' object.

    Raises:
        ValueError: If it is missing, is another one, or holds no names.

    Example:
        >>> load_names("clip_imagenet_names")["n01440764"]
        'tench'
    """
    own = Path(given).expanduser()
    path = own if own.suffix == ".json" else FOLDER / f"{given}.json"
    found = _json(path, _text(path, sha256))
    if isinstance(found, dict) and isinstance(found.get("names"), dict):
        found = found["names"]
    if not isinstance(found, Mapping) or not all(isinstance(n, str) for n in found.values()):
        raise ValueError(f'{path} holds no names; write {{"folder": "name", ...}}')
    return dict(found)


def _text(path: Path, sha256: str | None) -> str:
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")  # a mark of the encoding would be part of a sentence
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error}); correct its name") from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(
            f"{path} is not the file of this protocol (sha256 {sha256[:12]}...); restore it, or "
            "give templates_sha256 of yours, which makes another protocol"
        )
    return text


def _json(path: Path, text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}); correct it") from error
