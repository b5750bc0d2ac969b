"""Draws what a trained model sees.

python tools/visualize.py detect CONFIG CHECKPOINT --out DIR [--images 24 | all] [--score-thr 0.3]
python tools/visualize.py detect CONFIG CHECKPOINT --out DIR --image a.jpg b.jpg
python tools/visualize.py segment CONFIG CHECKPOINT --out DIR
python tools/visualize.py depth CONFIG CHECKPOINT --out DIR

CHECKPOINT is a file, or a work dir whose newest checkpoint is meant. Give the same --encoder and
--cfg-options as in training.

Each subcommand is a pair of functions, one that adds its options and one that runs it, listed
in COMMANDS. Heavy imports stay inside the functions, so --help is instant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pe_dense import command_line

if TYPE_CHECKING:
    from pe_dense.data.scored_images import ScoredImages
    from pe_dense.evaluation import TrainedRun


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds what every subcommand takes: the run, its images, where pictures go."""
    parser.add_argument("config", help="config file of the run")
    parser.add_argument("checkpoint", type=Path, help="checkpoint file, or a work dir")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the pictures")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--images",
        type=number_or_all,
        default=24,
        metavar="N",
        help="so many of the images that the config tests on, evenly spread, or all (%(default)s)",
    )
    which.add_argument("--image", nargs="+", type=Path, metavar="FILE", help="these images instead")
    parser.add_argument("--encoder", help="encoder of the run (default: the checkpoint's)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="the overrides that the run was trained with, for example data_root=DIR",
    )


def add_detect_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `detect`."""
    add_run_options(parser)
    parser.add_argument(
        "--score-thr", type=float, default=0.3, help="least score that is drawn (%(default)s)"
    )


def run_detect(args: argparse.Namespace) -> None:
    """Writes truth and detections side by side, a sheet of the worst, and an index."""
    require_images(args)
    if not 0.0 <= args.score_thr <= 1.0:
        raise ValueError(f"--score-thr is {args.score_thr}, but scores lie between 0 and 1")
    from pe_dense.evaluation import open_run, trained_model  # heavy: torch and OpenMMLab

    options = command_line.parse_options(args.cfg_options)
    run = open_run(args.config, args.checkpoint, args.encoder, options)
    from pe_dense.detection.pictures import Detector, Truth, write_pictures
    from pe_dense.pixelwise.picture_folder import INDEX, SHEET

    dataset = run.cfg.test_dataloader.dataset
    json = Path(dataset.data_root) / dataset.ann_file
    if args.image is None and not json.is_file():
        raise ValueError(
            f"annotation file {json} does not exist; pass --cfg-options data_root=DIR, or name "
            "images with --image"
        )
    truth = Truth(dataset, run.cfg.classes) if json.is_file() else None
    files = args.image or truth.spread_files(args.images)
    detect = Detector(trained_model(run), dataset, args.score_thr)
    lines = write_pictures(
        args.out,
        files,
        detect,
        truth.objects if truth is not None else lambda file: None,
        run.cfg.classes,
        show_progress,
    )
    report(lines, args.out, SHEET, INDEX)


def run_segment(args: argparse.Namespace) -> None:
    """Writes image, prediction, truth and errors side by side, a sheet of the worst, an index."""
    run = open_pixelwise_run(args, "segmentation")
    from pe_dense.evaluation import trained_model
    from pe_dense.pixelwise.picture_folder import INDEX, SHEET
    from pe_dense.segmentation.pictures import Segmenter, images_of, palette_of, write_pictures

    dataset, classes = run.cfg.test_dataloader.dataset, run.cfg.classes
    images = images_of(dataset)
    files = files_to_draw(args, images)
    lines = write_pictures(
        args.out,
        files,
        Segmenter(trained_model(run), images),
        classes,
        palette_of(dataset, classes),
        show_progress,
    )
    report(lines, args.out, SHEET, INDEX)


def run_depth(args: argparse.Namespace) -> None:
    """Writes image, prediction, truth and errors side by side, a sheet of the worst, an index."""
    run = open_pixelwise_run(args, "depth")
    from pe_dense.depth.pictures import Estimator, images_of, scoring_of, write_pictures
    from pe_dense.evaluation import trained_model
    from pe_dense.pixelwise.picture_folder import INDEX, SHEET

    images = images_of(run.cfg.test_dataloader.dataset)
    files = files_to_draw(args, images)
    lines = write_pictures(
        args.out,
        files,
        Estimator(trained_model(run), images),
        scoring_of(run.cfg.test_evaluator),
        show_progress,
    )
    report(lines, args.out, SHEET, INDEX)


def open_pixelwise_run(args: argparse.Namespace, task: str) -> TrainedRun:
    """The run, once it is sure to be of this task and its data usable.

    Raises:
        ValueError: If not.
    """
    require_images(args)
    from mmengine.registry import init_default_scope  # heavy, as the next

    from pe_dense.evaluation import open_run
    from pe_dense.training import check_data

    options = command_line.parse_options(args.cfg_options)
    run = open_run(args.config, args.checkpoint, args.encoder, options)
    if run.cfg.protocol.task != task:
        raise ValueError(f"config {args.config} is for {run.cfg.protocol.task}, not {task}")
    if "tta_model" in run.cfg:
        raise ValueError(
            f"config {args.config} averages several views of an image, which cannot be drawn; "
            "name the config that tests on one"
        )
    if args.image is None:
        check_data(run.cfg, ("test",))
    init_default_scope(run.cfg.default_scope)
    return run


def files_to_draw(args: argparse.Namespace, images: ScoredImages) -> list[Path]:
    """Those that the user names, else so many of the test images."""
    return args.image or images.spread_files(args.images)


def require_images(args: argparse.Namespace) -> None:
    """Raises ValueError if an image that the user names does not exist."""
    for file in args.image or []:
        if not file.is_file():
            raise ValueError(f"image {file} does not exist")


def report(lines: list[str], out: Path, sheet: str, index: str) -> None:
    """Prints the worst images and where the pictures are."""
    print("\n".join(lines[:10]))
    more = f" (and {len(lines) - 10} more lines in {index})" if len(lines) > 10 else ""
    print(f"{out}: {len(lines)} pictures, {sheet}, {index}{more}")


def number_or_all(text: str) -> int | None:
    """A positive number; None for 'all'."""
    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a positive number nor 'all'")
    return int(text)


def show_progress(done: int, total: int) -> None:
    """One line on stderr, where a person is watching."""
    if sys.stderr.isatty():
        print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


# Name -> what it does, its options, what runs it.
COMMANDS: dict[str, tuple[str, Callable, Callable]] = {
    "detect": ("boxes and masks of a detector beside the truth", add_detect_options, run_detect),
    "segment": ("classes of a segmentor beside the truth", add_run_options, run_segment),
    "depth": ("depth of an estimator beside the truth", add_run_options, run_depth),
}


def main() -> int | None:
    """Runs a subcommand."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, add_options, _) in COMMANDS.items():
        add_options(subparsers.add_parser(name, help=summary, description=summary))
    args = parser.parse_args()
    return COMMANDS[args.command][2](args)


if __name__ == "__main__":
    command_line.run(main)
