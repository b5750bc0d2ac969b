"""Where the numbers of a run go beside its log: TensorBoard, Weights & Biases and others.

    --cfg-options vis_backends=tensorboard
    --cfg-options vis_backends=[tensorboard,wandb]
    --cfg-options "vis_backends=[{'type': 'WandbVisBackend', 'init_kwargs': {'project': 'pe'}}]"

The last is MMEngine's form, and a config may have it, too. The files of the log stay. None of this
is part of a protocol.
"""

from __future__ import annotations

import importlib.util
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
_LOCAL = {"type": "LocalVisBackend"}


def use_vis_backends(cfg: Config) -> None:
    """Put `vis_backends` of a resolved config where MMEngine reads it, its visualizer.

    Raises:
        ValueError: If a backend is unknown or its package is not there.
    """
    asked = cfg.pop("vis_backends", None)
    visualizer = cfg.get("visualizer")
    if asked is None and visualizer is not None:
        asked = visualizer.get("vis_backends")
    if asked is None:
        return
    backends = [_backend(each) for each in _listed(asked)]
    if not any(each["type"] == _LOCAL["type"] for each in backends):
        backends.insert(0, dict(_LOCAL))
    cfg.visualizer = {**(visualizer or {"type": "Visualizer"}), "vis_backends": backends}


def _listed(asked: Any) -> list[Any]:
    if isinstance(asked, str):
        return [name.strip(" '\"") for name in asked.strip("[]() ").split(",") if name.strip()]
    if isinstance(asked, Sequence):
        return list(asked)
    return [asked]


def _backend(asked: Any) -> dict[str, Any]:
    """Settings of one backend; whether its package is there is looked up, not tried."""
    if isinstance(asked, Mapping):
        settings = dict(asked)
        types = dict(BACKENDS.values())
        known, package = settings.get("type") in types, types.get(settings.get("type"))
    else:
        known = asked in BACKENDS
        kind, package = BACKENDS.get(asked, ("", None))
        settings = {"type": kind}
    if not known:
        raise ValueError(
            f"vis_backends: {asked!r} is none of {', '.join(BACKENDS)}, and no dict with one of "
            f"the types {', '.join(kind for kind, _ in BACKENDS.values())}"
        )
    if package is not None and importlib.util.find_spec(package) is None:
        raise ValueError(
            f"vis_backends: {settings['type']} needs the package {package}, which is not "
            f"installed; get it with: pip install {package}"
        )
    return settings
