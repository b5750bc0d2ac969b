"""Writes the mini world in the formats of COCO, ADE20K, NYU Depth v2, DAVIS 2017 and MOTChallenge.

Layout below the output folder:

    coco/images/{train,val}/*.jpg, coco/annotations/{train,val}.json
    ade/{images,annotations}/{training,validation}/*.{jpg,png}
    nyu/{train,test}/{rgb_*.jpg,sync_depth_*.png}, nyu/nyu_{train,test}.txt
    davis/{JPEGImages,Annotations}/480p/<clip>/*.{jpg,png}, davis/ImageSets/2017/{train,val}.txt
    mot/{train,test}/<clip>/{img1/*.jpg,gt/gt.txt,gt/classes.txt,seqinfo.ini}
    manifest.json

COCO, ADE and NYU show the same pictures, DAVIS and MOT the same clips; each picture is encoded
once and hard-linked elsewhere (copied where the file system has no hard links). Files hold no
time stamps: the same seed gives the same bytes, given the same NumPy, OpenCV and Pillow.
"""

import hashlib
import io
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pe_dense.files import file_sha256
from pe_dense.mini_world.render import Frame, FrameObject
from pe_dense.mini_world.world import FRAME_RATE, MAX_IMAGE_SIZE, MIN_IMAGE_SIZE
from pe_dense.mini_world.worlds import World, world_of

GENERATOR = "pe_dense mini world"
DEPTH_SCALE = 1000  # NYU depth PNGs are in millimetres
VAL_ID_OFFSET = 100_000  # COCO image ids: 1, 2, ... in train; 100001, ... in val
_JPEG_QUALITY = 90
_FOLDERS = {  # our split -> names in ADE, NYU
    "train": ("training", "ADE_train", "train"),
    "val": ("validation", "ADE_val", "test"),
}


@dataclass(frozen=True)
class MiniWorldConfig:
    """Version, size and seed of a mini world.

    Raises:
        ValueError: If a number is out of range.
    """

    seed: int = 0
    train: int = 400
    val: int = 100
    clips: int = 12
    frames: int = 24
    image_size: int = 256
    world: int = 1

    def __post_init__(self) -> None:
        """Checks the ranges."""
        world_of(self.world)
        limits = {
            "seed": (0, 2**63 - 1),
            "train": (1, VAL_ID_OFFSET),
            "val": (1, VAL_ID_OFFSET),
            "clips": (2, 1000),  # one to train on, one to test on
            "frames": (3, 10_000),  # DAVIS does not score the first and the last
            "image_size": (MIN_IMAGE_SIZE, MAX_IMAGE_SIZE),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                option = "--" + name.replace("_", "-")
                raise ValueError(f"{option} is {value}, but must be {low} to {high}")

    @property
    def drawn(self) -> World:
        """The version that is drawn."""
        return world_of(self.world)

    @property
    def settings(self) -> dict[str, Any]:
        """What a manifest says of it: the version of the generator, then all numbers."""
        numbers = asdict(self)
        del numbers["world"]
        return {"version": self.drawn.generator_version, **numbers}

    @property
    def num_val_clips(self) -> int:
        """A third of the clips, at least one."""
        return max(1, self.clips // 3)


def build_mini_world(
    out_dir: str | Path,
    config: MiniWorldConfig,
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Writes a mini world; the folder appears when it is complete and not before.

    Args:
        out_dir: Folder to make. A finished one with the same settings is checked and kept.
        config: Size and seed.
        overwrite: Replace a mini world that has other settings or is damaged.
        on_progress: Called with (pictures done, pictures in all) after each picture.

    Returns:
        True if it was written, False if it was already there.

    Raises:
        ValueError: If out_dir holds something else, or a mini world with other settings.
    """
    out_dir = Path(out_dir)
    if _is_already_there(out_dir, config, overwrite):
        return False
    total = config.train + config.val + config.clips * config.frames
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if on_progress:
            on_progress(done, total)

    with _appearing_folder(out_dir) as folder:
        sink = _Sink(folder)
        for split, count in (("train", config.train), ("val", config.val)):
            _write_images(sink, config, split, count, tick)
        for split in ("train", "val"):
            _write_clips(sink, config, split, tick)
        sink.write("manifest.json", _to_json(_manifest(config, sink.sha256)))
    return True


def load_manifest(root: str | Path) -> dict[str, Any]:
    """Reads manifest.json of a mini world.

    Raises:
        ValueError: If there is none, or it does not belong to a mini world.
    """
    path = Path(root) / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if manifest["generator"] == GENERATOR:
            return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{root} is not a mini world (no valid manifest.json in it)")


def find_damage(root: str | Path) -> list[str]:
    """Returns the relative paths whose bytes are missing or differ from the manifest."""
    root = Path(root)
    expected = load_manifest(root)["sha256"]
    return [
        name
        for name, digest in expected.items()
        if not (root / name).is_file() or file_sha256(root / name) != digest
    ]


def davis_palette() -> NDArray[np.uint8]:
    """Returns the (256, 3) RGB colour map of PASCAL VOC, which DAVIS uses.

    Example:
        >>> davis_palette()[:3].tolist()
        [[0, 0, 0], [128, 0, 0], [0, 128, 0]]
    """
    index = np.arange(256)
    palette = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((index >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette


def coco_annotations(frame: Frame, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Returns COCO annotations of the objects that are visible enough; boxes of visible pixels."""
    from pycocotools import mask as coco_mask

    annotations: list[dict[str, Any]] = []
    for item in frame.objects:
        if not item.is_annotated:
            continue
        rle = coco_mask.encode(np.asfortranarray(frame.ids == item.track_id, dtype=np.uint8))
        annotations.append(
            {
                "id": first_id + len(annotations),
                "image_id": image_id,
                "category_id": item.class_id,
                "bbox": [float(v) for v in item.box_xywh],
                "area": item.area_px,
                "iscrowd": 0,
                "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
            }
        )
    return annotations


def mot_line(frame_number: int, item: FrameObject) -> str:
    """Returns a row of MOT17 ground truth: frame, id, x, y, w, h, active, class, visibility.

    Frames and coordinates count from 1. The class is 1 ("pedestrian") for every object, because
    MOTChallenge tools score no other; `gt/classes.txt` has the true one. Objects with too few
    visible pixels have active = 0.
    """
    x, y, w, h = item.box_xywh
    active = int(item.is_annotated)
    box = f"{x + 1},{y + 1},{w},{h}"
    return f"{frame_number},{item.track_id},{box},{active},1,{item.visibility:.4f}"


# Folder and files --------------------------------------------------------------------------------


def _is_already_there(out_dir: Path, config: MiniWorldConfig, overwrite: bool) -> bool:
    if not out_dir.exists():
        return False
    if not out_dir.is_dir():
        raise ValueError(f"{out_dir} is a file; pass another folder with --out")
    if not any(out_dir.iterdir()):
        return False
    try:
        found = load_manifest(out_dir)
    except ValueError as error:
        raise ValueError(f"{error} and is not empty; pass another folder with --out") from None
    if overwrite:
        return False
    wanted = config.settings
    other = {k: found.get(k) for k, v in wanted.items() if found.get(k) != v}
    if other:
        difference = ", ".join(f"{k} {v} instead of {wanted[k]}" for k, v in other.items())
        raise ValueError(
            f"{out_dir} holds a mini world with {difference}; pass --overwrite to replace it"
        )
    damaged = find_damage(out_dir)
    if damaged:
        raise ValueError(
            f"{out_dir} is damaged: {damaged[0]} and {len(damaged) - 1} more files are missing "
            "or changed; pass --overwrite to write it anew"
        )
    return True


@contextmanager
def _appearing_folder(out_dir: Path) -> Iterator[Path]:
    """Gives a hidden sibling folder that becomes out_dir at the end, or vanishes on an error."""
    out_dir = out_dir.absolute()
    try:
        out_dir.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ValueError(
            f"{out_dir.parent} is not a folder; pass another folder with --out"
        ) from None
    prefix = f".{out_dir.name}.partial-{socket.gethostname()}-"
    for stale in list(out_dir.parent.iterdir()):  # left behind by a killed run on this machine
        if stale.name.startswith(prefix) and not _is_running(stale.name.removeprefix(prefix)):
            shutil.rmtree(stale, ignore_errors=True)
    folder = out_dir.with_name(f"{prefix}{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
        replaced = folder.with_name(f"{folder.name}.replaced")
        if out_dir.exists():
            out_dir.rename(replaced)
        try:
            folder.rename(out_dir)
        except OSError:
            replaced.rename(out_dir)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _is_running(process_id: str) -> bool:
    try:
        os.kill(int(process_id), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


class _Sink:
    """Writes files below a folder and remembers their sha256."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sha256: dict[str, str] = {}

    def write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.sha256[name] = hashlib.sha256(data).hexdigest()

    def link(self, name: str, existing: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.root / existing, path)
        except OSError:
            shutil.copyfile(self.root / existing, path)
        self.sha256[name] = self.sha256[existing]


def _manifest(config: MiniWorldConfig, sha256: dict[str, str]) -> dict[str, Any]:
    import cv2
    import PIL

    return {
        "generator": GENERATOR,
        **config.settings,
        "class_names": list(config.drawn.thing_names),
        "semantic_names": list(config.drawn.semantic_names),
        "depth_scale": DEPTH_SCALE,
        "made_with": {
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        },
        "sha256": dict(sorted(sha256.items())),
    }


def _to_json(value: object) -> bytes:
    indent = 1 if isinstance(value, dict) and "sha256" in value else None
    return (json.dumps(value, indent=indent) + "\n").encode("ascii")


def encode_image(extension: str, image: NDArray[Any]) -> bytes:
    """Returns the bytes of a PNG or JPEG file; (H, W) or RGB (H, W, 3), uint8 or uint16."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if extension == ".jpg" else []
    ok, data = cv2.imencode(extension, image[..., ::-1] if image.ndim == 3 else image, options)
    if not ok:
        raise RuntimeError(f"OpenCV could not encode a {extension} of shape {image.shape}")
    return data.tobytes()


def _encode_indexed_png(ids_HW: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    picture = Image.fromarray(ids_HW)
    picture.putpalette(davis_palette().tobytes())  # turns mode L into P
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


# Splits ------------------------------------------------------------------------------------------


def _write_images(
    sink: _Sink, config: MiniWorldConfig, split: str, count: int, tick: Callable[[], None]
) -> None:
    """Writes one split of still pictures as COCO, ADE and NYU."""
    ade_folder, ade_stem, nyu_folder = _FOLDERS[split]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    nyu_lines = []
    for index in range(count):
        frame = config.drawn.make_image(config.seed, split, index, config.image_size)
        image_id = index + 1 + (VAL_ID_OFFSET if split == "val" else 0)
        jpg = f"coco/images/{split}/{image_id:012d}.jpg"
        sink.write(jpg, encode_image(".jpg", frame.image))
        height, width = frame.ids.shape
        images.append(
            {"id": image_id, "file_name": Path(jpg).name, "height": height, "width": width}
        )
        annotations += coco_annotations(frame, image_id, len(annotations) + 1)

        ade_name = f"{ade_folder}/{ade_stem}_{index + 1:08d}"
        sink.link(f"ade/images/{ade_name}.jpg", jpg)
        sink.write(f"ade/annotations/{ade_name}.png", encode_image(".png", frame.semantic))

        rgb, depth = (
            f"{nyu_folder}/{v}" for v in (f"rgb_{index:05d}.jpg", f"sync_depth_{index:05d}.png")
        )
        sink.link(f"nyu/{rgb}", jpg)
        depth_mm_HW = np.rint(DEPTH_SCALE * frame.depth_m).astype(np.uint16)
        sink.write(f"nyu/{depth}", encode_image(".png", depth_mm_HW))
        nyu_lines.append(f"{rgb} {depth} {frame.focal_px:.4f}\n")
        tick()
    sink.write(f"nyu/nyu_{nyu_folder}.txt", "".join(nyu_lines).encode("ascii"))
    coco = {
        "info": {
            "description": GENERATOR,
            "version": config.drawn.generator_version,
            "seed": config.seed,
            "split": split,
        },
        "licenses": [],
        "categories": [
            {"id": i, "name": name, "supercategory": "thing"}
            for i, name in enumerate(config.drawn.thing_names, start=1)
        ],
        "images": images,
        "annotations": annotations,
    }
    sink.write(f"coco/annotations/{split}.json", _to_json(coco))


def _write_clips(
    sink: _Sink, config: MiniWorldConfig, split: str, tick: Callable[[], None]
) -> None:
    """Writes one split of clips as DAVIS and MOTChallenge."""
    count = config.num_val_clips if split == "val" else config.clips - config.num_val_clips
    names = [f"{split}_{index:03d}" for index in range(count)]
    thing_names = config.drawn.thing_names
    for index, name in enumerate(names):
        frames = config.drawn.make_clip(
            config.seed, f"clip_{split}", index, config.image_size, config.frames
        )
        mot = f"mot/{'test' if split == 'val' else 'train'}/{name}"
        for t, frame in enumerate(frames):
            jpg = f"davis/JPEGImages/480p/{name}/{t:05d}.jpg"
            sink.write(jpg, encode_image(".jpg", frame.image))
            sink.link(f"{mot}/img1/{t + 1:06d}.jpg", jpg)
            sink.write(f"davis/Annotations/480p/{name}/{t:05d}.png", _encode_indexed_png(frame.ids))
            tick()
        rows = [mot_line(t, item) for t, f in enumerate(frames, start=1) for item in f.objects]
        sink.write(f"{mot}/gt/gt.txt", ("\n".join(rows) + "\n").encode("ascii"))
        classes = [
            f"{o.track_id},{o.class_id},{thing_names[o.class_id - 1]}\n" for o in frames[0].objects
        ]
        sink.write(f"{mot}/gt/classes.txt", "".join(classes).encode("ascii"))
        sink.write(f"{mot}/seqinfo.ini", _seqinfo(name, config).encode("ascii"))
    sink.write(f"davis/ImageSets/2017/{split}.txt", "".join(f"{n}\n" for n in names).encode())


def _seqinfo(name: str, config: MiniWorldConfig) -> str:
    return (
        f"[Sequence]\nname={name}\nimDir=img1\nframeRate={FRAME_RATE}\n"
        f"seqLength={config.frames}\nimWidth={config.image_size}\nimHeight={config.image_size}\n"
        "imExt=.jpg\n"
    )
