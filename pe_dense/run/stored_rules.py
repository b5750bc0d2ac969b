"""What of a config that a checkpoint holds is believed: it is data of a file that anyone may write.

A config file is code that a person has chosen to run; what a checkpoint holds is not. MMEngine
builds whatever a config names, by registry or by import path, and its parts may read, write, fetch
or run things. So names in a stored config must be names that this project's own configs use, and
nothing in it may point at a file but where data are read, or at the network, or say where to write.

What training alone uses (hooks, optimisers, checkpoints to start from, loggers) is never built from
a stored config, and `without_training` takes it out.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mmengine.config import Config

from pe_dense.results.provenance import repository_root
from pe_dense.run import tile_option, training_options
from pe_dense.run.config_files import CONFIGS
from pe_dense.run.references import REFERENCE, Given

# Parts of a config that are built to predict, and those that are read to score, too.
BUILT = ("model", "tta_model", "data_preprocessor", "test_dataloader", "test_cfg")
READ = ("test_evaluator", "train_dataloader", "val_dataloader", "val_evaluator")
# Longest text and largest number of values that references may grow a config to.
MAX_GROWN = 50_000_000

_TYPE = re.compile(r"""\b\w*type['"]?\s*[=:]\s*['"]([A-Za-z_][\w.]*)['"]""")
_FUNCTION = re.compile(r"""['"](pe_dense(?:\.\w+)+:\w+)['"]""")
_MODULE = re.compile(r"""['"]((?:mmdet|mmseg|mmengine|mmcv)(?:\.\w+)*)['"]""")
_OWN_MODULE = re.compile(r"pe_dense(\.[a-z]\w*)+")
_ENCODER = re.compile(r"(timm:)?[A-Za-z0-9][\w.+-]*")
# Settings that name a place to write to.
_WRITTEN = (
    "outfile_prefix", "out_dir", "output_dir", "results_dir", "journal_dir", "save_dir", "work_dir",
    "log_dir", "out_file_path", "dump_dir", "cache_folder", "tmpdir", "collect_dir",
)  # fmt: skip
# Settings that have files or the network read, whatever the part.
_FETCHED = (
    "backend_args", "file_client_args", "pretrained", "checkpoint", "checkpoint_path", "load_from",
    "lazy_import",
)  # fmt: skip
# What MMEngine's Runner would build or do besides.
_OF_TRAINING = (
    "visualizer", "vis_backends", "default_hooks", "auto_scale_lr", "work_dir", "log_processor",
    "log_level", "model_wrapper_cfg", "compile", "activation_checkpointing", "custom_imports",
    "efficient_conv_bn_eval", "experiment_name", "runner_type", "sync_bn", "journal_dir",
    "results_dir",
)  # fmt: skip
_OF_SCORING = ("evaluation_only", "training_free", "trained_with", "detector_of_checkpoint")
# Functions that a config names.
_CALLED = ("data_facts", "data_check", "layer_choice")
_SCOPES = ("mmengine", "mmdet", "mmseg")
# What building from values of a wrong kind ends in.
_STUMBLES = (
    TypeError, KeyError, AttributeError, IndexError, ImportError, AssertionError, ArithmeticError,
    RecursionError,
)  # fmt: skip
_LOADED = ("model", "tta_model", "data_preprocessor")


@dataclass(frozen=True)
class Trusted:
    """Names that may be used: those of this project, and those of what the user wrote or typed.

    Attributes:
        types: Of registries.
        functions: 'package.module:function'.
        modules: That are imported.
        scopes: Packages whose registries are asked; MMEngine imports the one that a dict's
            '_scope_' names.
        scoring: Keys of `_OF_SCORING` with their values, of a config that the user names.
    """

    types: frozenset[str]
    functions: frozenset[str]
    modules: frozenset[str]
    scopes: frozenset[str]
    scoring: frozenset[str] = frozenset()

    def and_of(self, template: Mapping[str, Any]) -> Trusted:
        """The same with what a config uses that the user names."""
        types = {node["type"] for _, node in _dicts(template) if isinstance(node.get("type"), str)}
        types |= {
            str(value) for key, value in template.items() if str(key).endswith("type") and value
        }
        functions = {str(template[key]) for key in _CALLED if key in template}
        imports = (template.get("custom_imports") or {}).get("imports") or []
        imports = [imports] if isinstance(imports, str) else imports
        scopes = {str(scope) for _, scope in _scopes(template)}
        return Trusted(
            self.types | types,
            self.functions | functions,
            self.modules | frozenset(imports),
            self.scopes | scopes,
            self.scoring | {f"{key}={template[key]!r}" for key in _OF_SCORING if key in template},
        )

    def and_of_options(self, options: Mapping[str, Any] | None) -> Trusted:
        """The same with what is typed, by dotted keys."""
        tree: dict[str, Any] = {}
        for key, value in (options or {}).items():
            *inner, last = key.split(".")
            node = tree
            for part in inner:
                node = node.setdefault(part, {})
            node[last] = value
        return self.and_of(tree)


@functools.lru_cache(maxsize=1)
def of_project() -> Trusted:
    """What the project's own configs and their options name; read as text, nothing is run."""
    options = [Path(str(module.__file__)) for module in (tile_option, training_options)]
    files = [*(repository_root() / CONFIGS).rglob("*.py"), *options]
    texts = [file.read_text(encoding="utf-8") for file in files]
    found = [
        frozenset(name for text in texts for name in pattern.findall(text))
        for pattern in (_TYPE, _FUNCTION, _MODULE)
    ]
    return Trusted(*found, scopes=frozenset(_SCOPES))


def require_trusted(template: Config, file: str | Path, trusted: Trusted) -> None:
    """Refuse a stored config before references are filled in, which calls functions of it.

    Args:
        template: With references in place.
        file: How errors call the checkpoint.
        trusted: What may be named.

    Raises:
        ValueError: Naming the first place.
    """
    imports = template.get("custom_imports") or {}
    modules = imports.get("imports") or [] if isinstance(imports, Mapping) else [imports]
    if not isinstance(modules, str | list | tuple):
        raise _refusal(file, "custom_imports", modules, "no modules")
    for module in [modules] if isinstance(modules, str) else modules:
        is_known = isinstance(module, str) and (
            _OWN_MODULE.fullmatch(module) or module in trusted.modules
        )
        if not is_known:
            raise _refusal(file, "custom_imports", module, "code that is not of this project")
    for key in _CALLED:
        if key in template and str(template[key]) not in trusted.functions:
            raise _refusal(file, key, template[key], "a function that is not of this project")
    for key in _OF_SCORING:  # a training has none of them, and 'trained_with' is a file that is run
        if template.get(key) and f"{key}={template[key]!r}" not in trusted.scoring:
            raise _refusal(file, key, template[key], "something that no training has")
    for where, scope in _scopes(template):
        if not isinstance(scope, str) or scope not in trusted.scopes:
            raise _refusal(file, where, scope, "a package that is not of this project")
    encoder = template.get("encoder")
    if encoder is not None and not (isinstance(encoder, str) and _ENCODER.fullmatch(encoder)):
        raise _refusal(file, "encoder", encoder, "no name of an encoder")
    for where, node in _dicts(template):
        if "encoder_options" in node:
            _require_plain_options(node["encoder_options"], file, f"{where}.encoder_options")
    require_small(template, file)


def _require_plain_options(options: Any, file: str | Path, where: str) -> None:
    for key, value in options.items() if isinstance(options, Mapping) else ():
        inner = value if isinstance(value, list | tuple) else [value]
        is_plain = all(
            item is None
            or isinstance(item, bool | int | float)
            or (isinstance(item, str) and re.fullmatch(r"\$?[\w.]+", item))
            for item in inner
        )
        if key in ("model_name", "pretrained") or not is_plain:
            raise _refusal(file, f"{where}.{key}", value, "another model than its encoder's")


def require_small(template: Config, file: str | Path) -> None:
    """Refuse names that refer to names so often that filling them in would fill the memory.

    Raises:
        ValueError: If so.
    """
    names = template._cfg_dict
    sizes: dict[str, int] = {}

    def size(value: Any, inside: tuple[str, ...]) -> int:
        if isinstance(value, dict):
            return 1 + sum(size(item, inside) for item in value.values())
        if isinstance(value, list | tuple):
            return 1 + sum(size(item, inside) for item in value)
        if not isinstance(value, str) or isinstance(value, Given):
            return 1
        total = len(value)
        for name in REFERENCE.findall(value):
            if name in names and name not in inside:  # circles are told where they are filled in
                if name not in sizes:
                    sizes[name] = size(names[name], (*inside, name))
                total += sizes[name]
        return total

    if size(names, ()) > MAX_GROWN:
        raise ValueError(
            f"checkpoint {file} holds a config whose names grow beyond {MAX_GROWN} characters when "
            "they are filled in; do not use it"
        )


def import_modules(template: Config) -> None:
    """Import what registers the parts of a config that has passed `require_trusted`."""
    modules = (template.get("custom_imports") or {}).get("imports") or []
    for module in [modules] if isinstance(modules, str) else modules:
        importlib.import_module(module)


def require_harmless(cfg: Config, file: str | Path, trusted: Trusted, with_data: bool) -> None:
    """Refuse a resolved stored config whose parts would do more than score or predict.

    Args:
        cfg: With references filled in.
        file: How errors call the checkpoint.
        trusted: What may be named.
        with_data: Whether its data are to be read.

    Raises:
        ValueError: Naming the first place.
    """
    parts = (*BUILT, *READ) if with_data else BUILT
    for part in parts:
        if part not in cfg:
            continue
        for where, node in _dicts({part: cfg[part]}):
            kind = node.get("type")
            if "type" in node and (not isinstance(kind, str) or kind not in trusted.types):
                raise _refusal(file, f"{where}.type", kind, "a part that no config of it uses")
            for key, value in node.items():
                _require_harmless_value(f"{where}.{key}".lstrip("."), key, value, file, with_data)
        for where, text in _texts(cfg[part], part):
            if "://" in text:
                raise _refusal(file, where, text, "an address")
            is_path = part in _LOADED and re.search(r"[/\\]|^~", text)
            written = where.rpartition(".")[2] in _WRITTEN  # judged above, as a place to write to
            if is_path and not written and not (with_data and where.endswith(".ann_file")):
                raise _refusal(file, where, text, "a file")


def _require_harmless_value(
    where: str, key: Any, value: Any, file: str | Path, with_data: bool
) -> None:
    if key in _FETCHED and value:
        raise _refusal(file, where, value, "something to load")
    if key == "weights" and isinstance(value, str) and value != "random":
        raise _refusal(file, where, value, "weights to load")
    if key in _WRITTEN and value is not None and not _is_own_folder(value):
        raise _refusal(file, where, value, "a place to write to")


def _is_own_folder(value: Any) -> bool:
    """Whether a place to write to lies where runs of this project write."""
    if not isinstance(value, str) or "\\" in value:
        return False
    parts = PurePosixPath(value).parts
    return parts[:1] == ("work_dirs",) and ".." not in parts


def require_harmless_options(
    options: Mapping[str, Any], file: str | Path, trusted: Trusted
) -> None:
    """Refuse stored options that a config of the user's own must not be given.

    Args:
        options: By dotted keys.
        file: How errors call the checkpoint.
        trusted: What may be named, the user's config included.

    Raises:
        ValueError: Naming the first option.
    """
    for key, value in options.items():
        last = key.rpartition(".")[2]
        for where, node in [(key.rpartition(".")[0], {last: value}), *_dicts(value, key)]:
            kind = node.get("type")
            if kind is not None and kind not in trusted.types:
                raise _refusal(file, f"{where}.type", kind, "a part that no config of it uses")
            for name, item in node.items():
                if "." in key:
                    _require_harmless_value(f"{where}.{name}", name, item, file, True)
        for where, text in _texts(value, key):
            in_model = key.split(".")[0] in _LOADED and re.search(r"[/\\]|^~", text)
            if ("://" in text and key != "weights") or in_model:
                raise _refusal(file, where, text, "something to load")


def without_training(cfg: Config, options: Mapping[str, Any] | None = None) -> Config:
    """The config without what only training uses, what says where logs go, and how to start.

    Args:
        cfg: Resolved; changed in place.
        options: What is typed now, which stays.

    Raises:
        ValueError: If an option changes a part that is taken out.
    """
    for key in options or {}:
        top, dot, _ = key.partition(".")
        if dot and top in (*_OF_TRAINING, "env_cfg", "custom_hooks"):
            raise ValueError(
                f"--cfg-options {key} does nothing for a checkpoint that is opened without its "
                f"config, since {top} is not taken from there; leave it out, or name the CONFIG"
            )
    for name in _OF_TRAINING:
        if name not in (options or {}):
            cfg.pop(name, None)
    cfg.custom_hooks = []
    cfg.load_from, cfg.resume = None, False
    backend = cfg.get("dist_backend")
    cfg.env_cfg = dict(
        cudnn_benchmark=False,
        mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
        dist_cfg=dict(backend=backend if backend in ("gloo", "nccl") else "gloo"),
    )
    return cfg


def _refusal(file: str | Path, where: str, value: Any, words: str) -> ValueError:
    return ValueError(
        f"checkpoint {file} holds a config with {where}={str(value)[:80]!r}, which names {words} "
        "and was not used; if you trust it, name the CONFIG that it was trained with as well"
    )


@contextlib.contextmanager
def refused_if_malformed(file: str | Path | None) -> Iterator[None]:
    """Say of a stored config that is no config what is wrong, whatever stumbles over it.

    Nothing in it has to be of the kind that its place asks for, and the libraries that build from
    it raise what they like.

    Raises:
        ValueError: In the place of such errors.
    """
    try:
        yield
    except _STUMBLES as error:
        lines = str(error).strip().splitlines() or [""]
        raise ValueError(
            f"checkpoint {file} holds a config that cannot be used ({type(error).__name__}: "
            f"{lines[0][:200]}); name the CONFIG that it was trained with as well, or do not use it"
        ) from error


def _scopes(template: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """All packages that a config has asked for parts, with their places."""
    if "default_scope" in template:
        yield "default_scope", template["default_scope"]
    for where, node in _dicts(template):
        if "_scope_" in node:
            yield f"{where}._scope_".lstrip("."), node["_scope_"]


def _dicts(value: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """All dicts in a nested value with their places."""
    if isinstance(value, Config):
        value = value._cfg_dict
    if isinstance(value, Mapping):
        yield where, value
        for key, item in value.items():
            yield from _dicts(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _dicts(item, f"{where}[{place}]")


def _texts(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """All texts in a nested value with their places, but those in keys."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _texts(item, f"{where}[{place}]")
    elif isinstance(value, str):
        yield where, value
