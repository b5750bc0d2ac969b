"""Which recipes own_layouts.py runs, on which layouts, and how small.

The first layout of a recipe is what the others are compared with. A layout that cannot hold the
same labels has a function `differ`, which reads what was written (or converted) and says how far
its labels are from those of the first.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import layouts_of_clips as clips
import layouts_of_maps as maps
import layouts_of_objects as objects
import numpy as np
from PIL import Image

NUM = dict(train=12, val=6)
FRAMES, STEP = 8, 3  # of a clip, and how far they are apart
CLIPS = ("car-shadow", "libby")


@dataclass(frozen=True)
class Layout:
    """One way to write the data.

    Attributes:
        name: For people.
        write: Writes it into a folder.
        options: What the recipe must be told because of it.
        convert: Arguments of `tools/prepare_data.py convert`, () where it is read as it is.
        differ: Says how far its labels are from the first layout's; None: they are the same.
    """

    name: str
    write: Callable[[Path], None]
    options: tuple[str, ...] = ()
    convert: tuple[str, ...] = ()
    differ: Callable[[Path], str] | None = None

    @property
    def place(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")


@dataclass(frozen=True)
class Recipe:
    """A recipe for own data, made small.

    Attributes:
        name: Name of the table.
        config: The recipe.
        options: What is changed in it, for all layouts alike.
        layouts: The first one is the reference.
        trains: Whether something is trained.
        accept: What the check of the data finds, and is accepted.
        detector: Config, writer of its data and options of the detector that is tracked.
    """

    name: str
    config: str
    options: tuple[str, ...]
    layouts: tuple[Layout, ...]
    trains: bool = True
    accept: tuple[str, ...] = ()
    detector: tuple[str, Callable[[Path], None], tuple[str, ...]] | None = None


def recipes(data: Path) -> list[Recipe]:
    """All recipes; the data are read when one is written."""
    small = ("image_side=64", "batch_size=2", "max_iters=6", "val_interval=6")
    probe = ("image_side=64", "batch_size=2", "max_epochs=1", "seeds=[0]", "lrs=[1e-3]")
    boxes = ("image_scale=(160,160)", "batch_size=2", "max_iters=8", "val_interval=8")
    detector = (
        "configs/detection/deta_custom.py",
        lambda out: objects.coco(clips.scenes_of(_clips(data)), ["object"], out),
        ("image_scale=(160,160)", "batch_size=2", "max_iters=12", "val_interval=12",
         "holdout_share=0"),
    )  # fmt: skip
    tracked = ("start=0.01", "sure=0.01", "keep=0.005")
    of_maps, of_depth = _maps(data), _depths(data)
    several = tuple(layout for layout in of_maps if layout.name in SEVERAL)
    depths = tuple(layout for layout in of_depth if layout.name in SEVERAL)
    segmentation, depth = "configs/segmentation/linear_custom.py", "configs/depth/linear_custom.py"
    return [
        Recipe("segmentation_linear", segmentation, small, of_maps),
        Recipe("segmentation_linear_cities", segmentation, small, _cities(data)),
        Recipe("segmentation_linear_background", segmentation, small, _with_background(data)),
        Recipe("depth_linear", depth, small, of_depth),
        Recipe("detection_deta", "configs/detection/deta_custom.py", boxes, _boxes(data)),
        Recipe("detection_vitdet", "configs/detection/vitdet_custom.py", boxes, _masks(data)),
        Recipe(
            "tracking_vos", "configs/tracking/vos_custom.py", ("short_side=112",),
            _clip_masks(data), trains=False,
        ),
        Recipe(
            "tracking_mot", "configs/tracking/mot_custom.py", tracked, _clip_boxes(data),
            trains=False, detector=detector,
        ),
        Recipe("probing_segmentation", "configs/probing/segmentation_custom.py", probe, several),
        Recipe("probing_depth", "configs/probing/depth_custom.py", probe, depths),
    ]  # fmt: skip


SEVERAL = (
    "images and masks, 8 bits", "PASCAL VOC, palette", "COCO panoptic",
    "images and depth, 16-bit PNG in mm", "EXR in metres", "nyu_train.txt and nyu_test.txt",
)  # fmt: skip


@functools.cache
def _photos(data: Path) -> tuple[list[maps.Photo], list[str]]:
    return maps.labelled_photos(data / "real_photos", NUM)


@functools.cache
def _rooms(data: Path) -> list[maps.Photo]:
    return maps.depth_photos(data / "real_depth", NUM)


@functools.cache
def _cells(data: Path) -> tuple[list[objects.Scene], list[str]]:
    return objects.boxed_scenes(data / "bccd", NUM)


@functools.cache
def _people(data: Path) -> tuple[list[objects.Scene], list[str]]:
    return objects.masked_scenes(data / "real_photos", NUM)


@functools.cache
def _clips(data: Path) -> list[clips.Clip]:
    return clips.clips_of(data / "real_video", CLIPS, FRAMES, STEP)


# ---- label maps ----------------------------------------------------------------------------------


def _maps(data: Path) -> tuple[Layout, ...]:
    def photos(writer: Callable) -> Callable[[Path], None]:
        return lambda out: writer(_photos(data)[0], out)

    def things(writer: Callable, **more: object) -> Callable[[Path], None]:
        def write(out: Path) -> None:
            own, classes = _photos(data)
            writer(objects.scenes_of_maps(own, classes), classes, out, **more)

        return write

    def named(out: Path) -> None:
        maps.in_parts("images/PART/NAME.jpg", "masks/PART/NAME.png", maps.plain)(
            _photos(data)[0], out
        )
        maps.text(out / "classes.txt", _photos(data)[1])

    def in_lists(out: Path) -> None:
        maps.in_parts("images/NAME.jpg", "masks/NAME.png", maps.plain)(_photos(data)[0], out)
        maps.parts_in_lists(out, _photos(data)[0], "splits")

    def voc(out: Path) -> None:
        own = _photos(data)[0]
        maps.in_parts(
            "JPEGImages/NAME.jpg", "SegmentationClass/NAME.png", maps.plain, maps.as_palette
        )(own, out)
        maps.parts_in_lists(out, own, "ImageSets/Segmentation")

    def ade(out: Path) -> None:
        words = {"train": "training", "val": "validation"}
        own = [maps.Photo(p.name, words[p.part], p.image, p.map_HW) for p in _photos(data)[0]]
        maps.in_parts("images/PART/NAME.jpg", "annotations/PART/NAME.png", maps.with_background)(
            own, out
        )

    def camvid(out: Path) -> None:
        own, classes = _photos(data)
        maps.in_parts("images/PART/NAME.jpg", "masks/PART/NAME.png", maps.coloured)(own, out)
        rows = zip(maps.colours_of(len(classes)).tolist(), [*classes, "void"], strict=True)
        maps.text(out / "label_colors.txt", [f"{r} {g} {b} {name}" for (r, g, b), name in rows])

    usual = functools.partial(maps.in_parts, "images/PART/NAME.jpg")
    semantic = ("--to", "semantic", "--no-background")
    return (
        Layout("images and masks, 8 bits", photos(usual("masks/PART/NAME.png", maps.plain))),
        Layout("with classes.txt", named),
        Layout("16 bits", photos(usual("masks/PART/NAME.png", maps.sixteen_bits))),
        Layout("16 bits, numbers with gaps", photos(usual("labels/PART/NAME.png", maps.with_gaps))),
        Layout("TIFF", photos(usual("annotations/PART/NAME.tif", maps.plain))),
        Layout("BMP", photos(usual("gt/PART/NAME.bmp", maps.plain))),
        Layout(
            "maps beside images",
            photos(maps.in_parts("PART/NAME.jpg", "PART/NAME_mask.png", maps.plain)),
        ),
        Layout(
            "train/images, train/masks",
            photos(maps.in_parts("PART/images/NAME.jpg", "PART/masks/NAME.png", maps.plain)),
        ),
        Layout("lists in splits", in_lists),
        Layout("PASCAL VOC, palette", voc),
        Layout("ADE20K", ade, options=("unlabelled=[0]",)),
        Layout("CamVid, colours", camvid),
        Layout("COCO panoptic", things(objects.panoptic)),
        Layout("COCO panoptic, converted", things(objects.panoptic), convert=semantic),
        Layout("COCO masks, converted", things(objects.coco), convert=semantic),
        Layout("CVAT masks, converted", things(objects.cvat), convert=semantic),
        Layout("Label Studio brush, converted", things(objects.label_studio), convert=semantic),
        Layout("labelme masks, converted", things(objects.labelme), convert=semantic),
        Layout(
            "labelme polygons, converted", things(objects.labelme, polygons=True),
            convert=semantic, differ=functools.partial(_other_pixels, data),
        ),
    )  # fmt: skip


def _cities(data: Path) -> tuple[Layout, ...]:
    """A city's folder is part of a picture's name, and names decide which pictures are held out."""

    def photos(writer: Callable) -> Callable[[Path], None]:
        return lambda out: writer(_photos(data)[0], out)

    city = functools.partial(maps.in_parts, "leftImg8bit/PART/town/NAME_leftImg8bit.png")
    return (
        Layout(
            "images and masks, a folder for a city",
            photos(maps.in_parts("images/PART/town/NAME.jpg", "masks/PART/town/NAME.png",
                                 maps.plain)),
        ),
        Layout(
            "Cityscapes, labelTrainIds",
            photos(city("gtFine/PART/town/NAME_gtFine_labelTrainIds.png", maps.plain)),
        ),
        Layout(
            "Cityscapes, labelIds",
            photos(city("gtFine/PART/town/NAME_gtFine_labelIds.png", maps.cityscapes_ids)),
        ),
    )  # fmt: skip


def _with_background(data: Path) -> tuple[Layout, ...]:
    def reference(out: Path) -> None:
        own = _photos(data)[0]
        maps.in_parts("images/PART/NAME.jpg", "masks/PART/NAME.png", maps.with_background)(own, out)

    def things(writer: Callable) -> Callable[[Path], None]:
        own, classes = _photos(data)
        return lambda out: writer(objects.scenes_of_maps(own, classes), classes, out)

    return (
        Layout("images and masks, 0 the background", reference),
        Layout("COCO masks of objects", things(objects.coco)),
        *(
            Layout(f"{name}, converted", things(writer), convert=("--to", "semantic"))
            for name, writer in (
                ("CVAT masks", objects.cvat), ("Label Studio brush", objects.label_studio),
                ("labelme masks", objects.labelme),
            )
        ),
    )  # fmt: skip


def _other_pixels(data: Path, folder: Path) -> str:
    """Share of the pixels whose label is another one."""
    other, total = 0, 0
    for photo in _photos(data)[0]:
        found_HW = np.asarray(Image.open(folder / f"masks/{photo.part}/{photo.name}.png"))
        other += int((found_HW != photo.map_HW).sum())
        total += found_HW.size
    return f"{100 * other / total:.2f} % of the pixels differ: outlines have no holes"


# ---- depth ---------------------------------------------------------------------------------------


def _depths(data: Path) -> tuple[Layout, ...]:
    def rooms(writer: Callable) -> Callable[[Path], None]:
        return lambda out: writer(_rooms(data), out)

    def nyu(out: Path) -> None:
        own = _rooms(data)
        maps.in_parts("rgb/NAME.jpg", "sync_depth/NAME.png", maps.plain)(own, out)
        for part, name in (("train", "nyu_train.txt"), ("val", "nyu_test.txt")):
            names = [photo.name for photo in own if photo.part == part]
            lines = [f"rgb/{stem}.jpg sync_depth/{stem}.png 518.8" for stem in names]
            maps.text(out / name, lines)

    def halves(folder: Path) -> str:
        mm = np.arange(1, 10_000)
        worst = float(np.abs(np.rint(mm * 0.256) / 256 - mm / 1000).max())
        return f"1/256 m a step: up to {1000 * worst:.2f} mm away"

    usual = functools.partial(maps.in_parts, "images/PART/NAME.jpg")
    return (
        Layout(
            "images and depth, 16-bit PNG in mm", rooms(usual("depth/PART/NAME.png", maps.plain))
        ),
        Layout(
            "maps beside images",
            rooms(maps.in_parts("PART/NAME.color.jpg", "PART/NAME.depth.png", maps.plain)),
        ),
        Layout(
            "rgb and sync_depth",
            rooms(maps.in_parts("PART/rgb/NAME.jpg", "PART/sync_depth/NAME.png", maps.plain)),
        ),
        Layout("nyu_train.txt and nyu_test.txt", nyu),
        Layout(
            "65535 where nothing is known", rooms(usual("depth/PART/NAME.png", maps.with_last))
        ),
        Layout("16-bit TIFF in mm", rooms(usual("depth/PART/NAME.tif", maps.plain))),
        Layout(
            "16-bit PNG in 1/5000 m, TUM",
            rooms(usual("depth/PART/NAME.png", lambda mm_HW: (5 * mm_HW).astype(np.uint16))),
        ),
        Layout("EXR in metres", rooms(usual("depth/PART/NAME.exr", maps.metres, maps.as_exr))),
        Layout("npy in metres", rooms(usual("depth/PART/NAME.npy", maps.metres, maps.as_npy))),
        Layout("npz in metres", rooms(usual("depth/PART/NAME.npz", maps.metres, maps.as_npz))),
        Layout("PFM in metres", rooms(usual("depth/PART/NAME.pfm", maps.metres, maps.as_pfm))),
        Layout("floating-point TIFF in metres",
               rooms(usual("depth/PART/NAME.tif", maps.metres))),
        Layout(
            "npy of 16 bits in mm", rooms(usual("depth/PART/NAME.npy", maps.plain, maps.as_npy)),
            options=("depth_scale=1000",),
        ),
        Layout(
            "16-bit PNG in 1/256 m, KITTI",
            rooms(usual("depth/PART/NAME.png",
                        lambda mm_HW: np.rint(mm_HW * 0.256).astype(np.uint16))),
            options=("depth_scale=256",), differ=halves,
        ),
    )  # fmt: skip


# ---- boxes and masks of objects ------------------------------------------------------------------


def _boxes(data: Path) -> tuple[Layout, ...]:
    def cells(writer: Callable, **more: object) -> Callable[[Path], None]:
        return lambda out: writer(*_cells(data), out, **more)

    def rounded(folder: Path) -> str:
        worst = 0.0
        for scene in _cells(data)[0]:
            rows = [
                row.split()[1:]
                for row in (folder / f"labels/{scene.part}/{scene.name}.txt")
                .read_text()
                .splitlines()
            ]
            for row, thing in zip(rows, scene.things, strict=True):
                x, y, w, h = np.array(row, float) * np.tile(scene.size, 2)
                corners = [x - w / 2, y - h / 2, w, h]
                worst = max(worst, objects.furthest(corners, thing.box_xywh))
        return f"shares of six digits: up to {worst:.5f} px away"  # fmt: skip

    coco = functools.partial(cells, objects.coco)
    return (
        Layout("COCO, annotations and images", coco()),
        Layout("COCO 2017's own", coco(json_at="annotations/instances_PART2017.json",
                                       images_at="PART2017")),
        Layout("Roboflow's COCO", coco(json_at="PART/_annotations.coco.json", images_at="PART")),
        Layout("YOLO, data.yaml", cells(objects.yolo)),
        Layout("YOLO, lists", cells(objects.yolo, in_lists=True)),
        Layout("YOLO, six digits", cells(objects.yolo, digits=6), differ=rounded),
        Layout("YOLO, converted", cells(objects.yolo), convert=("--to", "coco")),
        Layout("PASCAL VOC", cells(objects.voc)),
        Layout("VOC's XML beside pictures", cells(objects.voc, beside=True)),
        *(
            Layout(f"{name}, converted", cells(writer), convert=("--to", "coco"))
            for name, writer in (
                ("PASCAL VOC", objects.voc), ("CVAT", objects.cvat),
                ("Label Studio", objects.label_studio), ("labelme", objects.labelme),
                ("VIA", objects.via),
            )
        ),
    )  # fmt: skip


def _masks(data: Path) -> tuple[Layout, ...]:
    def people(writer: Callable, **more: object) -> Callable[[Path], None]:
        return lambda out: writer(*_people(data), out, **more)

    def outlined(folder: Path) -> str:
        from pycocotools import mask as coding

        overlaps = []
        for scene in _people(data)[0]:
            width, height = scene.size
            for thing in scene.things:
                parts = objects.outlines_of(thing.mask_HW)
                if parts:
                    drawn = coding.merge(coding.frPyObjects(parts, height, width))
                    drawn_HW = coding.decode(drawn).astype(bool)
                    both = (drawn_HW & thing.mask_HW).sum()
                    overlaps.append(float(both / (drawn_HW | thing.mask_HW).sum()))
        return (f"outlines: IoU of the masks {np.mean(overlaps):.3f} in the mean, "
                f"{min(overlaps):.2f} at worst")  # fmt: skip

    coco = ("--to", "coco")
    return (
        Layout("COCO, run lengths", people(objects.coco)),
        Layout("COCO, uncompressed run lengths", people(objects.coco, kind="counts")),
        Layout("COCO panoptic, converted", people(objects.panoptic), convert=coco),
        Layout("CVAT masks, converted", people(objects.cvat), convert=coco),
        Layout("Label Studio brush, converted", people(objects.label_studio), convert=coco),
        Layout("labelme masks, converted", people(objects.labelme), convert=coco),
        Layout("COCO, polygons", people(objects.coco, kind="polygons"), differ=outlined),
        Layout(
            "labelme polygons, converted", people(objects.labelme, polygons=True), convert=coco,
            differ=outlined,
        ),
        Layout("YOLO, the longest outline", people(objects.yolo), differ=outlined),
    )  # fmt: skip


# ---- clips ---------------------------------------------------------------------------------------


def _clip_masks(data: Path) -> tuple[Layout, ...]:
    def own(writer: Callable) -> Callable[[Path], None]:
        return lambda out: writer(_clips(data), out)

    frames = "images/CLIP"
    return (
        Layout("DAVIS", own(clips.masked("JPEGImages/480p/CLIP", "Annotations/480p/CLIP"))),
        Layout("images and masks, black and white",
               own(clips.masked(frames, "masks/CLIP", clips.grey_masks))),
        Layout("DAVIS's colours", own(clips.masked(frames, "masks/CLIP", clips.colour_masks))),
        Layout("a folder for an object", own(clips.masked(frames, "gt/CLIP", clips.object_masks))),
        Layout("frames and masks in each clip", own(clips.masked("CLIP/frames", "CLIP/masks"))),
        Layout("PNG frames", own(clips.masked("frames/CLIP", "annotations/CLIP", suffix=".png"))),
        Layout("MP4 without loss", own(clips.masked("videos/CLIP.mp4", "masks/CLIP"))),
        Layout("MKV without loss, masks beside", own(clips.masked("CLIP.mkv", "CLIP_masks"))),
        Layout(
            "MP4 as usual",
            own(clips.masked("videos/CLIP.mp4", "masks/CLIP", kinds=clips.USUAL)),
            differ=functools.partial(_other_frames, data),
        ),
    )  # fmt: skip


def _clip_boxes(data: Path) -> tuple[Layout, ...]:
    def own(writer: Callable) -> Callable[[Path], None]:
        return lambda out: writer(_clips(data), out)

    return (
        Layout("MOT text, img1 and gt", own(clips.boxed("CLIP/img1", "CLIP/gt/gt.txt"))),
        Layout("MOT text in labels", own(clips.boxed("images/CLIP", "labels/CLIP.txt"))),
        Layout("MP4 without loss, text beside", own(clips.boxed("CLIP.mp4", "CLIP.txt"))),
        Layout("CocoVID", own(clips.coco_of_videos("instance_id"))),
        Layout("TAO", own(clips.coco_of_videos("track_id"))),
        Layout("YouTube-VIS", own(clips.youtube_vis)),
        Layout("CVAT for video", own(clips.cvat_of_videos)),
    )


def _other_frames(data: Path, folder: Path) -> str:
    """How far the colours of a usual video are from the frames."""
    import av

    far: list[float] = []
    for clip in _clips(data):
        with av.open(str(folder / f"videos/{clip.name}.mp4")) as video:
            decoded: Sequence = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
        for found, picture in zip(decoded, clip.pictures(), strict=True):
            far.append(float(np.abs(found.astype(int) - picture).mean()))
    return f"the same masks; colours are {np.mean(far):.1f} of 255 away in the mean"
