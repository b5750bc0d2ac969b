"""Runs the slow teachers of a spatial alignment once over its images and keeps their tokens.

python tools/cache_teacher.py configs/alignment/spatial_align_b16_one_gpu_cached.py --dry-run
python tools/cache_teacher.py configs/alignment/spatial_align_b16_one_gpu_cached.py --batch-size 8

Fills the folders of all CachedTeachers of the config. The size is said before it begins. It may be
killed at any time and started again; images already there are skipped. Several processes fill one
folder together: give each a part (--part 0/4, 1/4, ...).
"""

from __future__ import annotations

import argparse

from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config of the alignment; Python that is run")
    parser.add_argument("--part", default="0/1", help="I/N: every N-th image, from I (default 0/1)")
    parser.add_argument("--batch-size", type=int, default=1, help="images at once (default: 1)")
    parser.add_argument("--device", help="default: cuda where there is one, else cpu")
    parser.add_argument("--dry-run", action="store_true", help="only say the size")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="override config values",
    )
    return parser.parse_args()


def part_of(text: str) -> tuple[int, int]:
    """(index, count) of 'I/N'.

    Raises:
        ValueError: If it is nothing like it.
    """
    index, _, count = text.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise ValueError(f"--part {text} is not I/N with I from 0 to N - 1; try 0/1")
    return int(index), int(count)


def main() -> None:
    """Fill and say what was done."""
    args = parse_args()
    part = part_of(args.part)
    import torch  # heavy, as is what follows
    from mmengine.utils import ProgressBar, import_modules_from_strings

    from pe_dense.alignment.cached_teacher import fill_caches
    from pe_dense.run.config import load_config

    cfg, _ = load_config(args.config, None, None, command_line.parse_options(args.cfg_options))
    import_modules_from_strings(**cfg.custom_imports)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    bars: list[ProgressBar] = []  # that of the teacher at work comes last

    def show(done: int, total: int) -> None:
        if done == 1:
            bars.append(ProgressBar(total))
        bars[-1].update()
        if done == total:
            print()

    reports = fill_caches(cfg, device, args.batch_size, part, args.dry_run, print, show)
    for name, report in reports.items():
        if args.dry_run:
            print(f"{name}: nothing was computed")
            continue
        print(
            f"{name}: {report.num_written} images written, {report.num_found} were there, "
            f"{report.num_unreadable} cannot be read"
        )


if __name__ == "__main__":
    command_line.run(main)
