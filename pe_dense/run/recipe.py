"""What a checkpoint keeps of its config, so that nobody has to name it again.

The config as its file had it, what was typed, and what was found in the data lie in the checkpoint
as plain values; together they give the config of the training word for word. All of it is data of a
file that anyone may have written: `stored_rules` says what of it is believed.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.results.provenance import repository_root
from pe_dense.run.config import overridden

FORMAT = 1
# Values in a recipe, nested ones counted; the largest of this project's configs has about 1,500.
MAX_VALUES, MAX_DEPTH, MAX_TEXT = 200_000, 60, 100_000
# None of them counts in a protocol.
_OVER = (
    "default_hooks", "journal_dir", "launcher", "load_from", "log_interval", "log_level",
    "log_processor", "out_dir", "resume", "results_dir", "vis_backends", "visualizer", "work_dir",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A config, and what made a run of it.

    Attributes:
        config: The config file's name as it was typed.
        written: The config as its file had it, references in place.
        options: `--cfg-options` of the training.
        texts: The same as they were typed, for where a config has text: '2024'.
        accept: Faults of the data that were accepted at the command line.
        data: What was found in the data, by name: classes and the like.
        folder: Folder that relative paths are below, '~' for the home; '' where it is not told.
        format: Version of this list.
    """

    config: str
    written: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    accept: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
    format: int = FORMAT

    @classmethod
    def from_meta(cls, meta: Any, file: str | Path) -> Recipe:
        """Read what `to_meta` wrote; `file` is how errors call the checkpoint.

        Raises:
            ValueError: If it is of another kind, or of a later version of this project.
        """
        kinds = {
            "config": str, "written": dict, "options": dict, "texts": dict, "accept": list,
            "data": dict, "folder": str, "format": int,
        }  # fmt: skip
        is_right = isinstance(meta, Mapping) and meta.keys() == kinds.keys()
        if not is_right or any(type(meta[name]) is not kind for name, kind in kinds.items()):
            raise ValueError(
                f"checkpoint {file} holds a config of an unknown form; name its CONFIG as well, or "
                "use the version of pe_dense that wrote it"
            )
        if problem := _problem(dict(meta)):
            raise ValueError(f"checkpoint {file} holds a config with {problem}; do not use it")
        return cls(**meta)

    def to_meta(self) -> dict[str, Any]:
        """Plain values, which a checkpoint may hold.

        Raises:
            ValueError: If the config holds something else.
        """
        meta = plain(dataclasses.asdict(self))
        if problem := _problem(meta):
            raise ValueError(
                f"config {self.config} has {problem}, which a checkpoint cannot keep; write it as "
                "text, a number, a list or a dict"
            )
        return meta

    def as_written(self) -> Config:
        """The config as its file had it."""
        return Config(self.written)

    def template(self, encoder: str) -> Config:
        """The config as it was trained, references in place, with random weights.

        Raises:
            ValueError: If the options do not fit the config.
        """
        return with_accepted(
            overridden(self.as_written(), self.config, encoder, "random", self.typed_options()),
            self.accept,
        )

    def typed_options(self) -> TypedOptions:
        """The options with what was typed, as `apply_options` takes them.

        Those that say where a training writes, logs and begins are left out: it is over.
        """
        kept = {key: v for key, v in self.options.items() if key.split(".")[0] not in _OVER}
        return TypedOptions(kept, self.texts)


class TypedOptions(dict[str, Any]):
    """Options by name; `texts` has what a person wrote."""

    def __init__(self, values: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        super().__init__(values)
        self.texts = dict(texts)


def with_accepted(template: Config, accept: Sequence[str]) -> Config:
    """The config with faults of the data that are accepted besides, in place."""
    if accept:
        template.accept = sorted({*template.get("accept", ()), *accept})
    return template


def shown_name(config: str) -> str:
    """How a checkpoint calls a config: below the current folder or the project, else its name.

    Example:
        >>> shown_name("configs/a.py"), shown_name("/somewhere/else/own.py")
        ('configs/a.py', 'own.py')
    """
    path = Path(config).expanduser()
    if not path.is_absolute():
        return path.as_posix()
    for base in (Path.cwd(), repository_root()):
        if path.is_relative_to(base):
            return path.relative_to(base).as_posix()
    return path.name


def shown_path(folder: Path) -> str:
    """A folder as a checkpoint keeps it, '~' for the home."""
    home = Path.home()
    if folder.is_relative_to(home):
        return Path("~", folder.relative_to(home)).as_posix()
    return folder.as_posix()


def plain(value: Any) -> Any:
    """The same of plain dicts, lists, tuples and texts, without the classes of MMEngine."""
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    return str(value) if isinstance(value, str | Path) else value


def _problem(value: Any) -> str | None:
    """Why a value is none that a checkpoint may keep, with its place; None if it is."""
    left, count = [(value, "", 0)], 0
    while left:
        node, where, depth = left.pop()
        count += 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            return f"more than {MAX_VALUES} values, or {MAX_DEPTH} inside each other"
        if isinstance(node, dict):
            if any(type(key) not in (str, int) for key in node):
                return f"a key that is no text at {where or 'the top'}"
            left += [(item, f"{where}.{key}".lstrip("."), depth + 1) for key, item in node.items()]
        elif isinstance(node, list | tuple):
            left += [(item, f"{where}[{place}]", depth + 1) for place, item in enumerate(node)]
        elif type(node) is str:
            if len(node) > MAX_TEXT:
                return f"a text of {len(node)} characters at {where}"
        elif type(node) is float:
            if math.isnan(node):
                return f"a number that is none at {where}"
        elif node is not None and type(node) not in (bool, int):
            return f"a {type(node).__name__} at {where}"
    return None
