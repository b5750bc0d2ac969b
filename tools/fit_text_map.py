r"""Fits the linear map from an encoder's patches to a text tower, on training pictures, no labels.

python tools/fit_text_map.py configs/segmentation/text_map_custom.py map.safetensors \
    --encoder pe_spatial_b16_512 --cfg-options data_root=DIR
python tools/test.py configs/segmentation/text_map_custom.py --encoder pe_spatial_b16_512 \
    --cfg-options data_root=DIR map_file=map.safetensors

Ridge regression from the mean of a window's features to the window's embedding; its regulariser is
chosen on held-out training pictures and printed, beside two controls. --control FILE writes a
second map, fitted on features with the embeddings of other windows, shuffled by --shuffle SEED; it
is scored with --cfg-options map_file=FILE shuffle_seed=SEED: what a map is worth is above that.
The file says what it was fitted on, and is refused with another encoder, weights, block, text tower
or other pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="of segmentation by names through a map")
    parser.add_argument("target", type=Path, help="file to write, ending in .safetensors")
    parser.add_argument("--encoder", help="whose patches are mapped; replaces the config's")
    parser.add_argument("--weights", help="of that encoder; 'random', 'released', a file or hf://")
    parser.add_argument(
        "--control", type=Path, metavar="FILE", help="fit one on shuffled pairs as well"
    )
    parser.add_argument(
        "--shuffle", type=int, default=0, metavar="SEED", help="of the control (%(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override config values, for example data_root=DIR layer=8 text_weights=FILE",
    )
    return parser.parse_args()


def main() -> None:
    """Fit, show how the regulariser was chosen, write."""
    args = parse_args()
    targets = [args.target, *([] if args.control is None else [args.control])]
    for target in targets:
        if target.suffix != ".safetensors":
            raise ValueError(f"{target} must end in .safetensors")
        if target.exists() and not args.overwrite:
            raise ValueError(f"{target} exists; name another file, or replace it with --overwrite")
    if args.control == args.target:
        raise ValueError(f"{args.target} cannot be both the map and its control; name two files")
    from pe_dense.run.request import RunRequest  # heavy: torch and OpenMMLab
    from pe_dense.segmentation.text_map_fit import fit_of_config, table_of
    from pe_dense.text_dense.map_file import save_map

    options = command_line.parse_options(args.cfg_options)
    if options.get("map_file") is not None:
        raise ValueError("map_file is what is made here; leave it out of --cfg-options")
    if options.get("shuffle_seed") is not None:
        raise ValueError("shuffle_seed is for scoring the control; fit it with --control FILE")
    cfg, _ = RunRequest(args.config, args.encoder, args.weights, options).load()
    seeds = [None, args.shuffle][: len(targets)]
    made = fit_of_config(cfg, seeds, show_progress)
    print(table_of(made[0][0]))
    for target, (fitted, facts) in zip(targets, made, strict=True):
        save_map(target, fitted.map, facts)
        print(f"{target}: {facts.in_words()}")


def show_progress(done: int, total: int) -> None:
    """A line that counts pictures, where somebody watches."""
    if sys.stderr.isatty() or done == total:
        end = "\n" if done == total else "\r"
        print(f"{done} of {total} pictures", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    command_line.run(main)
