"""J and F of an object in a frame against dilation of the whole frame, on a CPU.

    python benchmarks/speed/boundary_measure_cpu.py --repeats 20

The plain one does what davisvideochallenge/davis2017-evaluation @ ac7c43f does: boundary maps of
the whole frame, both dilated by a disk (OpenCV), products and sums. Frames are 480 x 854, objects
ragged ellipses predicted a few pixels off; 'share' is how much of the frame the object covers, and
'mixed' takes all of them. Both give the same numbers (the script checks it). Target: at most 1/6
of the time. 'threads' is the number of frames pe_dense scores at a time; OpenCV's own threads are
off in both.
"""

from __future__ import annotations

import argparse
import math

import cv2
import numpy as np
from measure import FOLDER, command_line, hardware, interleaved_ms, versions, write_rows

from pe_dense.tracking.region_and_boundary import VideoScores, boundary_radius, video_scores

HEIGHT, WIDTH = 480, 854
SHARES = (0.005, 0.02, 0.1, 0.3)


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """Boundary map from three shifted copies of the frame."""
    right, below, diagonal = (np.zeros_like(mask) for _ in range(3))
    right[:, :-1] = mask[:, 1:]
    below[:-1] = mask[1:]
    diagonal[:-1, :-1] = mask[1:, 1:]
    edge = mask ^ right | mask ^ below | mask ^ diagonal
    edge[-1] = mask[-1] ^ right[-1]
    edge[:, -1] = mask[:, -1] ^ below[:, -1]
    edge[-1, -1] = False
    return edge


def plain_scores(annotation: np.ndarray, prediction: np.ndarray, disk: np.ndarray):
    """J and F of two masks that are not empty."""
    j = (annotation & prediction).sum() / (annotation | prediction).sum()
    first, second = plain_boundary(annotation), plain_boundary(prediction)
    near_first = cv2.dilate(first.astype(np.uint8), disk)
    near_second = cv2.dilate(second.astype(np.uint8), disk)
    precision = (second * near_first).sum() / second.sum()
    recall = (first * near_second).sum() / first.sum()
    return j, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def objects(share: float, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Label maps (T, H, W) of one object and of its prediction."""
    rng = np.random.default_rng(0)
    maps = np.zeros((2, num_frames, HEIGHT, WIDTH), np.uint8)
    for t in range(num_frames):
        size = math.sqrt(share * HEIGHT * WIDTH / math.pi)
        y, x = rng.uniform(0.3, 0.7, 2) * (HEIGHT, WIDTH)
        angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)
        waves = sum(
            rng.normal(0, 0.25 / n) * np.sin(n * angle + rng.uniform(0, 6)) for n in range(2, 20)
        )
        for i in range(2):
            wobble = rng.normal(0, 0.02 * i, 200)
            away = size * (1 + waves + wobble).clip(0.1)
            points = np.stack([x + away * np.cos(angle), y + away * np.sin(angle)], axis=1)
            points += rng.normal(0, 4 * i, 2)
            cv2.fillPoly(maps[i, t], [points.round().astype(np.int32)], 1)
    return maps[0], maps[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", nargs="+", type=int, default=(1, 2))
    parser.add_argument("--repeats", type=int, default=20)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    radius = boundary_radius((HEIGHT, WIDTH))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disk = (y * y + x * x <= radius * radius).astype(np.uint8)
    videos = {str(share): objects(share, args.frames) for share in SHARES}
    videos["mixed"] = tuple(np.concatenate(maps) for maps in zip(*videos.values(), strict=True))
    rows = []
    for share, (real, predicted) in videos.items():
        for threads in args.threads:

            def ours(pair=(real, predicted), threads=threads) -> VideoScores:
                return video_scores(*pair, skip_ends=False, threads=threads)

            def plain(pair=(real, predicted)) -> list[tuple[float, float]]:
                return [
                    plain_scores(first == 1, second == 1, disk)
                    for first, second in zip(*pair, strict=True)
                ]

            scores = ours()
            both = np.stack([scores.j_KT[0], scores.f_KT[0]], axis=1)
            assert np.abs(both - plain()).max() < 1e-12
            medians = interleaved_ms({"pe_dense": ours, "plain": plain}, args.repeats)
            medians = {name: value / len(real) for name, value in medians.items()}
            row = {
                "share": share,
                "threads": threads,
                "frames": len(real),
                "mean_f": round(float(scores.f_KT.mean()), 3),
                "pe_dense_ms": round(medians["pe_dense"], 3),
                "plain_ms": round(medians["plain"], 3),
                "ratio": round(medians["pe_dense"] / medians["plain"], 3),
                "repeats": args.repeats,
                "hardware": hardware(),
                "versions": versions("numpy", "opencv-python"),
                "command": command_line(),
            }
            print(*(f"{key}={value}" for key, value in list(row.items())[:7]), flush=True)
            rows.append(row)
    write_rows(FOLDER / "boundary_measure_cpu.csv", rows, ("share", "threads"))


if __name__ == "__main__":
    main()
