"""Pictures of every usual kind, sound ones and broken ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def pixels(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """(H, W, 3) RGB uint8 that is smooth enough for JPEG."""
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(
        height, width, 3
    )


def save_turned(path: Path, image: Image.Image) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    image.save(path, exif=exif)


def save_deep(path: Path, image: Image.Image) -> None:
    assert cv2.imwrite(str(path), np.asarray(image).astype(np.uint16) * 257)


def save_frames(path: Path, image: Image.Image) -> None:
    image.save(path, save_all=True, append_images=[image.rotate(180)])


# Ending, how it is written.
KINDS: dict[str, tuple[str, Callable[[Path, Image.Image], None]]] = {
    "plain": (".jpg", lambda path, image: image.save(path)),
    "grey": (".png", lambda path, image: image.convert("L").save(path)),
    "grey_alpha": (".png", lambda path, image: image.convert("LA").save(path)),
    "two": (".png", lambda path, image: image.convert("1").save(path)),
    "cmyk": (".jpg", lambda path, image: image.convert("CMYK").save(path)),
    "deep": (".png", save_deep),
    "deep_tiff": (".tiff", save_deep),
    "palette": (".png", lambda path, image: image.convert("P").save(path)),
    "alpha": (".png", lambda path, image: image.convert("RGBA").save(path)),
    "turned": (".jpg", save_turned),
    "webp": (".webp", lambda path, image: image.save(path)),
    "bmp": (".bmp", lambda path, image: image.save(path)),
    "tiff": (".tif", lambda path, image: image.save(path)),
    "gif": (".gif", save_frames),
    "ppm": (".ppm", lambda path, image: image.save(path)),
    "capitals": (".JPEG", lambda path, image: image.save(path, "JPEG")),
    "progressive": (".jpg", lambda path, image: image.save(path, progressive=True)),
}
ODD_SIZES = {"point": (1, 1), "thin": (2, 300), "tall": (400, 3), "row": (1, 37)}


def write_zoo(folder: Path, count: int, seed: int = 0, huge: int = 0) -> list[Path]:
    """So many sound pictures, kinds in turn, of many sizes, some in subfolders.

    Args:
        folder: Where they go.
        count: How many.
        seed: Of sizes and colours.
        huge: Side of one more, very large one; 0 for none.
    """
    rng = np.random.default_rng(seed)
    files = []
    for number in range(count):
        name, (suffix, save) = list(KINDS.items())[number % len(KINDS)]
        height, width = rng.integers(20, 160, 2).tolist()
        if number % 25 == 24:
            odd, (height, width) = list(ODD_SIZES.items())[number // 25 % len(ODD_SIZES)]
            name = f"{name}_{odd}"
        path = folder / ("deep/er" if number % 7 == 6 else "") / f"{number:04d}_{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = pixels(rng, height, width)
        image[0, 0] = 255  # a deep one that is dark would be refused
        save(path, Image.fromarray(image))
        files.append(path)
    if huge:
        files.append(folder / "huge.jpg")
        Image.fromarray(pixels(rng, huge, huge + 100)).save(files[-1])
    return files


def _bytes_of(path: Path, suffix: str) -> bytes:
    rng = np.random.default_rng(5)
    temporary = path.with_name(f"whole{suffix}")
    Image.fromarray(pixels(rng, 60, 80)).save(temporary)
    content = temporary.read_bytes()
    temporary.unlink()
    return content


def write_broken(folder: Path, count: int) -> list[Path]:
    """So many broken pictures, kinds in turn."""
    folder.mkdir(parents=True, exist_ok=True)

    def cut(suffix: str, share: float) -> tuple[str, Callable[[Path], bytes]]:
        return suffix, lambda p: _bytes_of(p, suffix)[: int(share * len(_bytes_of(p, suffix)))]

    def dark_deep(path: Path) -> bytes:
        return cv2.imencode(".png", np.full((9, 9), 4000, np.uint16))[1].tobytes()

    def floats(path: Path) -> bytes:
        return cv2.imencode(".tiff", np.full((9, 9), 700, np.float32))[1].tobytes()

    def lying(path: Path) -> bytes:
        return b"<html>404</html>"

    def absurd(path: Path) -> bytes:
        content = bytearray(_bytes_of(path, ".png"))
        content[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
        content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
        return bytes(content)

    kinds = [
        (".jpg", lambda path: b""), cut(".jpg", 0.5), cut(".png", 0.6), (".jpg", lying),
        (".png", dark_deep), cut(".webp", 0.4), cut(".bmp", 0.5), cut(".tif", 0.3),
        (".tiff", floats), (".png", absurd), cut(".gif", 0.3), (".png", lambda path: bytes(500)),
    ]  # fmt: skip
    files = []
    for number in range(count):
        suffix, content = kinds[number % len(kinds)]
        path = folder / f"broken_{number:02d}{suffix}"
        path.write_bytes(content(path))
        files.append(path)
    return files
