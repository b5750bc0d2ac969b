"""Predicts on pictures and videos of your own: boxes and masks, label maps, or depth.

python tools/predict.py work_dirs/street photo.jpg folder/ 'more/*.png' list.txt --out DIR
python tools/predict.py CHECKPOINT street.mp4 --out DIR
python tools/predict.py CONFIG CHECKPOINT INPUT ... --out DIR
python tools/predict.py configs/tracking/vos_custom.py street.mp4 --mask FIRST.png --out DIR
python tools/predict.py pe_core_b16_224 INPUT ... --prompts road car sky --out DIR

CHECKPOINT is a file, or a work dir whose newest checkpoint is meant; it knows its config. CONFIG
is for another way of scoring, or for a checkpoint of an earlier version. With --prompts nothing is
trained: an encoder with a text tower, or a config of segmentation by names, stands in its place,
and every pixel gets the prompt that it is most like (docs/text_prompts.md). Folders are searched
with their subfolders, which stand in DIR again. DIR gets index.json (what was made of which file,
and what could not be read), and
  detection     detections.json: COCO with boxes, masks and scores of all detections
  segmentation  labels/*.png: indexed PNG, in the numbers of the training's label maps
  depth         depth/*.png: 16 bits, steps of 1/1000 m or as index.json says, 0 unknown; and *.npy,
                metres
  --overlays    overlays/*.jpg: drawings
  videos        NAME.mp4 with what was found, and the files of each frame in NAME/
Exit code 1 if some pictures could not be predicted, 2 if none.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from pe_dense.run import command_line

SCORE_THR = 0.3


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="[CONFIG] CHECKPOINT INPUT",
        help="checkpoint file or work dir, before it perhaps a config (.py; Python that is run), "
        "or with --prompts an encoder or config alone; then what to predict",
    )
    parser.add_argument("--out", type=Path, required=True, help="new folder for what is made")
    parser.add_argument("--resume", action="store_true", help="go on with a folder of before")
    parser.add_argument("--overlays", action="store_true", help="draw what was found")
    parser.add_argument(
        "--score-thr", type=float, default=SCORE_THR, help="least score that is drawn (%(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, help="pictures that run together (default: as in the test)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: the GPU if there is one)")
    parser.add_argument("--amp", action="store_true", help="encoder in bfloat16")
    parser.add_argument(
        "--ids", type=Path, metavar="FILE", help="COCO JSON whose ids of images and classes to use"
    )
    parser.add_argument(
        "--depth-scale",
        type=float,
        metavar="STEPS",
        help="steps per metre of 16-bit depth (default: 1000, or fewer where depths need it)",
    )
    parser.add_argument("--encoder", help="encoder of the run (default: the checkpoint's)")
    parser.add_argument(
        "--mask", type=Path, help="objects of the first frame, to be followed through a video"
    )
    parser.add_argument("--weights", help="of the encoder that follows masks or reads by prompts")
    parser.add_argument(
        "--prompts",
        nargs="+",
        action="extend",
        metavar="TEXT",
        help="label pixels by these names, one a word or with commas between them",
    )
    parser.add_argument(
        "--readout",
        help="by name: layer, maskclip, sclip or clearclip, how a patch is read (default: the "
        "config's if it names one, else clearclip)",
    )
    parser.add_argument(
        "--layer", type=int, help="by name: block that is read, from 0 (default: likewise, else -1)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="P",
        help="by name: pixels in which no name has this probability are background (default: none)",
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="on top of those of the training, for example image_bits=12",
    )
    return parser.parse_args()


def main() -> int:
    """Predict, and tell what could not be read."""
    args = parse_args()
    config, words = None, list(args.words)
    if words[0].endswith(".py"):
        config = words.pop(0)
    is_by_name = args.prompts is not None
    if args.mask is not None or config is not None:
        from pe_dense.predict.text_run import is_of_text
        from pe_dense.predict.video_command import is_of_tracking  # heavy
        from pe_dense.run.config import load_template

        if is_of_tracking(config) and not is_by_name:
            return follow_objects(str(config), words, args)
        is_by_name = is_by_name or (config is not None and is_of_text(load_template(config)))
    if args.mask is not None or (args.weights is not None and not is_by_name):
        raise ValueError(
            "--mask and --weights are for masks that are followed through a video; name the "
            "config first: configs/tracking/vos_custom.py"
        )
    request = by_name(config, words, args) if is_by_name else by_checkpoint(config, words, args)
    from pe_dense.predict.command import predict  # heavy: torch

    outcome = predict(request)
    return told(outcome, args)


def by_checkpoint(config: str | None, words: list[str], args: argparse.Namespace) -> Any:
    """What is predicted by a checkpoint."""
    if len(words) < 2:
        raise ValueError("name a checkpoint and then what to predict: pictures, folders, lists")
    for name in ("readout", "layer", "threshold"):
        if getattr(args, name) is not None:
            raise ValueError(f"--{name} is for labels by name; name them with --prompts")
    checkpoint, *inputs = words
    options = command_line.parse_options(args.cfg_options)
    known = dict(checkpoint=Path(checkpoint), config=config, encoder=args.encoder, options=options)
    return request_of(inputs, args, **known)


def by_name(config: str | None, words: list[str], args: argparse.Namespace) -> Any:
    """What is predicted by the names of classes, without a checkpoint."""
    from pe_dense.predict.text_run import CONFIG, TextRequest  # heavy
    from pe_dense.text_dense.prompts import typed_prompts

    encoder = args.encoder
    if config is None and encoder is None:
        encoder = words.pop(0)
    if not words:
        raise ValueError(
            "name an encoder with a text tower (or a config of segmentation by names) and then "
            "what to predict: pictures, folders, lists"
        )
    asked = TextRequest(
        config=config or CONFIG,
        encoder=encoder,
        weights=args.weights,
        prompts=None if args.prompts is None else typed_prompts(args.prompts),
        readout=args.readout,
        layer=args.layer,
        threshold=args.threshold,
        options=command_line.parse_options(args.cfg_options),
    )
    return request_of(words, args, checkpoint=None, text=asked)


def request_of(inputs: list[str], args: argparse.Namespace, **known: Any) -> Any:
    """The request with what all models take."""
    from pe_dense.predict.command import PredictRequest  # heavy: torch

    return PredictRequest(
        inputs=inputs,
        out=args.out,
        device=args.device,
        amp=args.amp,
        batch_size=args.batch_size,
        overlays=args.overlays,
        score_thr=args.score_thr,
        ids=args.ids,
        steps_per_metre=args.depth_scale,
        resume=args.resume,
        argv=sys.argv,
        **known,
    )


def told(outcome: Any, args: argparse.Namespace) -> int:
    """Exit code, once it is told what became of the pictures."""
    earlier = f" ({outcome.earlier} of them before)" if outcome.earlier else ""
    videos = f", {outcome.videos} videos" if outcome.videos else ""
    pictures = outcome.predicted + outcome.earlier
    print(f"{args.out}: {pictures} pictures predicted{earlier}{videos}")
    if outcome.clipped_pixels:
        print(
            f"{outcome.clipped_pixels} pixels of depth do not fit into 16 bits and are clipped "
            "there, not in *.npy; give fewer steps per metre with --depth-scale"
        )
    for file, reason in outcome.failed.items():
        print(f"not predicted: {on_one_line(file)}: {reason}", file=sys.stderr)
    if outcome.failed:
        print(f"{len(outcome.failed)} could not be predicted", file=sys.stderr)
    return 1 if outcome.failed else 0


def on_one_line(file: str) -> str:
    """A name whose line breaks and the like are spelt out."""
    return re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", lambda found: repr(found[0])[1:-1], file)


def follow_objects(config: str, words: list[str], args: argparse.Namespace) -> int:
    """Masks or boxes through videos."""
    from pe_dense.predict.video_command import VideoRequest, follow  # heavy

    for option, given in (
        ("--resume", args.resume),
        ("--overlays", args.overlays),
        ("--score-thr", args.score_thr != SCORE_THR),
        ("--batch-size", args.batch_size),
        ("--device", args.device),
        ("--amp", args.amp),
        ("--ids", args.ids),
        ("--depth-scale", args.depth_scale),
    ):
        if given:
            raise ValueError(
                f"{option} is of models of pictures, and {config} follows objects through videos; "
                "leave it out"
            )
    options = command_line.parse_options(args.cfg_options)
    request = VideoRequest(config, words, args.out, args.mask, args.encoder, args.weights, options)
    try:
        outcomes = follow(request)
    except KeyboardInterrupt:
        print("stopped; begin again with another --out", file=sys.stderr)
        return command_line.INTERRUPTED
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        print(f"not predicted to its end: {outcome.error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    command_line.run(main, goes_on=True, option="--resume")
