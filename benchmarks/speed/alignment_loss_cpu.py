"""The streamed pairwise similarity loss against the plain N x N one, on a CPU.

    python benchmarks/speed/alignment_loss_cpu.py --repeats 5

Loss and gradient of one image with student tokens of PE G (1536 channels) and the 1024 mask logits
of a point grid. Targets at 4096 tokens: at most an eighth of the memory and 1.1 times the time;
at 1024 tokens: not slower.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from measure import (
    FOLDER,
    command_line,
    hardware,
    interleaved_ms,
    peak_bytes_above_now,
    peak_mib_of_variants,
    versions,
    write_rows,
)
from torch import Tensor

from pe_dense.alignment.losses import (
    BLOCK_SIZE,
    pairwise_similarity_loss,
    plain_pairwise_loss,
)

VARIANTS = ("pe_dense", "plain")
STUDENT_CHANNELS, TEACHER_CHANNELS = 1536, 1024


def variants(num_tokens: int, block_size: int | None) -> dict[str, Callable[[], Tensor]]:
    """Each returns the gradient and frees it from the student."""
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(1, num_tokens, STUDENT_CHANNELS, generator=generator)
    student.requires_grad_()
    teacher = torch.randn(1, num_tokens, TEACHER_CHANNELS, generator=generator)
    # A few objects: cosines of the teacher from 0.2 to 1, so that targets are not all 0.
    objects = torch.randn(5, TEACHER_CHANNELS, generator=generator)
    teacher = teacher * 0.3 + objects[torch.arange(num_tokens) * 5 // num_tokens]

    def run(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        loss(student, teacher).backward()
        gradient, student.grad = student.grad, None
        return gradient

    def streamed(student: Tensor, teacher: Tensor) -> Tensor:
        return pairwise_similarity_loss(student, teacher, block_size=block_size)

    return {"pe_dense": lambda: run(streamed), "plain": lambda: run(plain_pairwise_loss)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=(1024, 4096))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--block-size", type=int, help="default: the loss's own")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for num_tokens in args.tokens:
        runs = variants(num_tokens, args.block_size)
        if args.memory_of:
            print(peak_bytes_above_now(runs[args.memory_of]))
            return
        ours, theirs = (run() for run in runs.values())
        assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
        medians = interleaved_ms(runs, args.repeats)
        own = ["--tokens", str(num_tokens), "--threads", str(args.threads)]
        if args.block_size:
            own += ["--block-size", str(args.block_size)]
        peaks = peak_mib_of_variants(own, VARIANTS)
        row = {
            "tokens": num_tokens,
            "block_size": args.block_size or BLOCK_SIZE["cpu"],
            "pe_dense_ms": round(medians["pe_dense"], 2),
            "plain_ms": round(medians["plain"], 2),
            "ratio": round(medians["pe_dense"] / medians["plain"], 3),
            "pe_dense_peak_mib": peaks["pe_dense"],
            "plain_peak_mib": peaks["plain"],
            "memory_ratio": round(peaks["pe_dense"] / peaks["plain"], 3),
            "repeats": args.repeats,
            "hardware": hardware(),
            "versions": versions(),
            "command": command_line(),
        }
        print(*(f"{key}={value}" for key, value in list(row.items())[:8]), flush=True)
        rows.append(row)
    write_rows(FOLDER / "alignment_loss_cpu.csv", rows, ("tokens", "block_size"))


if __name__ == "__main__":
    main()
