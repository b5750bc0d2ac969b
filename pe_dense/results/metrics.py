"""What is known of a metric by its name: the field's spelling, unit, direction, decimals, order.

Records keep the names on the left; people see the spelling. A name that is not in the table takes
the row of its longest known beginning ('AP/RBC' that of 'AP', 'rmse@80m' that of 'rmse'), and one
that has none (a metric of your own) counts as a fraction, shown in percent, where higher is better.

Sources of the spellings: detectron2 (AP50, APs), mmseg (aAcc), davis2017-evaluation (J-Decay),
TrackEval (HOTA, IDSW), Eigen et al. and the KITTI depth benchmark (AbsRel, SILog).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

PERCENT = "percent"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: Its name in records; case does not matter.
        spelling: How the field writes it, on pages and in figures.
        unit: 'percent' for fractions, which records keep as 0 to 1; else the unit that records
            keep it in, '' for a plain number.
        higher_is_better: Its direction.
        decimals: Digits after the point where it is shown.
        signed: Whether it may be negative although it is a fraction.
    """

    name: str
    spelling: str
    unit: str = PERCENT
    higher_is_better: bool = True
    decimals: int = 1
    signed: bool = False

    @property
    def is_fraction(self) -> bool:
        """Whether records keep it as a fraction."""
        return self.unit == PERCENT

    @property
    def scale(self) -> int:
        """What a value of a record is multiplied by where it is shown."""
        return 100 if self.is_fraction else 1

    @property
    def direction(self) -> str:
        """'higher' or 'lower', whichever is better."""
        return "higher" if self.higher_is_better else "lower"

    def cut(self, low: float, high: float) -> tuple[float, float]:
        """Bounds of a score's interval, in the unit of records, cut where the metric ends.

        A fraction cannot leave 0 to 1, however wide the interval of few units is.

        Example:
            >>> metric_of("mIoU").cut(-0.2, 1.3), metric_of("rmse").cut(-0.2, 1.3)
            ((0.0, 1.0), (-0.2, 1.3))
        """
        if not self.is_fraction:
            return low, high
        return (low if self.signed else max(low, 0.0)), min(high, 1.0)

    def shown(self, value: float) -> str:
        """A value of a record as people read it.

        Example:
            >>> metric_of("mIoU").shown(0.1884), metric_of("IDSW").shown(24.0)
            ('18.8', '24')
        """
        return f"{self.scale * value:.{self.decimals}f}"

    def signed_text(self, value: float) -> str:
        """A difference of two values, with its sign."""
        return ("+" if value >= 0 else "-") + self.shown(abs(value))


def _fraction(name: str, spelling: str | None = None, **other: bool) -> Metric:
    return Metric(name, spelling or name, **other)


def _error(name: str, spelling: str, unit: str = "", decimals: int = 3) -> Metric:
    return Metric(name, spelling, unit, higher_is_better=False, decimals=decimals)


# In the order in which people read them.
TABLE = (
    # detection
    _fraction("AP"),
    _fraction("AP50"),
    _fraction("AP75"),
    _fraction("APs"),
    _fraction("APm"),
    _fraction("APl"),
    _fraction("mask_AP", "mask AP"),
    _fraction("AR100"),
    _fraction("CorLoc"),
    # segmentation
    _fraction("mIoU"),
    _fraction("aAcc"),
    _fraction("mAcc"),
    _fraction("IoU"),
    _fraction("PQ"),
    # video object segmentation
    _fraction("J&F"),
    _fraction("J"),
    _fraction("J_recall", "J-Recall"),
    _fraction("J_decay", "J-Decay", higher_is_better=False, signed=True),
    _fraction("F"),
    _fraction("F_recall", "F-Recall"),
    _fraction("F_decay", "F-Decay", higher_is_better=False, signed=True),
    # classes of pictures by name, and retrieval by text
    _fraction("top1", "top-1"),
    _fraction("top5", "top-5"),
    _fraction("mean_class_top1", "mean class top-1"),
    _fraction("text_to_image_R", "text to image R"),
    _fraction("image_to_text_R", "image to text R"),
    _fraction("text_to_video_R", "text to video R"),
    _fraction("video_to_text_R", "video to text R"),
    # depth; rmse_degrees is that of surface normals
    _error("abs_rel", "AbsRel"),
    _error("rmse", "RMSE", "metres"),
    _error("rmse_log", "RMSE log"),
    _error("log10", "log10"),
    _error("silog", "SILog", decimals=2),
    _error("sq_rel", "SqRel", "metres"),
    _error("mae", "MAE", "metres"),
    _fraction("delta1", "\N{GREEK SMALL LETTER DELTA}1"),
    _fraction("delta2", "\N{GREEK SMALL LETTER DELTA}2"),
    _fraction("delta3", "\N{GREEK SMALL LETTER DELTA}3"),
    _error("rmse_degrees", "angular RMSE", "degrees", 1),
    # multi-object tracking
    _fraction("HOTA"),
    _fraction("DetA"),
    _fraction("AssA"),
    _fraction("AssRe"),
    _fraction("AssPr"),
    _fraction("MOTA", signed=True),
    _fraction("IDF1"),
    _error("IDSW", "IDSW", "count", 0),
    _error("ids", "IDs", "count", 0),
    _error("frag", "Frag", "count", 0),
    _error("fp", "FP", "count", 0),
    _error("fn", "FN", "count", 0),
    # the rest
    _fraction("recall"),
    _fraction("score"),
    _error("mse", "MSE"),
    _error("epe", "EPE", "pixels"),
    _fraction("PCK"),
    _error("loss", "loss"),
    Metric("fps", "FPS", "frames per second"),
)
_PLACES = {metric.name.lower(): i for i, metric in enumerate(TABLE)}


@functools.cache
def metric_of(name: str) -> Metric:
    """What is known of a metric; for names that are not in the table see the module.

    Example:
        >>> [metric_of(name).spelling for name in ("abs_rel", "rmse@80m", "AP/RBC")]
        ['AbsRel', 'RMSE@80m', 'AP/RBC']
        >>> metric_of("my_own").unit
        'percent'
    """
    ends = [found.start() for found in re.finditer(r"[^A-Za-z0-9]|$", name)]
    for end in reversed(ends):
        place = _PLACES.get(name[:end].lower())
        if place is not None:
            known, rest = TABLE[place], name[end:]
            return replace(known, name=name, spelling=known.spelling + rest)
    return Metric(name, name)


def in_order(names: Iterable[str]) -> list[str]:
    """The names as people read them: those of the table in its order, then the others by name."""

    def key(name: str) -> tuple[int, list[tuple[int, str]], str]:
        lower = name.lower()
        # 'AP_class2' before 'AP_class10': compare digits as numbers
        parts = [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"([0-9]+)", lower)]
        return _PLACES.get(lower, len(TABLE)), parts, name

    return sorted(names, key=key)


def check_direction(name: str, higher_is_better: bool, where: str = "") -> None:
    """Checks that a protocol and the table agree; a metric that the table lacks may be either.

    Args:
        name: Main metric of the protocol.
        higher_is_better: Its direction there.
        where: Begins the error: 'configs/own.py: '.

    Raises:
        ValueError: If they contradict each other.
    """
    metric = metric_of(name)
    if name.lower() in _PLACES and metric.higher_is_better != higher_is_better:
        raise ValueError(
            f"{where}metric '{name}' comes with higher_is_better={higher_is_better}, but "
            f"{metric.direction} is better; correct it, or give another metric another name"
        )
