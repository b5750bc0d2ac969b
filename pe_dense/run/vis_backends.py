"""Where the numbers of a run go beside its log: TensorBoard, Weights & Biases and others.

    --cfg-options vis_backends=tensorboard
    --cfg-options vis_backends=[tensorboard,wandb]
    --cfg-options "vis_backends=[{'type': 'WandbVisBackend', 'init_kwargs': {'project': 'pe'}}]"

The last is MMEngine's form, and a config may have it, too. The files of the log stay. None of this
is part of a protocol. Keys and passwords are refused: a command stands in the log, in checkpoints
and in published records. The services read them from the environment or their own log-in.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config

# Short name -> MMEngine's type and the package that it needs.
BACKENDS: dict[str, tuple[str, str | None]] = {
    "local": ("LocalVisBackend", None),
    "tensorboard": ("TensorboardVisBackend", "tensorboard"),
    "wandb": ("WandbVisBackend", "wandb"),
    "mlflow": ("MLflowVisBackend", "mlflow"),
    "clearml": ("ClearMLVisBackend", "clearml"),
    "neptune": ("NeptuneVisBackend", "neptune"),
    "dvclive": ("DVCLiveVisBackend", "dvclive"),
    "aim": ("AimVisBackend", "aim"),
}
_EXTRAS = ("tensorboard",)  # of setup.py, with the versions that fit
FORM = "--cfg-options vis_backends=tensorboard, or 'vis_backends=[tensorboard,wandb]'"
_LOCAL = {"type": "LocalVisBackend"}
_SECRET = re.compile(r"(api|access|secret|private)_?key|token|secret|passw|credential", re.I)
_LOGIN = re.compile(r"\w+://[^/\s]*@")


def use_vis_backends(cfg: Config) -> None:
    """Put `vis_backends` of a resolved config where MMEngine reads it, its visualizer.

    Raises:
        ValueError: If a backend is unknown or its package is not there.
    """
    asked = cfg.pop("vis_backends", None)
    visualizer = cfg.get("visualizer")
    if isinstance(visualizer, (str, list, tuple)):  # people name the backend there
        asked, visualizer = asked or visualizer, None
    if visualizer is not None:
        if not isinstance(visualizer, Mapping):
            raise ValueError(f"visualizer={visualizer!r} is no dict; write {FORM}")
        _require_no_secret(visualizer)
        asked = visualizer.get("vis_backends") if asked is None else asked
    if asked is None:
        return
    backends = [_backend(each) for each in _listed(asked)]
    if not any(each["type"] == _LOCAL["type"] for each in backends):
        backends.insert(0, dict(_LOCAL))
    cfg.pop("visualizer", None)
    cfg.visualizer = {**(visualizer or {"type": "Visualizer"}), "vis_backends": backends}


def _listed(asked: Any) -> list[Any]:
    if isinstance(asked, str):
        return [name.strip(" '\"") for name in asked.strip("[]() ").split(",") if name.strip()]
    if isinstance(asked, Sequence):
        return list(asked)
    return [asked]


def _require_no_secret(settings: Any, name: str = "") -> None:
    """Refuse what opens an account, without repeating it."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            _require_no_secret(value, str(key))
    elif isinstance(settings, Sequence) and not isinstance(settings, str):
        for value in settings:
            _require_no_secret(value, name)
    elif settings and (_SECRET.search(name) or _LOGIN.search(str(settings))):
        raise ValueError(
            f"vis_backends: {name or 'it'} holds a secret, which would stand in the log, in "
            "checkpoints and in records; take it out and set it in the environment, as the service "
            "says (WANDB_API_KEY, NEPTUNE_API_TOKEN, MLFLOW_TRACKING_PASSWORD ...)"
        )


def _backend(asked: Any) -> dict[str, Any]:
    """Settings of one backend; whether its package is there is looked up, not tried."""
    _require_no_secret(asked)
    settings = dict(asked) if isinstance(asked, Mapping) else {}
    if isinstance(asked, str):  # a short name, or the type itself
        asked = asked if asked in dict(BACKENDS.values()) else asked.lower()
        settings = {"type": BACKENDS.get(asked, (asked, None))[0]}
    kind, types = settings.get("type"), dict(BACKENDS.values())
    if not isinstance(kind, str) or kind not in types:
        raise ValueError(
            f"vis_backends: {asked!r} is none of {', '.join(BACKENDS)}, and no dict with one of "
            f"the types {', '.join(types)}; write {FORM}"
        )
    package = types[kind]
    if package is not None and importlib.util.find_spec(package) is None:
        wanted = f'"pe_dense[{package}]"' if package in _EXTRAS else package
        raise ValueError(
            f"vis_backends: {kind} needs the package {package}, which is not "
            f"installed; get it with: pip install {wanted}"
        )
    return settings
