"""Prepares data sets: `python tools/prepare_data.py mini` generates the mini world.

Each subcommand is a pair of functions, one that adds its options and one that runs it, listed
in COMMANDS. Heavy imports stay inside the functions, so --help is instant.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pe_dense.command_line import Parser


def add_mini_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mini`."""
    parser.add_argument("--out", type=Path, default=Path("data/mini"), help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same bytes")
    parser.add_argument("--train", type=int, default=400, help="number of training pictures")
    parser.add_argument("--val", type=int, default=100, help="number of validation pictures")
    parser.add_argument("--clips", type=int, default=12, help="number of clips; a third is val")
    parser.add_argument("--frames", type=int, default=24, help="frames in a clip")
    parser.add_argument("--image-size", type=int, default=256, help="side of a picture in pixels")
    parser.add_argument("--preview", type=Path, metavar="PATH.png", help="write a contact sheet")
    parser.add_argument("--overwrite", action="store_true", help="replace an older mini world")


def run_mini(args: argparse.Namespace) -> None:
    """Generates the mini world."""
    from pe_dense.data.mini_formats import (
        MiniWorldConfig,
        build_mini_world,
        load_manifest,
    )
    from pe_dense.data.mini_preview import write_contact_sheet

    config = MiniWorldConfig(
        args.seed, args.train, args.val, args.clips, args.frames, args.image_size
    )
    if args.preview and args.preview.suffix.lower() not in (".png", ".jpg"):
        raise ValueError(f"--preview is {args.preview}, but must end in .png or .jpg")
    start = time.perf_counter()
    is_new = build_mini_world(args.out, config, args.overwrite, progress_line("mini world"))
    num_files = len(load_manifest(args.out)["sha256"]) + 1
    state = f"written in {time.perf_counter() - start:.1f} s" if is_new else "already there"
    print(f"{args.out}: {num_files} files, {state}")
    if args.preview:
        write_contact_sheet(args.out, args.preview)
        print(f"{args.preview}: contact sheet")


COMMANDS = {
    "mini": ("generate the mini world (no download)", add_mini_options, run_mini),
}


def progress_line(title: str) -> Callable[[int, int], None]:
    """Returns a callback (done, total) that keeps one line with the time left on stderr."""
    start = shown = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.perf_counter()
        interval = 0.2 if sys.stderr.isatty() else 10.0
        if now - shown < interval and done < total:
            return
        shown = now
        left_s = (now - start) / done * (total - done)
        text = f"{title}: {done}/{total}, {left_s:.0f} s left"
        if sys.stderr.isatty():
            print(f"\r{text:<60}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    return show


def main(argv: list[str] | None = None) -> int:
    """Runs a subcommand; returns 0, or 2 after a user error."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, add_options, _) in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=summary,
            description=summary,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        add_options(subparser)
    args = parser.parse_args(argv)
    try:
        COMMANDS[args.command][2](args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
