"""Draws what a trained model or an encoder sees.

python tools/visualize.py detect CHECKPOINT --out DIR [--images 24 | all] [--score-thr 0.3]
python tools/visualize.py detect CHECKPOINT --out DIR --image a.jpg b.jpg
python tools/visualize.py segment CHECKPOINT --out DIR
python tools/visualize.py depth CHECKPOINT --out DIR
python tools/visualize.py track CHECKPOINT --out DIR [--videos 4 | all]
python tools/visualize.py track CONFIG --out DIR

python tools/visualize.py features ENCODER --image a.jpg b.jpg --out DIR [--layers -1 5]
python tools/visualize.py similarity ENCODER --image a.jpg b.jpg --point X Y --out DIR
python tools/visualize.py attention ENCODER --image a.jpg --out DIR [--point X Y [--heads]]
python tools/visualize.py text ENCODER --image a.jpg --prompts "a cat,the sky" --out DIR

CHECKPOINT is a file, or a work dir whose newest checkpoint is meant. It knows its config and the
options of its training; --cfg-options go on top. A config may stand before it, and has to for a
checkpoint of an earlier version.

Each subcommand is a pair of functions, one that adds its options and one that runs it, listed
in COMMANDS. Heavy imports stay inside the functions, so --help is instant.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pe_dense.run import command_line

if TYPE_CHECKING:
    from mmengine.config import Config
    from torch import nn

    from pe_dense.analysis.pictures import Views
    from pe_dense.depth.pictures import Estimator
    from pe_dense.detection.pictures import Detector
    from pe_dense.run.trained_run import TrainedRun
    from pe_dense.segmentation.pictures import Segmenter


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds what every subcommand takes: the run, its images, where pictures go."""
    command_line.add_run_arguments(parser)
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
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="overrides besides those of the training, for example data_root=DIR",
    )
    command_line.add_accept_option(parser)


def add_detect_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `detect`."""
    add_run_options(parser)
    parser.add_argument(
        "--score-thr", type=float, default=0.3, help="least score that is drawn (%(default)s)"
    )


def run_detect(args: argparse.Namespace) -> None:
    """Writes truth and detections side by side, a sheet of the worst, and an index."""
    if not 0.0 <= args.score_thr <= 1.0:
        raise ValueError(f"--score-thr is {args.score_thr}, but scores lie between 0 and 1")
    run, model = open_run_of(args, "detection")
    from pe_dense.detection.pictures import Detector

    draw(args, Detector(model, run.cfg, args.score_thr))


def run_segment(args: argparse.Namespace) -> None:
    """Writes image, prediction, truth and errors side by side, a sheet of the worst, an index."""
    run, model = open_run_of(args, "segmentation")
    from pe_dense.segmentation.pictures import Segmenter

    draw(args, Segmenter(model, run.cfg))


def run_depth(args: argparse.Namespace) -> None:
    """Writes image, prediction, truth and errors side by side, a sheet of the worst, an index."""
    run, model = open_run_of(args, "depth")
    from pe_dense.depth.pictures import Estimator

    draw(args, Estimator(model, run.cfg))


def add_encoder_options(parser: argparse.ArgumentParser) -> None:
    """Adds what the views of an encoder take: the encoder, images, layers, where pictures go."""
    parser.add_argument("encoder", help="zoo name, timm:<model> or open_clip:<model>")
    parser.add_argument(
        "--weights",
        default="released",
        help="released (%(default)s), random, a file, a PE run's checkpoint, or hf://repo[:file]",
    )
    parser.add_argument("--image", nargs="+", type=Path, required=True, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the pictures")
    parser.add_argument(
        "--layers",
        nargs="+",
        type=int,
        default=[-1],
        metavar="INDEX",
        help="0-based blocks; negative ones count from the last, which is the default",
    )
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="PX",
        help="of the image for the encoder (default: the side it was built for)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of random weights (%(default)s)")
    parser.add_argument(
        "--encoder-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="how the encoder is built, for example depth=6 cls_token=False window_size=16",
    )


def add_features_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `features`."""
    add_encoder_options(parser)
    parser.add_argument("--share-basis", action="store_true", help="one PCA for all images")
    only = parser.add_mutually_exclusive_group()
    only.add_argument(
        "--masks", nargs="+", type=Path, metavar="FILE", help="foreground of each image, not black"
    )
    only.add_argument(
        "--guess-foreground", action="store_true", help="foreground from the first component"
    )
    parser.add_argument(
        "--order",
        default="LCh",
        help="channels of the first, second and third component (%(default)s)",
    )
    parser.add_argument(
        "--low-pass", type=float, default=0.5, help="share of the blurred features (%(default)s)"
    )


def add_similarity_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `similarity`."""
    add_encoder_options(parser)
    parser.add_argument(
        "--point",
        nargs=2,
        type=float,
        required=True,
        metavar=("X", "Y"),
        help="pixel of the first image, as it is on disk",
    )


def add_attention_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `attention`."""
    add_encoder_options(parser)
    parser.add_argument(
        "--point",
        nargs=2,
        type=float,
        metavar=("X", "Y"),
        help="what this pixel attends to (default: what every token receives)",
    )
    parser.add_argument("--heads", action="store_true", help="with --point: every head as well")


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `text`."""
    add_encoder_options(parser)
    parser.add_argument(
        "--prompts",
        nargs="+",
        required=True,
        metavar="TEXT",
        help="texts, separated by commas; a heat map for each",
    )
    parser.add_argument(
        "--readout",
        default="maskclip",
        help="layer, maskclip, sclip or clearclip: how a patch is read (%(default)s)",
    )


def run_text(args: argparse.Namespace) -> None:
    """Writes how near every patch is to some texts."""
    require_images(args)
    if args.encoder_options:
        raise ValueError("the towers of `text` are built as they are; leave --encoder-options out")
    from pe_dense.analysis.encoder_images import open_image_text  # heavy: torch
    from pe_dense.analysis.pictures import Views, write_text_pictures
    from pe_dense.text_dense.prompts import typed_prompts

    texts = typed_prompts(args.prompts)
    model, info = open_image_text(args.encoder, args.weights, args.seed)
    is_random = args.weights == "random"
    weights = f"random weights, seed {args.seed}" if is_random else f"weights {info.source}"
    given = (f"{args.encoder}, {weights}, {args.readout}", args.short_side, show_progress)
    views = Views(args.out, model.visual, args.image, args.layers, *given)
    report_views(views, write_text_pictures(views, model, texts, args.readout))


def run_features(args: argparse.Namespace) -> None:
    """Writes feature maps as colours."""
    views = views_of(args)
    from pe_dense.analysis.pictures import write_feature_pictures

    given = {"order": args.order, "mix": args.low_pass, "share_basis": args.share_basis}
    given |= {"masks": args.masks, "guess": args.guess_foreground}
    report_views(views, write_feature_pictures(views, **given))


def run_similarity(args: argparse.Namespace) -> None:
    """Writes the likeness of all tokens to the one at a point."""
    views = views_of(args)
    from pe_dense.analysis.pictures import write_similarity_pictures

    report_views(views, write_similarity_pictures(views, tuple(args.point)))


def run_attention(args: argparse.Namespace) -> None:
    """Writes attention maps and the table of global tokens."""
    views, point = views_of(args), tuple(args.point) if args.point else None
    from pe_dense.analysis.pictures import write_attention_pictures

    report_views(views, write_attention_pictures(views, point, args.heads))


def views_of(args: argparse.Namespace) -> Views:
    """The encoder, and what all of its views are given."""
    require_images(args)
    from pe_dense.analysis.encoder_images import open_encoder  # heavy: torch
    from pe_dense.analysis.pictures import Views

    options = command_line.parse_options(args.encoder_options)
    encoder, info = open_encoder(args.encoder, args.weights, args.seed, options)
    is_random = args.weights == "random"
    weights = f"random weights, seed {args.seed}" if is_random else f"weights {info.source}"
    heading = ", ".join(filter(None, (args.encoder, weights, " ".join(args.encoder_options))))
    given = (heading, args.short_side, show_progress)
    return Views(args.out, encoder, args.image, args.layers, *given)


def report_views(views: Views, lines: list[str]) -> None:
    """Prints whose views these are, the first pictures' lines, and where all are."""
    print("\n".join([views.heading, *lines[:10]]))
    print(f"{views.out}: {len(lines)} pictures, index.txt")


def add_track_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `track`."""
    command_line.add_run_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="new folder for the pictures")
    parser.add_argument(
        "--videos",
        type=number_or_all,
        default=4,
        metavar="N",
        help="so many of the videos that the config tests on, evenly spread, or all (%(default)s)",
    )
    parser.add_argument("--fps", type=float, default=8.0, help="of GIF and MP4 (%(default)s)")
    parser.add_argument("--encoder", help="encoder of the run (default: the checkpoint's)")
    parser.add_argument("--weights", help="encoder weights, where nothing was trained")
    parser.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE"
    )
    command_line.add_accept_option(parser)


def run_track(args: argparse.Namespace) -> None:
    """Writes truth beside prediction of whole videos: GIF, MP4, a sheet of frames, an index."""
    if args.fps <= 0:
        raise ValueError(f"--fps is {args.fps}; pass a positive number")
    from mmengine.registry import init_default_scope  # heavy, as the next

    from pe_dense.run.config import check_data
    from pe_dense.run.opened_run import config_and_checkpoint, open_run
    from pe_dense.run.request import RunRequest
    from pe_dense.run.trained_run import trained_model

    config, checkpoint = config_and_checkpoint(args.run)
    options = command_line.parse_options(args.cfg_options)
    request = RunRequest(config, args.encoder, args.weights, options, accept=args.accept)
    run = open_run(request, checkpoint)
    require_task(run, "tracking")
    check_data(run.cfg, ("test",))
    init_default_scope(run.cfg.get("default_scope", "mmengine"))
    from pe_dense.tracking.drawn_videos import propagated_videos, tracked_videos
    from pe_dense.tracking.pictures import write_pictures

    if checkpoint is None:
        with propagated_videos(run.cfg, args.videos) as videos:
            lines = write_pictures(args.out, videos, args.fps)
    else:
        videos = tracked_videos(run.cfg, trained_model(run), args.videos)
        lines = write_pictures(args.out, videos, args.fps)
    print("\n".join(lines))
    print(f"{args.out}: {len(lines)} videos, index.txt")


# Where a layer that a probe found is trained alone, and can be drawn.
SINGLE_HEADS = {
    "segmentation": "configs/segmentation/ade20k_linear_dinov3.py",
    "depth": "configs/depth/nyu_linear_dinov3.py",
}


def open_run_of(args: argparse.Namespace, task: str) -> tuple[TrainedRun, nn.Module]:
    """The run and its model, once it is sure to be of this task and its data usable.

    Raises:
        ValueError: If not.
    """
    require_images(args)
    from pe_dense.run.config import check_data, load_template  # heavy, as the next
    from pe_dense.run.opened_run import config_and_checkpoint, open_run
    from pe_dense.run.request import RunRequest
    from pe_dense.run.trained_run import trained_model

    config, checkpoint = config_and_checkpoint(args.run)
    if checkpoint is None:
        raise ValueError(f"{config} names no checkpoint; add a .pth file or a work dir")
    if config:  # before the checkpoint is read
        require_one_head(load_template(config), config)
    options = command_line.parse_options(args.cfg_options)
    request = RunRequest(config, args.encoder, options=options, accept=args.accept)
    # A detector reads its annotations itself, for the truth of every image that has some.
    run = open_run(request, checkpoint, with_data=task == "detection" or args.image is None)
    require_one_head(run.cfg, run.config)
    require_task(run, task)
    if task != "detection":  # a detector draws single views, of annotations that it reads itself
        if "tta_model" in run.cfg:
            raise ValueError(
                f"config {run.config} averages several views of an image, which cannot be drawn; "
                "name the config that tests on one"
            )
        if args.image is None:
            check_data(run.cfg, ("test",))
    return run, trained_model(run)


def require_one_head(cfg: Config, config: str) -> None:
    """Raises ValueError if a config trains many heads, of which none is the one to draw."""
    if cfg.get("model", {}).get("type") == "LayerProbe":
        from pe_dense.run.task import task_of

        raise ValueError(
            f"config {config} trains many heads on every layer, and no one of them gives the "
            "picture; train and draw one with a config of a single head, such as "
            f"{SINGLE_HEADS[task_of(cfg)]} with --cfg-options 'layers=[INDEX]'"
        )


def require_task(run: TrainedRun, task: str) -> None:
    """Raises ValueError if a run is of another task."""
    from pe_dense.run.task import task_of

    if (found := task_of(run.cfg)) != task:
        raise ValueError(f"config {run.config} is for {found}, not {task}")


def require_images(args: argparse.Namespace) -> None:
    """Raises ValueError if an image that the user names does not exist."""
    for file in args.image or []:
        if not file.is_file():
            raise ValueError(f"image {file} does not exist")


def draw(args: argparse.Namespace, trained: Detector | Segmenter | Estimator) -> None:
    """Draws the images that the user names or some of the tested ones; prints the worst."""
    from pe_dense.pictures.folder import INDEX, SHEET, write_looks

    files = args.image or trained.spread_files(args.images)
    look = (trained.see, trained.look_at, trained.sheet_side)
    lines = write_looks(args.out, files, *look, show_progress)
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
    "segment": ("classes of a segmentor beside the truth", add_run_options, run_segment),
    "depth": ("depth of an estimator beside the truth", add_run_options, run_depth),
    "track": ("videos with masks or boxes and ids beside the truth", add_track_options, run_track),
    "features": ("feature maps of an encoder as colours", add_features_options, run_features),
    "similarity": ("what looks like a point to it", add_similarity_options, run_similarity),
    "attention": ("where it looks, and global tokens", add_attention_options, run_attention),
    "text": ("what in an image is near to some texts", add_text_options, run_text),
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
