"""Options of how a training chooses its result, at the top of a config or by `--cfg-options`.

holdout_share   this part of the training images is not trained on, and validated on in the place of
                the scored ones; None or 0: all are trained on
holdout_group   what is held out as a whole: 'found' (sequences that the data or names tell, else
                single images), 'image', 'sequence' or a pattern of paths (data.image_groups)
keep_best       keep the checkpoint of the best validation, which is then the result; False: the end
                of the training is
early_stop      end the training after so many validations in a row without gain; None: never
ema             share of the old average in averaged weights, 0.999; None: none are averaged

All recipes that train take them; those for own data have them on (configs/_base_/own_training.py).
Nothing is chosen on what is scored: `early_stop` needs held-out images, and where a config has none
`keep_best` does nothing.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

HELD_OUT = "held-out training images"
OPTIONS = ("holdout_share", "holdout_group", "keep_best", "early_stop", "ema")


def with_training_options(
    cfg: Mapping[str, Any], path: str | Path, used: Collection[str] = ()
) -> dict[str, Any]:
    """A resolved config whose loaders and hooks do what its options say.

    Args:
        cfg: With the names above, each optional.
        path: How errors call it.
        used: Names that the config refers to itself: one that uses `holdout_share` holds out and
            chooses by its own rules.

    Raises:
        ValueError: If an option has no meaning, or does nothing in this config.
    """
    share = cfg.get("holdout_share") or None
    stop, ema = cfg.get("early_stop"), cfg.get("ema")
    _require_values(share, stop, ema)
    if share is None and stop is None and ema is None:
        return dict(cfg)
    own_holdout = "holdout_share" in used
    asked = [name for name in ("early_stop", "ema") if cfg.get(name) is not None]
    asked += ["holdout_share"] if share and not own_holdout else []
    if not asked:
        return dict(cfg)
    if cfg.get("training_free") or cfg.get("evaluation_only"):
        raise ValueError(f"{asked[0]} does nothing in {path}, which trains nothing; leave it out")
    if own_holdout and stop is not None:
        raise ValueError(
            f"early_stop does nothing in {path}, which chooses by itself on what it holds out; "
            "leave it out"
        )
    if stop is not None and share is None:
        raise ValueError(
            "early_stop ends a training by its validations, and these are on the scored images; "
            "hold training images out with holdout_share=0.1, or leave early_stop out"
        )
    changed = dict(cfg)
    hooks = [*(cfg.get("custom_hooks") or ())]
    if ema is not None:
        if any("EMA" in str(hook.get("type")) for hook in hooks):
            raise ValueError(f"{path} averages weights already; leave ema={ema} out")
        hooks.append(dict(type="AveragedWeights", decay=float(ema)))
    if share and not own_holdout:
        changed |= _held_out(cfg, float(share), path)
        keep = cfg.get("keep_best", True)
        if keep or stop is not None:
            hooks.append(_choosing_hook(cfg, bool(keep), stop, path))
    return {**changed, "custom_hooks": hooks}


def _require_values(share: Any, stop: Any, ema: Any) -> None:
    if share is not None and not (_is_number(share) and 0 < share < 1):
        raise ValueError(f"holdout_share={share!r} is not between 0 and 1; use 0.1, or 0 for none")
    if stop is not None and not (type(stop) is int and stop >= 1):
        raise ValueError(f"early_stop={stop!r} is no number of validations; use 5, or None")
    if ema is not None and not (_is_number(ema) and 0 < ema < 1):
        raise ValueError(f"ema={ema!r} is not between 0 and 1; use 0.999, or None")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _choosing_hook(
    cfg: Mapping[str, Any], keep: bool, stop: int | None, path: str | Path
) -> dict[str, Any]:
    protocol = cfg.get("protocol") or {}
    if "metric" not in protocol or "higher_is_better" not in protocol:
        raise ValueError(
            f"{path} has no protocol whose metric could choose a checkpoint; add one, or set "
            "keep_best=False"
        )
    return dict(
        type="KeepBest",
        metric=protocol["metric"],
        higher_is_better=protocol["higher_is_better"],
        on=HELD_OUT,
        keep=keep,
        patience=stop,
    )


def _held_out(cfg: Mapping[str, Any], share: float, path: str | Path) -> dict[str, Any]:
    """Training on one part of the training set, and validation on the other as it is scored."""
    train, test = cfg.get("train_dataloader") or {}, cfg.get("test_dataloader") or {}
    dataset, scored = train.get("dataset") or {}, test.get("dataset") or {}
    evaluator = cfg.get("test_evaluator")
    if "pipeline" not in dataset or "pipeline" not in scored or not evaluator:
        raise ValueError(
            f"holdout_share does nothing in {path}, whose training or test data are no plain set "
            "of images; leave it out"
        )
    group = cfg.get("holdout_group") or "found"
    part = dict(type="HoldoutSubset", share=share, group=group)
    held = {**dataset, "test_mode": True, "pipeline": scored["pipeline"]}
    evaluators = [evaluator] if isinstance(evaluator, Mapping) else list(evaluator)
    labels = posixpath.join(dataset.get("data_root") or "", dataset.get("ann_file") or "")
    own = [{**e, "ann_file": labels} if "ann_file" in e else dict(e) for e in evaluators]
    return {
        "train_dataloader": {**train, "dataset": {**part, "part": "train", "dataset": dataset}},
        "val_dataloader": {**test, "dataset": {**part, "part": "holdout", "dataset": held}},
        "val_evaluator": own[0] if isinstance(evaluator, Mapping) else own,
        "val_cfg": cfg.get("val_cfg") or dict(type="ValLoop"),
    }
