"""Whether a head was trained to its end: beside it learns one whose training is half as long.

A score that goes up while the learning rate goes down says nothing: it does so in every training,
long enough or not. The question is whether a longer training would have given more, and that has a
control: the same head, on the same pictures in the same order, with the whole schedule in the first
half of the steps. If all of the training gave clearly more than half of it, the end was not
reached, and the order of layers may be that of how fast their heads learn.

Such a head costs what any other of the bank does, and touches none of them. One thing it shares
with them: the running statistics of the batch norm, which go on to the end of the training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from pe_dense.probing.head_bank import HeadSetting
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.metrics import metric_of
from pe_dense.results.statistics import paired_difference

LEAST_GAIN = 0.02  # share of the score; less changes no curve that a person can see


def half_length_heads(settings: Sequence[HeadSetting]) -> tuple[HeadSetting, ...]:
    """One for every learning rate and weight decay, with the first seed; they follow `settings`.

    Example:
        >>> pair = [HeadSetting(1e-2, 0.0, seed) for seed in (4, 5)]
        >>> half_length_heads(pair)
        (HeadSetting(lr=0.01, weight_decay=0.0, seed=4, half_length=True),)
    """
    first = settings[0].seed
    return tuple(dataclasses.replace(s, half_length=True) for s in settings if s.seed == first)


@dataclass(frozen=True)
class Gain:
    """What the second half of a training gave.

    Attributes:
        metric: Its name.
        half, whole: Scores of the head that was trained for half of the steps, and for all.
        is_rising: Whether whole is better than half by `LEAST_GAIN` of the score, and by more than
            the pictures that were scored leave open (95 % interval, paired).
    """

    metric: str
    half: float
    whole: float
    is_rising: bool

    @property
    def in_words(self) -> str:
        """'mIoU 18.9, 15.2 after a training half as long'."""
        metric = metric_of(self.metric)
        ends = metric.shown(self.whole), metric.shown(self.half)
        return f"{metric.spelling} {ends[0]}, {ends[1]} after a training half as long"


def gain_of(half: ItemEvidence, whole: ItemEvidence, metric: str) -> Gain:
    """The gain on the pictures of both; where they are of one sequence, by its size alone.

    A head that diverged has no gain; that of the whole training is then not chosen either.
    """
    better = 1 if metric_of(metric).higher_is_better else -1
    scores = [evidence.metrics(names=[metric])[metric] for evidence in (half, whole)]
    gain = better * (scores[1] - scores[0])
    is_rising = gain > 0 and gain >= LEAST_GAIN * abs(scores[1])
    if is_rising and len(set(whole.unit_labels[whole.unit])) > 1:
        found = paired_difference(whole, half, metric)
        is_rising = (found.low if better > 0 else -found.high) > 0
    return Gain(metric, float(scores[0]), float(scores[1]), bool(is_rising))
