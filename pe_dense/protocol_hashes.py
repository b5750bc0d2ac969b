"""Published protocols never change: the hash of each is stored and compared.

benchmarks/protocols.json maps '<id>-v<version>' to the config that defines it and the hash of its
settings, the one that records hold. A config that changed without a new version is an error.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pe_dense.experiment import load_template
from pe_dense.results.provenance import atomic_write_text
from pe_dense.training import protocol_sha256

STORED = Path("benchmarks/protocols.json")
CONFIGS = Path("configs")
ACCEPT = "python tools/protocols.py accept"


def current_protocols(configs: Path = CONFIGS) -> dict[str, dict[str, str]]:
    """'<id>-v<version>' -> config and hash, of all configs that define a protocol.

    Files in folders that start with '_' are parts of configs, those in 'suites' are no configs.

    Raises:
        ValueError: If two configs define the same protocol version, or one cannot be read.
    """
    found: dict[str, dict[str, str]] = {}
    for path in sorted(configs.rglob("*.py")):
        inner = path.relative_to(configs).parts
        if inner[0] == "suites" or any(part.startswith("_") for part in inner):
            continue
        template = load_template(path)
        if "protocol" not in template:
            continue
        key = f"{template.protocol.id}-v{template.protocol.version}"
        name = (Path(configs.name) / path.relative_to(configs)).as_posix()
        if key in found:
            raise ValueError(
                f"{found[key]['config']} and {name} both define {key}; give one of them another "
                "id or version"
            )
        found[key] = {"config": name, "sha256": protocol_sha256(template)}
    return found


def stored_protocols(path: Path = STORED) -> dict[str, dict[str, str]]:
    """What was accepted before; empty if the file does not exist.

    Raises:
        ValueError: If the file is not as `accept` writes it.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text())
        return {
            key: {name: row[name] for name in ("config", "sha256")} for key, row in content.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is not a list of protocols; restore it") from None


def find_changes(
    current: Mapping[str, Mapping[str, str]], stored: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """One sentence for each protocol that is not as it was stored; they say what to do."""
    problems = []
    for key, row in sorted(current.items()):
        if key not in stored:
            problems.append(f"{row['config']}: {key} is new; publish it with: {ACCEPT}")
        elif stored[key]["sha256"] != row["sha256"]:
            problems.append(
                f"{row['config']}: the settings of {key} changed; raise protocol.version there and "
                f"run: {ACCEPT}, or restore the config"
            )
        elif stored[key]["config"] != row["config"]:
            problems.append(f"{key} moved to {row['config']}; say so with: {ACCEPT}")
    return problems


def retired(
    current: Mapping[str, Mapping[str, str]], stored: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Protocol versions whose config is now another version, or gone; records of them stay."""
    return sorted(stored.keys() - current.keys())


def accept(path: Path = STORED, configs: Path = CONFIGS) -> list[str]:
    """Store new protocols, and new places of old ones; returns the keys that were written.

    Old versions stay in the file, so that a version number is never used again for other
    settings.

    Raises:
        ValueError: If the settings of a stored protocol changed: that is never accepted.
    """
    current, stored = current_protocols(configs), stored_protocols(path)
    for key, row in current.items():
        if key in stored and stored[key]["sha256"] != row["sha256"]:
            raise ValueError(find_changes({key: row}, stored)[0])
    written = sorted(key for key, row in current.items() if stored.get(key) != row)
    content = dict(sorted({**stored, **current}.items()))
    atomic_write_text(path, json.dumps(content, indent=2) + "\n")
    return written
