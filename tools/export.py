"""Writes a trained model, or an encoder alone, as a file for other runtimes, and tries the file.

python tools/export.py work_dirs/my_run --out model.onnx
python tools/export.py work_dirs/my_run --out model.onnx --size 512 512 --precision fp16
python tools/export.py work_dirs/my_run --out model.onnx --score
python tools/export.py --encoder pe_spatial_b16_512 --layers 3 7 -1 --out encoder.onnx

CHECKPOINT is a file, or a work dir whose newest checkpoint is meant. The file takes RGB in 0..255,
(B, 3, H, W) float32, and holds what a runtime must know (JSON under 'pe_dense' in its metadata).
It is compared with torch on two inputs; one that differs by more than --limit of the range is not
kept, and the exit code is 2. docs/run_onnx.py runs it without torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, nargs="?", help="checkpoint file, or a work dir")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    parser.add_argument("--format", choices=("onnx", "torch"), default="onnx")
    parser.add_argument("--config", help="config of a checkpoint that does not hold its own")
    parser.add_argument("--encoder", help="an encoder alone: zoo name or timm:<model>")
    parser.add_argument(
        "--weights", help="of --encoder: 'released' (default), 'random', a file or hf://..."
    )
    parser.add_argument(
        "--layers", type=int, nargs="+", help="of --encoder: blocks from 0, -1 is the last"
    )
    parser.add_argument("--norm", action="store_true", help="of --encoder: apply its final norm")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="one size of pictures, in pixels"
    )
    parser.add_argument(
        "--dynamic",
        action="store_true",
        help="any size (the default without --size, where the model can)",
    )
    parser.add_argument("--batch", type=int, help="pictures at once (default: any, or 1)")
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), default="fp32", help="of the encoder"
    )
    parser.add_argument(
        "--nms",
        choices=("inside", "outside"),
        default="inside",
        help="of detectors: duplicates are suppressed in the file, or by who runs it",
    )
    parser.add_argument("--opset", type=int, help="of ONNX (default: 20)")
    parser.add_argument(
        "--limit", type=float, help="largest difference from torch (default: 1e-4, fp16 3e-2)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file")
    parser.add_argument(
        "--score",
        nargs="?",
        const="",
        metavar="CONFIG",
        help="score the file and the checkpoint as tools/test.py does (default: its own config)",
    )
    parser.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE"
    )
    return parser.parse_args()


def runner() -> Callable[[Path], Any]:
    """`ExportedModel` of docs/run_onnx.py, which has to go alone and is no part of the package.

    Raises:
        ValueError: If it is not there.
    """
    file = Path(__file__).resolve().parents[1] / "docs/run_onnx.py"
    if not file.is_file():
        raise ValueError("--score needs docs/run_onnx.py; call tools/export.py of a checkout")
    spec = importlib.util.spec_from_file_location("run_onnx", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ExportedModel


def main() -> None:
    """Export, try, print."""
    args = parse_args()
    if (args.checkpoint is None) == (args.encoder is None):
        raise ValueError("name a checkpoint, or an encoder with --encoder; one of both")
    for name in ("weights", "layers", "norm"):
        if args.encoder is None and getattr(args, name):
            raise ValueError(f"--{name} is for --encoder; a checkpoint has its own")
    if args.size is not None and min(args.size) < 1:
        raise ValueError(
            f"--size {args.size[0]} {args.size[1]} is no size; both in pixels, above 0"
        )
    if args.batch is not None and args.batch < 1:
        raise ValueError(f"--batch {args.batch} is no number of pictures; 1 or more")
    if args.score is not None and (args.encoder is not None or args.format != "onnx"):
        raise ValueError("--score is for ONNX files of a checkpoint; leave it out")
    from pe_dense.export.checkpoint_program import Wanted  # heavy: torch
    from pe_dense.export.command import Scoring, export_checkpoint, export_encoder
    from pe_dense.export.onnx_file import OPSET

    wanted = Wanted(
        size=tuple(args.size) if args.size else None,
        open_size=True if args.dynamic else None,
        batch=args.batch,
        precision=args.precision,
        suppression=args.nms,
    )
    how: dict[str, Any] = dict(
        target=args.out,
        file_format=args.format,
        limit=args.limit,
        overwrite=args.overwrite,
        opset=args.opset or OPSET,
    )
    if args.encoder is not None:
        weights, layers = args.weights or "released", args.layers or [-1]
        lines = export_encoder(args.encoder, weights, layers, args.norm, wanted, **how)
    else:
        options = command_line.parse_options(args.cfg_options)
        scoring = None
        if args.score is not None:
            scoring = Scoring(runner(), args.score or None, sys.argv)
        lines = export_checkpoint(args.checkpoint, args.config, options, wanted, scoring, **how)
    print(*lines, sep="\n")


if __name__ == "__main__":
    command_line.run(main)
