"""What a protocol promises of its scores beside its settings, in words that a record is held to.

A hash of settings says that nothing changed, but not what the settings were: the list of published
protocols has these facts in plain words, so that a lone record cannot call half a training a whole
one, or hide that the reported layer was picked on the scored data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from pe_dense.run.checkpoint_choice import loop_of, rule_of
from pe_dense.run.references import references, substitute

# What is measured; not among the settings that are hashed, and as fixed as they are.
MEASURED = ("task", "dataset", "split", "metric")
FACTS = (*MEASURED, "training", "chosen_on", "rule")
# What every protocol has; a config may do without one, and its scores are then of no table.
NEEDED = ("id", "version", *MEASURED, "higher_is_better")
# What VideoObjectMetric writes as `Selection.on` for each way of reporting.
_REPORTED = {"best": "val", "selected": "select", "first": "", "chosen": None}  # data decide


def stated_protocol(cfg: Config, config: str) -> Mapping[str, Any] | None:
    """The protocol of a config; None where it has none.

    Raises:
        ValueError: If it is one in part.
    """
    protocol = cfg.get("protocol")
    if not protocol:
        return None
    is_dict = isinstance(protocol, Mapping)
    missing = [name for name in NEEDED if not is_dict or name not in protocol]
    if missing:
        raise ValueError(
            f"the protocol of config {config} lacks {', '.join(missing)}, which records need; add "
            "them as the configs of configs/ have them, or leave the protocol out"
        )
    return dict(protocol)


def protocol_facts(template: Config) -> dict[str, str]:
    """The facts of a config with a protocol, each a text; what `FACTS` names, where it is known.

    'training' is how far it trains ('8 epochs', '' for nothing) and is left out where checkpoints
    come from another config or its length follows from the data; 'chosen_on' is what layers and
    settings are chosen on, as `Selection.on` has it ('' where nothing is chosen), and is left out
    where the data decide; 'rule' how a checkpoint is chosen, '' for the end of the training.

    Raises:
        ValueError: If a value refers to a name that the config does not define.
    """
    protocol = template.protocol
    facts = {fact: str(protocol[fact]) for fact in MEASURED}
    if not template.get("evaluation_only"):
        train_cfg = substitute(template.get("train_cfg"), template)
        if not references(train_cfg):
            loop = loop_of(Config({"train_cfg": train_cfg}))
            facts["training"] = "" if loop is None else f"{loop['planned']} {loop['unit']}s"
    chosen_on = _chosen_on(template)
    facts |= {} if chosen_on is None else {"chosen_on": chosen_on}
    return facts | {"rule": rule_of(template)}


def _chosen_on(template: Config) -> str | None:
    evaluator = template.get("test_evaluator")
    if not isinstance(evaluator, dict):
        return ""
    if "select_on" in evaluator:  # ProbeMetric
        return str(substitute(evaluator["select_on"], template))
    if "report" in evaluator:  # VideoObjectMetric
        return _REPORTED[substitute(evaluator["report"], template)]
    return ""
