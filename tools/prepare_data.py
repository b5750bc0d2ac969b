"""Prepares data sets: generates the mini world, checks folders of data that are there, splits them.

python tools/prepare_data.py mini                  (or mini2: the courtyard, world 2)
python tools/prepare_data.py coco DIR              (or lvis, or objects365)
python tools/prepare_data.py coco-format DIR       any classes
python tools/prepare_data.py coco-format DIR --split 0.2 --seed 0
python tools/prepare_data.py convert DIR NEW_DIR   YOLO, VOC, CVAT, Label Studio, labelme ... labels
python tools/prepare_data.py nyu DIR               (or kitti) depth
python tools/prepare_data.py nyu NEW_DIR --from-mat nyu_depth_v2_labeled.mat --splits-mat splits.mat
python tools/prepare_data.py ade20k DIR            segmentation (or voc, or cityscapes)
python tools/prepare_data.py voc DIR --aug SBD_DIR
python tools/prepare_data.py cityscapes DIR --train-ids

A check says what is missing or wrong, and ends with exit code 0, or 2 if there are problems.

Each subcommand is a pair of functions, one that adds its options and one that runs it, listed
in COMMANDS. Heavy imports stay inside the functions, so --help is instant.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pe_dense.data.checks.progress import late_progress, progress_line
from pe_dense.run.command_line import Parser, sentence

if TYPE_CHECKING:
    from pe_dense.data.checks.inspection import Inspection


def add_mini_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mini`."""
    add_world_options(parser, 1, Path("data/mini"))


def add_mini2_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `mini2`."""
    add_world_options(parser, 2, Path("data/mini2"))


def add_world_options(parser: argparse.ArgumentParser, world: int, out: Path) -> None:
    """Adds what both versions of the mini world share."""
    parser.set_defaults(world=world)
    parser.add_argument("--out", type=Path, default=out, help="folder to write")
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
    from pe_dense.mini_world.formats import MiniWorldConfig, build_mini_world, load_manifest
    from pe_dense.mini_world.preview import write_contact_sheet

    config = MiniWorldConfig(
        args.seed, args.train, args.val, args.clips, args.frames, args.image_size, args.world
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


def add_folder_options(parser: argparse.ArgumentParser, splits: tuple[str, ...]) -> None:
    """Adds what all checks of folders share: the folder, and the splits."""
    parser.add_argument("root", type=Path, metavar="DIR", help="folder of the data set")
    if splits:
        parser.add_argument(
            "--splits", nargs="+", choices=splits, default=list(splits), help="to check"
        )
    parser.set_defaults(all_classes=False)


def add_class_option(parser: argparse.ArgumentParser) -> None:
    """Adds what all checks of COCO files share besides."""
    parser.add_argument(
        "--decode", type=int, default=2000, metavar="N", help="images per split that are decoded"
    )
    parser.add_argument("--all-classes", action="store_true", help="list every class")


def add_known_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `coco` and `lvis`."""
    add_folder_options(parser, ("train", "val"))
    add_class_option(parser)


def run_known(args: argparse.Namespace) -> int:
    """Compares a folder with a published data set."""
    from pe_dense.data.checks.inspection import inspect_known_set
    from pe_dense.data.checks.known_sets import KNOWN_SETS

    known = KNOWN_SETS[args.command]
    if known.size_note:
        print(f"{known.title}: {known.size_note}", file=sys.stderr)
    return report(
        inspect_known_set(args.root, known, args.splits, late_progress, args.decode), args
    )


def add_objects365_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `objects365`."""
    add_known_options(parser)
    parser.add_argument(
        "--write-fixmiss",
        action="store_true",
        help="first write zhiyuan_objv2_train_fixmiss.json: the train JSON without the images "
        "that have no file",
    )


def run_objects365(args: argparse.Namespace) -> int:
    """Compares a folder with Objects365, and makes the file that its recipes read."""
    if args.write_fixmiss:
        from pe_dense.data.checks.coco_subset import write_existing

        source = args.root / "annotations" / "zhiyuan_objv2_train.json"
        target = source.with_name("zhiyuan_objv2_train_fixmiss.json")
        absent = write_existing(
            source, target, args.root / "train", "objects365", late_progress(source.name)
        )
        print(f"{target}: written, {absent} images without a file left out")
    return run_known(args)


def add_coco_format_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `coco-format`."""
    add_folder_options(parser, ())
    add_class_option(parser)
    parser.add_argument(
        "--masks", action="store_true", help="masks are to be trained or scored, too"
    )
    parser.add_argument("--train-json", metavar="FILE", help="below DIR; found by its name")
    parser.add_argument("--val-json", metavar="FILE", help="below DIR; found by its name")
    for split in ("train", "val"):
        parser.add_argument(f"--{split}-images", metavar="DIR", help="below DIR; found by looking")
    parser.add_argument(
        "--split",
        type=float,
        metavar="SHARE",
        help="first divide one JSON: this share of its images goes to annotations/val.json",
    )
    parser.add_argument("--json", metavar="FILE", help="the JSON to divide; found if there is one")
    parser.add_argument("--seed", type=int, default=0, help="of the division")


def run_coco_format(args: argparse.Namespace) -> int:
    """Looks through a folder with any classes, after dividing it where that is asked for."""
    from pe_dense.data.checks.coco_folder import single_json
    from pe_dense.data.checks.coco_subset import split_json
    from pe_dense.data.checks.inspection import inspect_folder, require_folder

    if args.split is None and args.json is not None:
        raise ValueError("--json names the file to divide; add --split SHARE")
    if args.split is not None:
        require_folder(args.root)
        name = args.json or single_json(args.root)
        train, val = split_json(args.root, name, args.split, args.seed, late_progress(name))
        print(f"{args.root / name}: divided into {train} and {val}")
        args.train_json, args.val_json = (str(p.relative_to(args.root)) for p in (train, val))
    found = inspect_folder(
        args.root,
        late_progress,
        args.train_json,
        args.val_json,
        args.masks,
        args.decode,
        {"train": args.train_images, "val": args.val_images},
    )
    return report(found, args)


def add_convert_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `convert`."""
    from pe_dense.data.convert.form_names import FORMS, TARGETS

    parser.add_argument("source", type=Path, metavar="DIR", help="pictures and their labels")
    parser.add_argument("target", type=Path, metavar="NEW_DIR", help="a new folder to write")
    parser.add_argument(
        "--from", dest="form", choices=FORMS, help="format of the labels; found by looking"
    )
    parser.add_argument(
        "--to",
        choices=TARGETS,
        default="coco",
        help="COCO JSON of boxes and masks, or label maps of classes",
    )
    parser.add_argument(
        "--split",
        type=float,
        metavar="SHARE",
        help="divide anew, this share to val, whole sequences where names tell them; by default "
        "the splits that are there, or 0.2",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the division")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="NAME", help="of what is refused"
    )
    parser.add_argument("--copy", action="store_true", help="copy pictures instead of linking")
    parser.add_argument(
        "--no-background", action="store_true", help="label maps: 255 where there is no object"
    )
    parser.add_argument(
        "--voc-origin", type=int, choices=(0, 1), help="VOC: number of the first pixel; found"
    )
    parser.set_defaults(all_classes=False)


def run_convert(args: argparse.Namespace) -> int:
    """Converts a folder of labels, and looks through what was written."""
    from pe_dense.data.checks.inspection import inspect_folder
    from pe_dense.data.convert.conversion import convert

    done = convert(
        args.source, args.target, args.form, args.to, args.split, args.seed, args.accept,
        args.voc_origin, not args.no_background, args.copy,
    )  # fmt: skip
    print("\n".join([*done.lines, ""]))
    if args.to == "semantic" or not (args.target / "annotations" / "val.json").is_file():
        print(f"{args.target}: written")
        return 0
    args.root = args.target
    return report(inspect_folder(args.target, late_progress), args)


def add_depth_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `kitti`, and those that `nyu` shares with it."""
    add_folder_options(parser, ("train", "test"))
    for split in ("train", "test"):
        parser.add_argument(
            f"--{split}-list", metavar="FILE", help="below DIR; found by its usual name"
        )


def add_nyu_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `nyu`."""
    add_depth_options(parser)
    parser.add_argument(
        "--from-mat",
        type=Path,
        metavar="FILE",
        help="first write the official test set of nyu_depth_v2_labeled.mat into DIR, a new folder",
    )
    parser.add_argument(
        "--splits-mat", type=Path, metavar="FILE", help="splits.mat, for --from-mat"
    )


def run_nyu(args: argparse.Namespace) -> int:
    """Writes the official test set where that is asked for, and checks a folder of NYUv2."""
    if (args.from_mat is None) != (args.splits_mat is None):
        raise ValueError("--from-mat and --splits-mat belong together; give both or none")
    if args.from_mat is not None:
        from pe_dense.data.checks.nyu_labelled import convert_labelled

        count = convert_labelled(
            args.from_mat, args.splits_mat, args.root, late_progress(args.from_mat.name)
        )
        print(f"{args.root}: {count} test images written")
        args.splits, args.test_list = ["test"], None
    return run_depth(args)


def run_depth(args: argparse.Namespace) -> int:
    """Compares a folder with a published depth data set."""
    from pe_dense.data.checks.depth_folder import KNOWN_DEPTH_SETS, inspect_depth_set

    lists = {"train": args.train_list, "test": args.test_list}
    known = KNOWN_DEPTH_SETS[args.command]
    return report(inspect_depth_set(args.root, known, args.splits, late_progress, lists), args)


def add_segmentation_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `ade20k`, and those that `voc` and `cityscapes` share with it."""
    add_folder_options(parser, ("train", "val"))


def add_voc_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `voc`."""
    add_segmentation_options(parser)
    parser.add_argument(
        "--aug",
        type=Path,
        metavar="SBD_DIR",
        help="first write SegmentationClassAug and trainaug.txt from the labels of SBD "
        "(benchmark_RELEASE/dataset)",
    )


def add_cityscapes_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cityscapes`."""
    add_segmentation_options(parser)
    parser.add_argument(
        "--train-ids",
        action="store_true",
        help="first write the *_gtFine_labelTrainIds.png that are not there yet",
    )


def run_voc(args: argparse.Namespace) -> int:
    """Writes the augmented set where that is asked for, and checks a folder of VOC 2012."""
    if args.aug is not None:
        from pe_dense.data.checks.label_map_files import write_augmented_voc

        written, kept = write_augmented_voc(args.root, args.aug, late_progress("trainaug"))
        print(f"{args.root}: {written} label maps of trainaug written, {kept} were there")
    if (args.root / "ImageSets" / "Segmentation" / "trainaug.txt").is_file():
        args.splits = [*args.splits, "trainaug"]
    else:
        print("trainaug, which the recipes train on, is not there; --aug SBD_DIR writes it")
    return run_segmentation(args)


def run_cityscapes(args: argparse.Namespace) -> int:
    """Writes labelTrainIds where that is asked for, and checks a folder of Cityscapes."""
    if args.train_ids:
        from pe_dense.data.checks.label_map_files import write_train_ids

        written, kept = write_train_ids(args.root, tuple(args.splits), late_progress("train ids"))
        print(f"{args.root}: {written} maps of training ids written, {kept} were there")
    return run_segmentation(args)


def run_segmentation(args: argparse.Namespace) -> int:
    """Compares a folder with a published segmentation data set."""
    from pe_dense.data.checks.segmentation_folder import KNOWN_SEGMENTATION, inspect_segmentation

    known = KNOWN_SEGMENTATION[args.command]
    return report(inspect_segmentation(args.root, known, args.splits, late_progress), args)


def report(inspection: "Inspection", args: argparse.Namespace) -> int:
    """Prints what a check found; returns the exit code."""
    print(inspection.text(args.all_classes))
    if inspection.num_problems:
        kinds = "1 kind" if inspection.num_problems == 1 else f"{inspection.num_problems} kinds"
        print(f"error: {kinds} of problems in {args.root}, listed above", file=sys.stderr)
        return 2
    print("\nno problems")
    return 0


COMMANDS = {
    "mini": ("generate the mini world (no download)", add_mini_options, run_mini),
    "mini2": (
        "generate world 2 of it, in which position says little (no download)",
        add_mini2_options,
        run_mini,
    ),
    "coco": ("check a COCO 2017 folder", add_known_options, run_known),
    "lvis": ("check an LVIS v1 folder (with COCO's images)", add_known_options, run_known),
    "objects365": ("check an Objects365 v2 folder", add_objects365_options, run_objects365),
    "coco-format": (
        "check a folder of COCO-format data with any classes, or split it",
        add_coco_format_options,
        run_coco_format,
    ),
    "convert": (
        "turn labels of YOLO, VOC, CVAT, Label Studio, labelme ... into COCO or label maps",
        add_convert_options,
        run_convert,
    ),
    "nyu": ("check an NYUv2 depth folder, or make its test set", add_nyu_options, run_nyu),
    "kitti": ("check a KITTI depth folder (Eigen split)", add_depth_options, run_depth),
    "ade20k": ("check an ADE20K folder", add_segmentation_options, run_segmentation),
    "voc": ("check a PASCAL VOC 2012 folder", add_voc_options, run_voc),
    "cityscapes": ("check a Cityscapes folder", add_cityscapes_options, run_cityscapes),
}


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
        return COMMANDS[args.command][2](args) or 0
    except (ValueError, OSError) as error:
        print(f"error: {sentence(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; nothing was written", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
