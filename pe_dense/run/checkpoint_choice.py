"""How a scored checkpoint came about, and the labels that set it apart from a protocol's result.

A score under a protocol is that of the end of its training, or, where the training keeps it, of the
checkpoint whose validation on held-out training images was best. A checkpoint of an earlier step,
or one that was chosen otherwise, is something else: the id of its protocol gets a label, so that it
stands in a table of its own, and it never enters a ranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.results.record import BEST_ON_HELD_OUT, TrainingInfo
from pe_dense.run.checkpoint import RunFacts
from pe_dense.run.validations import read_validations

SCORED, HELD_OUT = "the scored split", "held-out"
BEST = "best"  # what a training says of its result where it keeps the best checkpoint
SAVED_AS = "saved_as"  # in the meta of a checkpoint: a file may be renamed


def loop_of(cfg: Config) -> dict[str, Any] | None:
    """How far a config trains and what it validates on; None if it does not train.

    Example:
        >>> loop_of(Config(dict(train_cfg=dict(max_epochs=8))))
        {'unit': 'epoch', 'planned': 8, 'validates_on': None}
    """
    loop = cfg.get("train_cfg") or {}
    val, test = (cfg.get(f"{split}_dataloader") or {} for split in ("val", "test"))
    on = None
    if val:
        on = SCORED if val.get("dataset") == test.get("dataset") else HELD_OUT
    for key, unit in (("max_epochs", "epoch"), ("max_iters", "iter")):
        if loop.get(key) is not None:
            found = {"unit": unit, "planned": int(loop[key]), "validates_on": on}
            return found | ({"result": BEST} if on == HELD_OUT and _keeps_best(cfg) else {})
    return None


def _keeps_best(cfg: Config) -> bool:
    hooks = cfg.get("custom_hooks") or ()
    return any(hook.get("type") == "KeepBest" and hook.get("keep", True) for hook in hooks)


def rule_of(template: Mapping[str, Any], result: str | None = None) -> str:
    """How a protocol says to choose a checkpoint, in its words; '' for the end of the training.

    Args:
        template: A config, references in place or not.
        result: What the training says its result is, `loop_of`'s 'result'; None: as the names at
            the top of the config say.
    """
    rule = str((template.get("protocol") or {}).get("selection", ""))
    keeps = bool(template.get("keep_best") and template.get("holdout_share"))
    return rule or (BEST_ON_HELD_OUT if result == BEST or (result is None and keeps) else "")


def training_info(
    cfg: Config, facts: RunFacts, file: Path | None, meta: Mapping[str, Any]
) -> TrainingInfo | None:
    """How the scored checkpoint came about.

    Args:
        cfg: Resolved config of the evaluation.
        facts: What the checkpoint knows of its training.
        file: The checkpoint; None where nothing is trained.
        meta: What the runner noted in it: 'epoch', 'iter', 'saved_as', and 'pe_dense' if
            tools/train.py wrote it.

    Returns:
        None where that cannot be told, of checkpoints that say nothing of their loop.
    """
    loop = facts.loop
    rule = rule_of(cfg, None if loop is None else loop.get("result", ""))
    if file is None:
        return TrainingInfo("nothing to train", rule=rule)
    if "pe_dense" not in meta:
        return TrainingInfo("not trained here", rule=rule)
    if loop is None:  # written before checkpoints knew
        loop = None if cfg.get("evaluation_only") else loop_of(cfg)
    if loop is None:
        return None
    unit, planned, done = loop["unit"], loop["planned"], meta.get(loop["unit"])
    if str(meta.get(SAVED_AS, file.name)).startswith("best_"):  # MMEngine's name of it
        chosen = "best on held-out" if loop["validates_on"] == HELD_OUT else f"best on {SCORED}"
        validations = read_validations(file.parent) if loop.get("result") == BEST else None
        if validations is not None and not validations.is_over and done < planned:
            chosen = "unfinished"  # of the validations so far
    elif done is None:
        return None
    else:
        chosen = "end of training" if done >= planned else "unfinished"
    return TrainingInfo(chosen, unit, done, planned, rule)


def labels_of(training: TrainingInfo | None) -> list[str]:
    """What the id of a protocol gets beside its own name; nothing for its result.

    Example:
        >>> labels_of(TrainingInfo("best on the scored split", "epoch", 5, 8))
        ['unfinished-5-of-8-epochs', 'chosen-on-the-scored-split']
    """
    if training is None:
        return []
    if training.rule == BEST_ON_HELD_OUT and training.chosen != "unfinished":
        return ["end-of-training"] if training.chosen == "end of training" else []
    labels = []
    done, planned = training.done, training.planned
    if done is not None and planned is not None and done < planned:
        labels.append(f"unfinished-{done}-of-{planned}-{training.unit}s")
    if training.chosen.startswith("best on "):
        labels.append("chosen-on-" + training.chosen.removeprefix("best on ").replace(" ", "-"))
    return labels
