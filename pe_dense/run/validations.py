"""The validations of a training: which was best, when to stop, and the file that says so.

A training that chooses its checkpoint keeps `validations.json` beside it. What the file says
follows from the scores alone, so that a run that was killed and went on says the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pe_dense.files import atomic_write_text

FILE = "validations.json"
Scores = Sequence[tuple[int, float]]  # (epoch or iteration, score) of every validation, in order


def best_place(scores: Scores, higher_is_better: bool) -> int | None:
    """Place of the best validation, of equal ones the first; None without a finite score.

    Example:
        >>> best_place([(10, 0.2), (20, 0.5), (30, 0.5), (40, float("nan"))], True)
        1
    """
    best: int | None = None
    for place, (_, score) in enumerate(scores):
        if not math.isfinite(score):
            continue
        if best is None or (
            score > scores[best][1] if higher_is_better else score < scores[best][1]
        ):
            best = place
    return best


def without_gain(scores: Scores, higher_is_better: bool) -> int:
    """How many validations in a row, up to the last, were no better than the best before them.

    Example:
        >>> without_gain([(10, 0.2), (20, 0.5), (30, 0.5), (40, 0.1)], True)
        2
    """
    best = best_place(scores, higher_is_better)
    return len(scores) if best is None else len(scores) - 1 - best


@dataclass(frozen=True)
class Validations:
    """What a work dir says of its validations.

    Attributes:
        metric: Name of the score that chooses.
        higher_is_better: Its direction.
        unit: What steps count, 'epoch' or 'iter'.
        on: What was validated on, 'held-out training images' or 'the scored images'.
        scores: (step, score) of every validation, in order.
        keeps_best: Whether the checkpoint of the best one is kept.
        patience: Validations without gain that end the training; None: it goes to its end.
        planned: Steps of the whole training.
        is_over: Whether the training has come to its end, or was ended for want of gain.
    """

    metric: str
    higher_is_better: bool
    unit: str
    on: str
    scores: tuple[tuple[int, float], ...]
    keeps_best: bool
    patience: int | None
    planned: int
    is_over: bool

    @property
    def best(self) -> tuple[int, float] | None:
        """Step and score of the best validation."""
        place = best_place(self.scores, self.higher_is_better)
        return None if place is None else self.scores[place]

    def best_file(self) -> str | None:
        """Name of the checkpoint of the best validation, where it is kept."""
        if not self.keeps_best or self.best is None:
            return None
        return best_name(self.unit, self.best[0])

    def in_words(self) -> str:
        """As the log says it: 'best of 4 validations on held-out training images (mIoU ...)'."""
        assert self.best is not None
        step, score = self.best
        count = f"{len(self.scores)} validation{'s' * (len(self.scores) != 1)}"
        words = f"best of {count} on {self.on} ({self.metric} {score:.4f} at {self.unit} {step}"
        last = self.scores[-1][0]
        if not self.is_over:
            return f"{words}; the training is at {last} of {self.planned} and not over)"
        if last < self.planned:
            return f"{words}; ended at {last} of {self.planned}, {self.patience} without gain)"
        return f"{words} of {self.planned})"

    def write(self, folder: str | Path) -> None:
        """Write the file into a work dir, whole or not at all."""
        content = asdict(self)
        content["scores"] = [
            [step, score if math.isfinite(score) else None] for step, score in self.scores
        ]
        atomic_write_text(Path(folder) / FILE, json.dumps(content, indent=1) + "\n")


def best_name(unit: str, step: int) -> str:
    """File name of the checkpoint of the best validation.

    Example:
        >>> best_name("iter", 500)
        'best_iter_500.pth'
    """
    return f"best_{unit}_{step}.pth"


def read_validations(folder: str | Path) -> Validations | None:
    """What a work dir says of its validations; None if it says nothing.

    Raises:
        ValueError: If the file is not as `Validations.write` makes it.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = Validations(
            **{**content, "scores": tuple((int(s), _number(v)) for s, v in content["scores"])}
        )
        sound = _is_sound(content, found)
    except (ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        raise ValueError(
            f"{path} is damaged; name the checkpoint to use in place of its folder, or delete "
            f"{FILE} to use the last one"
        )
    return found


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _is_sound(content: Mapping[str, Any], found: Validations) -> bool:
    texts = all(type(content[name]) is str for name in ("metric", "unit", "on"))
    truths = all(
        type(content[name]) is bool for name in ("higher_is_better", "keeps_best", "is_over")
    )
    whole = type(found.planned) is int and found.unit in ("epoch", "iter")
    return texts and truths and whole and (found.patience is None or type(found.patience) is int)
