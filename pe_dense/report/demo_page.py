"""The page of the demo: scores beside what no picture is needed for, pictures, curves, commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pe_dense.pictures.folder import encoded
from pe_dense.report.run_report import curves_of, machine_in_words, scalars_of
from pe_dense.results.blind import best_blind
from pe_dense.results.provenance import library_versions
from pe_dense.results.record import Record
from pe_dense.results.run_page import Picture, RunPage

MOST_CURVES = 3


def demo_page(
    records: Sequence[Record],
    trained: Path,
    pictures: Mapping[str, tuple[str, Sequence[Path]]],
    commands: Sequence[str],
    about: str,
) -> RunPage:
    """All that the demo made.

    Args:
        records: Of all tasks and weights.
        trained: Work dir whose curves are shown.
        pictures: Heading -> what the pictures show, and their files.
        commands: As they were run.
        about: One or two sentences on the weights.
    """
    curves = curves_of(scalars_of(trained), "mIoU", "epoch")
    return RunPage(
        title="pe_dense: the demo",
        about=about,
        scores=scores_in_words(records),
        pictures=[
            (heading, what, [Picture(jpeg_of(file), file.stem) for file in files])
            for heading, (what, files) in pictures.items()
        ],
        curves=curves[:MOST_CURVES],
        commands=commands,
        versions={**library_versions(), "machine": machine_in_words()},
    )


def scores_in_words(records: Sequence[Record]) -> list[tuple[str, str]]:
    """One line for each task and weights, and one for the best predictor without the picture."""
    lines = []
    for protocol in dict.fromkeys(record.protocol.id for record in records):
        own = [record for record in records if record.protocol.id == protocol]
        metric, higher = own[0].protocol.metric, own[0].protocol.higher_is_better
        for record in sorted(own, key=lambda r: r.scores[metric], reverse=higher):
            interval = record.ci95[metric][0] if record.ci95 else None
            bounds = "" if interval is None else f" [{interval.low:.3f}, {interval.high:.3f}]"
            encoder = f"{record.encoder.name} ({record.encoder.weights})"
            name = f"{record.task}, {metric}: {encoder}"
            lines.append((name, f"{record.scores[metric]:.3f}{bounds}"))
        blind = best_blind(own[0].blind or {}, higher)
        if blind is not None:
            lines.append(
                (f"{own[0].task}, {metric}: no picture", f"{blind.score:.3f} ({blind.name})")
            )
    return lines


def jpeg_of(file: Path) -> bytes:
    """A picture file as JPEG."""
    import cv2

    image_HW3 = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if image_HW3 is None:
        raise ValueError(f"{file} is no picture")
    return encoded(image_HW3[..., ::-1], ".jpg")
