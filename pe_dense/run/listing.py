"""What there is to choose from, a line each: configs, encoders, suites. No config is run for it.

`pe-dense list detection bccd` and `tools/train.py --list detection bccd` print the configs that
have all these words; `--list encoders` the zoo. Nothing here imports torch or OpenMMLab.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from pe_dense.encoders.zoo import ENCODERS, EncoderSpec
from pe_dense.run.config_files import CONFIGS, config_files
from pe_dense.run.near_names import hint

KINDS = ("configs", "encoders", "suites")
_BEGINNING = re.compile(r'\s*[rR]?("""|\'\'\')(.*?)(?:\n\s*\n|\1)', re.S)


def first_sentence(file: Path) -> str:
    """What a config is: the first sentence of its header, without the full stop."""
    with file.open(encoding="utf-8") as text:
        found = _BEGINNING.match(text.read(2000))
    if found is None:
        return ""
    return re.split(r"\.(?:\s|$)", " ".join(found[2].split()))[0]


def runnable_configs() -> dict[str, Path]:
    """Path as it is typed -> file, of all configs that can be run."""
    return {
        path.as_posix(): file
        for path, file in config_files(CONFIGS).items()
        if not any(part.startswith("_") or part == "suites" for part in path.parts)
    }


def listed(kind: str) -> dict[str, str]:
    """Name -> one line, of everything of a kind.

    Raises:
        ValueError: If there is no such kind.
    """
    if kind == "configs":
        return {name: first_sentence(file) for name, file in runnable_configs().items()}
    if kind == "suites":
        files = config_files(CONFIGS / "suites")
        return {path.stem: first_sentence(file) for path, file in files.items()}
    if kind == "encoders":
        return {name: _of_encoder(spec) for name, spec in ENCODERS.items()}
    raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}; {hint(kind, KINDS)}".rstrip("; "))


def _of_encoder(spec: EncoderSpec) -> str:
    """Size where the table has it, weights, licence."""
    licence = f"{spec.licence}, non-commercial" if spec.is_non_commercial else spec.licence
    if spec.family == "timm":
        return f"timm:{spec.arch['model_name']}; {licence}"
    size = "patch {patch_size}, {depth} blocks of {embed_dim}, {image_size} px".format(**spec.arch)
    return f"{size}; {spec.weights.partition(':')[2].removeprefix('//')}; {licence}"


def listing(words: Sequence[str]) -> str:
    """Lines for a person who looks for something.

    Args:
        words: A kind (default: configs), then words that a line must have, in any order.

    Raises:
        ValueError: If nothing has them all, with what would be near.
    """
    kind, wanted = "configs", [*words]
    if wanted and wanted[0].removesuffix("s") + "s" in KINDS:
        kind = wanted.pop(0).removesuffix("s") + "s"
    found = listed(kind)
    kept = {
        name: text
        for name, text in found.items()
        if all(word.lower() in f"{name} {text}".lower() for word in wanted)
    }
    if not kept:
        parts = {part for name in found for part in re.split(r"[\W_]+", name)} | set(KINDS)
        missing = next(
            (
                w
                for w in wanted
                if not any(w.lower() in f"{n} {t}".lower() for n, t in found.items())
            ),
            "",
        )
        near = hint(missing, parts, cutoff=0.5) if missing else ""
        raise ValueError(
            f"none of {len(found)} {kind} has {' and '.join(map(repr, wanted))}"
            + (f"; {near}" if near else "; give fewer words")
        )
    width = max(map(len, kept))
    lines = [f"{name:{width}}  {text}".rstrip() for name, text in kept.items()]
    return "\n".join(lines) + "\n"


def names_at_top(file: Path) -> list[str]:
    """Names that `--cfg-options` of a config may set: its own and those of its bases, sorted."""
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            parts = target.elts if isinstance(target, ast.Tuple) else [target]
            found |= {part.id for part in parts if isinstance(part, ast.Name)}
        if ast.unparse(node.targets[0]) == "_base_":
            bases = ast.literal_eval(node.value)
            for base in [bases] if isinstance(bases, str) else bases:
                place = file.parent / base
                found |= set(names_at_top(place)) if place.is_file() else set()
    return sorted(name for name in found if not name.startswith(("_", "REQUIRED_")))
