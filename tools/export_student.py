"""Writes the student of a spatial alignment as encoder weights with a model card.

python tools/export_student.py work_dirs/spatial_align_t16_mini student.safetensors
python tools/train.py CONFIG --encoder pe_spatial_t16_512 --weights student.safetensors

CHECKPOINT is a file or a work dir, whose newest one is meant. The card lies beside the weights as
student.md: data, teachers with their hashes, losses, and the scores taken during training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="checkpoint, or work dir of a training")
    parser.add_argument("target", type=Path, help="file to write, ending in .safetensors")
    parser.add_argument(
        "--fold-layer-scale",
        action="store_true",
        help="multiply LayerScale into the projections, for an encoder whose tower has none",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace existing files")
    return parser.parse_args()


def main() -> None:
    """Export and say what was written."""
    args = parse_args()
    from pe_dense.alignment.export import export_student  # heavy: torch and OpenMMLab
    from pe_dense.run.checkpoint import checkpoint_file, load_checkpoint_safely

    file = checkpoint_file(args.checkpoint)
    done = export_student(
        file,
        load_checkpoint_safely(str(file), map_location="cpu"),
        args.target,
        fold_gains=args.fold_layer_scale,
        overwrite=args.overwrite,
    )
    size_mb = done.weights.stat().st_size / 1e6
    print(f"{done.weights}: {done.encoder}, {done.num_tensors} tensors, {size_mb:.1f} MB")
    print(f"  sha256 {done.sha256}")
    print(f"  left out: {', '.join(done.left_out) or 'nothing'}")
    print(f"{done.card}: model card")


if __name__ == "__main__":
    command_line.run(main)
