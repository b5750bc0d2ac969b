"""Runs a file of tools/export.py on pictures: NumPy, onnxruntime and Pillow, no torch.

python run_onnx.py model.onnx street.jpg more/*.png --out DIR

DIR gets what tools/predict.py writes: detections.json (COCO, masks as run lengths), labels/NAME.png
(indexed, in the numbers of the training's maps), depth/NAME.npy (metres) and depth/NAME.png (16
bits); of an encoder features/NAME.npz. All that is needed lies in the file: how a picture is
resized, padded and normalised, the classes and their numbers, what becomes of the output. Copy this
script wherever the file goes.

Shape legend: B images, K classes, h w grid of the output, H W pixels of the input, Q detections.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

ROWS_AT_ONCE = 2**22  # numbers of resized logits that exist at a time


class ExportedModel:
    """A file of tools/export.py.

    Attributes:
        facts: What the file says of itself.
    """

    def __init__(self, path, threads=0):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = onnxruntime.get_available_providers()
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # its classes have no common base
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} cannot be opened by onnxruntime: {reason}") from error
        metadata = self.session.get_modelmeta().custom_metadata_map
        if "pe_dense" not in metadata:
            raise ValueError(f"{path} was not written by tools/export.py: it has no 'pe_dense'")
        self.facts = json.loads(metadata["pe_dense"])
        if self.facts["format"] != 2:
            raise ValueError(
                f"{path} has format {self.facts['format']} and this script reads 2; export it again"
            )
        if self.facts["picture"]["not_done"]:
            names = ", ".join(self.facts["picture"]["not_done"])
            print(f"note: {path} expects pictures that {names} has prepared", file=sys.stderr)

    def __call__(self, picture):
        """Result of a picture, (H, W, 3) RGB uint8.

        Returns:
            By task: {"boxes" (Q, 4) in pixels, "scores", "labels", maybe "masks" (Q, H, W)},
            {"labels" (H, W)}, {"depth" (H, W) in metres}, or {"layer_<i>" (C, h, w)}.
        """
        resized = resize_picture(picture, self.facts["picture"]["resize"])
        task = self.facts["task"]
        if task == "detection":
            return self._detections(picture, resized)
        if task == "features":
            image, _ = self._padded(resized)
            return {k: v[0] for k, v in self._run(image=image).items()}
        if task == "segmentation":
            return {"labels": self._labels(resized, picture.shape[:2])}
        return {"depth": self._depth(resized, picture.shape[:2])}

    def _run(self, **arrays):
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, arrays), strict=True))

    def _padded(self, resized):
        """(1, 3, H, W) as the file takes it, and the rows and columns that are picture."""
        rule, takes = self.facts["picture"], self.facts["input"]
        rows, columns = resized.shape[:2]
        if takes["open_size"]:
            step = max(takes["multiple"], rule["divisor"])
            size = -(-rows // step) * step, -(-columns // step) * step
        else:
            size = takes["height"], takes["width"]
            if rows > size[0] or columns > size[1]:  # a picture of another shape: made smaller
                share = min(size[0] / rows, size[1] / columns)
                rows, columns = (max(1, int(side * share)) for side in (rows, columns))
                resized = resize_bilinear(resized, (rows, columns))
        padded = np.empty((*size, 3), np.float32)
        padded[:] = rule["mean"]  # zero after normalisation
        padded[:rows, :columns] = resized
        return np.ascontiguousarray(padded.transpose(2, 0, 1))[None], (rows, columns)

    def _labels(self, resized, original):
        if self.facts["inference"]["mode"] == "slide":
            parts = self._windows(resized, "logits")
            size = resized.shape[:2]
        else:
            image, size = self._padded(resized)
            parts = [(self._run(image=image)["logits"][0], (0, 0), image.shape[2:])]
        return labels_of(parts, size, original)

    def _windows(self, resized, name):
        """Outputs of sliding windows: (array, (top, left), (height, width)) each."""
        rule, mode = self.facts["picture"], self.facts["inference"]
        # Segmentors slide over the padded picture; depth estimators cut the padding first.
        divisor = 1 if name == "depth" else rule["divisor"]
        sides = [-(-side // divisor) * divisor for side in resized.shape[:2]]
        sides = [max(side, crop) for side, crop in zip(sides, mode["crop"], strict=True)]
        whole = np.empty((*sides, 3), np.float32)
        whole[:] = rule["mean"]
        whole[: resized.shape[0], : resized.shape[1]] = resized
        starts = []
        for size, crop, stride in zip(sides, mode["crop"], mode["stride"], strict=True):
            count = max(size - crop + stride - 1, 0) // stride + 1
            starts.append([max(min(i * stride + crop, size) - crop, 0) for i in range(count)])
        parts = []
        height, width = mode["crop"]
        for top in starts[0]:
            for left in starts[1]:
                window = whole[top : top + height, left : left + width].transpose(2, 0, 1)[None]
                found = self._run(image=np.ascontiguousarray(window))[name][0]
                parts.append((found, (top, left), (height, width)))
        return parts

    def _depth(self, resized, original):
        if self.facts["inference"]["mode"] == "slide":
            parts = self._windows(resized, "depth")
            sides = [max(place[i] + size[i] for _, place, size in parts) for i in (0, 1)]
            sums, counts = np.zeros(sides), np.zeros(sides)
            for found, (top, left), (height, width) in parts:
                place = slice(top, top + height), slice(left, left + width)
                sums[place] += resize_maps(found, (height, width))[0]
                counts[place] += 1
            depth = (sums / counts)[None, : resized.shape[0], : resized.shape[1]]
            return resize_maps(depth, original)[0]
        image, (rows, columns) = self._padded(resized)
        depth = self._run(image=image)["depth"][0]
        if not self.facts["stretched"]:
            depth = resize_maps(depth, image.shape[2:])[:, :rows, :columns]
        return resize_maps(depth, original)[0]

    def _detections(self, picture, resized):
        image, (rows, columns) = self._padded(resized)
        size = np.array([[rows, columns]], np.float32)
        found = {k: v[0] for k, v in self._run(image=image, picture_size=size).items()}
        keep = found["scores"] > 0  # places that hold no detection have none
        found = {k: v[keep] for k, v in found.items()}
        rule = self.facts["suppression"]
        if rule["where"] == "outside":
            keep = suppressed(found, rule["iou_threshold"])[: rule["max_per_img"]]
            found = {k: v[keep] for k, v in found.items()}
        height, width = picture.shape[:2]
        masks = found.pop("masks", None)
        found["boxes"] = found["boxes"] * np.array([width, height] * 2, np.float32)
        if masks is not None:
            found["masks"] = pasted(masks, found["boxes"], (height, width), rule["mask_threshold"])
        return found


def read_picture(path, is_turned):
    """(H, W, 3) RGB uint8; with `is_turned` as Exif says, else as it is stored."""
    with Image.open(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"{path} has 16 bits; convert it to 8 first")
        image = ImageOps.exif_transpose(image) if is_turned else image
        return np.array(image.convert("RGB"))


def resize_picture(picture, rules):
    """The picture after the steps of 'resize', one after another."""
    for rule in rules:
        height, width = picture.shape[:2]
        if "short" in rule:
            size = short_side_size(height, width, rule["short"], rule["longest"])
        elif rule["keep_ratio"]:
            size = size_within(height, width, rule["scale"], rule.get("rounding"))
        else:
            size = rule["scale"][1], rule["scale"][0]
        if size == (height, width):
            continue
        if rule["backend"] == "pillow":
            small = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
            picture = np.array(small)
        else:
            picture = resize_bilinear(picture, size)
    return picture


def size_within(height, width, scale, rounding=None):
    """Rows and columns of the largest picture of this shape in a scale (longest, shortest)."""
    long, short = max(scale), min(scale)
    if rounding == "one_division":
        if short * max(height, width) <= long * min(height, width):
            sides = short, int(short * max(height, width) / min(height, width) + 0.5)
        else:
            sides = int(long * min(height, width) / max(height, width) + 0.5), long
        sides = [max(side, 1) for side in sides]
        return (sides[1], sides[0]) if height > width else (sides[0], sides[1])
    share = min(long / max(height, width), short / min(height, width))
    return max(1, int(height * share + 0.5)), max(1, int(width * share + 0.5))


def short_side_size(height, width, short, longest):
    """DETR's rule: the shorter side, unless the longer one would pass a limit."""
    least, most = min(height, width), max(height, width)
    if longest is not None and most / least * short > longest:
        short = round(longest * least / most)
    if least == short:
        return height, width
    if width < height:
        return int(short * height / width), short
    return short, int(short * width / height)


def resize_bilinear(picture, size):
    """OpenCV's INTER_LINEAR of uint8 (H, W, 3), in its fixed-point arithmetic: the same numbers."""
    height, width = picture.shape[:2]
    if (height, width) == (2 * size[0], 2 * size[1]):  # OpenCV then takes the mean of four
        four = picture.reshape(size[0], 2, size[1], 2, 3).astype(np.int32).sum((1, 3))
        return ((four + 2) >> 2).astype(np.uint8)
    top, bottom, down = corners_of(size[0], height, ends_count=True)
    left, right, across = corners_of(size[1], width, ends_count=False)
    wide = picture.astype(np.int32)
    wide = wide[:, left] * across[0][:, None] + wide[:, right] * across[1][:, None]
    upper = (down[0][:, None, None] * (wide[top] >> 4)) >> 16
    lower = (down[1][:, None, None] * (wide[bottom] >> 4)) >> 16
    return np.clip((upper + lower + 2) >> 2, 0, 255).astype(np.uint8)


def corners_of(new, old, ends_count):
    """For every new pixel: the two old ones, and their weights in 1/2048.

    At an end both are the same pixel; OpenCV then rounds two shares of rows, and one of columns.
    """
    place = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    low = np.floor(place).astype(np.int64)
    share = (place - low).astype(np.float32)
    if not ends_count:
        share[(low < 0) | (low >= old - 1)] = 0.0
        low = np.clip(low, 0, old - 1)
    weights = [np.rint(part * np.float32(2048)).astype(np.int32) for part in (1 - share, share)]
    return np.clip(low, 0, old - 1), np.clip(low + 1, 0, old - 1), weights


def interpolation_matrix(old, new):
    """(new, old) weights of bilinear interpolation, align_corners False; rows sum to 1."""
    place = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, None)
    low = np.minimum(place.astype(np.int64), old - 1)
    share = np.minimum(place - low, 1.0)
    matrix = np.zeros((new, old), np.float32)
    matrix[np.arange(new), low] += 1 - share
    matrix[np.arange(new), np.minimum(low + 1, old - 1)] += share
    return matrix


def resize_maps(maps, size):
    """(K, h, w) -> (K, *size)."""
    if tuple(maps.shape[1:]) == tuple(size):
        return maps
    down, across = (interpolation_matrix(o, n) for o, n in zip(maps.shape[1:], size, strict=True))
    return down @ (maps.astype(np.float32) @ across.T)


def labels_of(parts, size, original):
    """(H, W) of the best class: logits to their windows, their mean, the picture, its own size.

    All of it is linear and acts on rows and columns apart; a few rows are made at a time.
    """
    counts = [np.zeros(size[0]), np.zeros(size[1])]
    for axis in (0, 1):
        for start, side in {(place[axis], window[axis]) for _, place, window in parts}:
            counts[axis][start : start + side] += 1
    matrices = []
    for logits, place, window in parts:
        pair = []
        for axis in (0, 1):
            inside = slice(place[axis], min(place[axis] + window[axis], size[axis]))
            up = interpolation_matrix(logits.shape[1 + axis], window[axis])
            up = up[: inside.stop - inside.start] / counts[axis][inside, None]
            pair.append(interpolation_matrix(size[axis], original[axis])[:, inside] @ up)
        matrices.append(pair)
    wide = [p[0].astype(np.float32) @ m[1].T for p, m in zip(parts, matrices, strict=True)]
    classes = len(parts[0][0])
    rows = max(1, ROWS_AT_ONCE // (classes * original[1]))
    labels = np.empty(original, np.int64)
    for top in range(0, original[0], rows):
        band = slice(top, top + rows)
        found = sum(m[0][band] @ part for m, part in zip(matrices, wide, strict=True))
        labels[band] = found.argmax(0)
    return labels


def suppressed(found, threshold):
    """Indices by falling score without those that overlap a better one of their class."""
    order = np.argsort(-found["scores"], kind="stable")
    boxes, labels = found["boxes"], found["labels"]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[rest, :2])
        high = np.minimum(boxes[best, 2:], boxes[rest, 2:])
        inter = np.clip(high - low, 0, None).prod(1)
        union = np.maximum(areas[best] + areas[rest] - inter, 1e-12)
        order = rest[(labels[rest] != labels[best]) | (inter / union <= threshold)]
    return np.array(kept, np.int64)


def pasted(masks, boxes, size, threshold):
    """(Q, m, m) probabilities in boxes -> (Q, H, W) bool."""
    found = np.zeros((len(masks), *size), bool)
    for mask, box, place in zip(masks, boxes, found, strict=True):
        axes = []
        for low, high, side, cells in ((box[1], box[3], size[0], mask.shape[0]),
                                       (box[0], box[2], size[1], mask.shape[1])):  # fmt: skip
            at = (np.arange(side) + 0.5 - low) / max(high - low, 1e-12) * cells - 0.5
            first = np.floor(at).astype(np.int64)
            weights = np.zeros((side, cells), np.float32)
            for step in (0, 1):  # outside of the mask is nothing
                cell, share = first + step, np.abs(1 - step - (at - first))
                inside = (cell >= 0) & (cell < cells)
                weights[np.flatnonzero(inside), cell[inside]] += share[inside]
            axes.append(weights)
        place[:] = axes[0] @ mask @ axes[1].T >= threshold
    return found


def run_lengths(mask):
    """(H, W) bool -> COCO's compressed run lengths, `{"size": [H, W], "counts": text}`.

    Runs go down the columns and begin with background; from the fourth on, each is written as its
    difference to the one two before; a number is groups of 5 bits, the lowest first, with a sixth
    bit where more follow, as characters from "0" (format of cocoapi's maskApi).
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    starts = [0, *([0] if flat.size and flat[0] else []), *ends.tolist()]
    runs = np.diff([*starts, flat.size]).tolist()
    text = []
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(48 + bits + (32 if more else 0)))
    return dict(size=list(mask.shape), counts="".join(text))


def coco_rows(result, category_ids):
    """Detections as COCO's annotations without ids of their own."""
    rows = []
    for place, label in enumerate(result["labels"].tolist()):
        left, top, right, bottom = result["boxes"][place].astype(np.float64).tolist()
        box = [left, top, right - left, bottom - top]
        score = float(result["scores"][place])
        row = dict(category_id=category_ids[label], bbox=box, score=score)
        if "masks" in result:
            row["segmentation"] = run_lengths(result["masks"][place])
        rows.append(dict(row, area=box[2] * box[3], iscrowd=0))
    return rows


def save(result, facts, out, stem):
    """Write the files of a picture as tools/predict.py does; none for detections."""
    if facts["task"] == "segmentation":
        ids, palette = facts["ids"], np.zeros((256, 3), np.uint8)
        labels = np.array(ids, np.uint8 if max(ids) < 256 else np.uint16)[result["labels"]]
        picture = Image.fromarray(labels)
        if max(ids) < 256:
            palette[ids] = facts["palette"]
            picture = Image.fromarray(labels, "P")
            picture.putpalette(palette.tobytes())
        picture.save(made(out / "labels" / f"{stem}.png"))
    elif facts["task"] == "depth":
        np.save(made(out / "depth" / f"{stem}.npy"), result["depth"].astype(np.float32))
        steps = np.clip(np.rint(result["depth"] * facts["steps_per_metre"]), 1, 65535)
        Image.fromarray(steps.astype(np.uint16)).save(out / "depth" / f"{stem}.png")
    elif facts["task"] == "features":
        np.savez(made(out / "features" / f"{stem}.npz"), **result)


def made(path):
    """The path, whose folder exists now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def stems_of(pictures):
    """What the files of each picture are called: as it, with its ending where two share a name."""
    stems = [path.stem for path in pictures]
    stems = [p.name if stems.count(s) > 1 else s for p, s in zip(pictures, stems, strict=True)]
    for stem, path in zip(stems, pictures, strict=True):
        if stems.count(stem) > 1:
            raise ValueError(f"two pictures are called {path.name}; run them into two folders")
    return stems


def ids_of(pictures, classes, known, file):
    """Ids of pictures and classes: from 1, or those of a COCO file where one is given."""
    if file is None:
        return list(range(1, len(pictures) + 1)), known
    by_end = {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        by_class = {one["name"]: one["id"] for one in data["categories"]}
        for image in data["images"]:
            by_end.setdefault(Path(image["file_name"]).name, []).append(image["id"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"--ids {file} is no COCO file ({error!r})") from error
    for path in pictures:
        if len(by_end.get(path.name, [])) != 1:
            raise ValueError(f"--ids {file} has not one image {path.name}; leave --ids out")
    for name in classes:
        if name not in by_class:
            raise ValueError(f"--ids {file} has no category {name!r}; leave --ids out")
    return [by_end[path.name][0] for path in pictures], [by_class[name] for name in classes]


def run_all(model, pictures, out, ids_file=None):
    """Run a file on pictures and write what is found; returns why each of some failed."""
    facts, stems = model.facts, stems_of(pictures)
    if out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} holds files; name a new or an empty folder")
    is_detector = facts["task"] == "detection"
    if ids_file is not None and not is_detector:
        raise ValueError(f"--ids is for detections, and this file is of {facts['task']}")
    if is_detector:
        ids, categories = ids_of(pictures, facts["classes"], facts["ids"], ids_file)
    out.mkdir(parents=True, exist_ok=True)
    failed, images, rows = {}, [], []
    for place, (path, stem) in enumerate(zip(pictures, stems, strict=True)):
        try:
            picture = read_picture(path, is_turned=is_detector)
            result = model(picture)
        except Exception as error:  # of PIL or onnxruntime: one picture stops no other
            failed[path] = str(error) or type(error).__name__
            continue
        save(result, facts, out, stem)
        if is_detector:
            height, width = picture.shape[:2]
            image = dict(id=ids[place], file_name=path.name, width=width, height=height)
            images.append(image)
            for row in coco_rows(result, categories):
                rows.append(dict(row, id=len(rows) + 1, image_id=image["id"]))
    if is_detector:
        named = zip(categories, facts["classes"], strict=True)
        known = [dict(id=category, name=name) for category, name in named]
        content = dict(images=images, categories=known, annotations=rows)
        (out / "detections.json").write_text(json.dumps(content), encoding="utf-8")
    return failed


def main():
    """Run a file on pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="a new or an empty folder")
    parser.add_argument("--ids", type=Path, help="COCO file whose ids detections shall have")
    args = parser.parse_args()
    try:
        failed = run_all(ExportedModel(args.model), args.pictures, args.out, args.ids)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for path, reason in failed.items():
        print(f"failed: {path}: {reason}", file=sys.stderr)
    print(f"{len(args.pictures) - len(failed)} of {len(args.pictures)} pictures: {args.out}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
