"""Draws what a trained model sees.

python tools/visualize.py detect CONFIG CHECKPOINT --out DIR [--images 24 | all] [--score-thr 0.3]
python tools/visualize.py detect CONFIG CHECKPOINT --out DIR --image a.jpg b.jpg

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

from pe_dense import command_line


def add_detect_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `detect`."""
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
    parser.add_argument(
        "--score-thr", type=float, default=0.3, help="least score that is drawn (%(default)s)"
    )
    parser.add_argument("--encoder", help="encoder of the run (default: the checkpoint's)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="the overrides that the run was trained with, for example data_root=DIR",
    )


def run_detect(args: argparse.Namespace) -> None:
    """Writes truth and detections side by side, a sheet of the worst, and an index."""
    for file in args.image or []:
        if not file.is_file():
            raise ValueError(f"image {file} does not exist")
    if not 0.0 <= args.score_thr <= 1.0:
        raise ValueError(f"--score-thr is {args.score_thr}, but scores lie between 0 and 1")
    from pe_dense.evaluation import open_run, trained_model  # heavy: torch and OpenMMLab

    options = command_line.parse_options(args.cfg_options)
    run = open_run(args.config, args.checkpoint, args.encoder, options)
    from pe_dense.detection.pictures import INDEX, SHEET, Detector, Truth, write_pictures

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
    print("\n".join(lines[:10]))
    more = f" (and {len(lines) - 10} more lines in {INDEX})" if len(lines) > 10 else ""
    print(f"{args.out}: {len(lines)} pictures, {SHEET}, {INDEX}{more}")


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
