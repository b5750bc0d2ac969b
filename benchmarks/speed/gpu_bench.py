"""What a section of `gpu.py` measures with: time, peak memory, floors and rows.

A section is a module `gpu_sections/NAME.py` with a generator

    def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row | list[Row]]]]

that yields the name of a part and a function that measures it. The function does all that the part
needs (building models included), so that a part which fails is one FAILED row and the others go on.
Sizes come from `bench.tiny` (true on a CPU), the device from `bench.device`.

    def parts(bench):
        yield "copy, 1 GiB", lambda: copy_row(bench)

    def copy_row(bench):
        x = torch.randn(64 if bench.tiny else 2**28, device=bench.device)
        ours = bench.measure(lambda: x.clone())
        return bench.row(ours, bytes_moved=2 * x.nbytes)

Time on CUDA is the median between events after warm-up; several variants take turns where they are
given together (`measure_turns`). Peak memory is what torch's allocator held at most during the runs
of that variant, what lay there before included; on a CPU it is not measured. The floor is the
larger of operations / ceiling and bytes / ceiling, ceilings being what this device reached at start
in a bf16 matrix product and in a copy (reads and writes counted).
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """Median milliseconds of a function, and the most memory held meanwhile (None on a CPU)."""

    ms: float
    gib: float | None


@dataclass
class Row:
    """One line of the table; the frame adds section, part, hardware, versions and command."""

    ours: Measured | None = None
    plain_name: str = ""
    plain: Measured | None = None
    floor_ms: float | None = None
    floor_by: str = ""
    share_of_peak: float | None = None
    equal: str = ""
    target: str = ""
    note: str = ""
    part: str = ""  # only where a part gives several rows
    status: str = "ok"


@dataclass
class Ceilings:
    """What the device reached: operations per second (bf16 products), bytes per second (copies)."""

    operations: float
    bytes: float


@dataclass
class Bench:
    """Device, size and ceilings of one run of `gpu.py`; what sections measure with."""

    device: torch.device
    tiny: bool
    ceilings: Ceilings = field(default_factory=lambda: Ceilings(math.inf, math.inf))

    @classmethod
    def start(cls, device: str, tiny: bool) -> Bench:
        """Measures the ceilings of the device."""
        bench = cls(torch.device(device), tiny)
        side, size = (256, 2**20) if tiny else (8192, 2**30)
        a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
        product_ms = bench.measure(lambda: a @ b, repeats=10).ms
        source = torch.randn(size, device=device, dtype=torch.bfloat16)
        target = torch.empty_like(source)
        copy_ms = bench.measure(lambda: target.copy_(source), repeats=10).ms
        bench.ceilings = Ceilings(2e3 * side**3 / product_ms, 2e3 * source.nbytes / copy_ms)
        return bench

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Gives back memory that nothing refers to; between parts, and by parts that need it."""
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()

    def measure(
        self, function: Callable[[], object], repeats: int = 10, warmup: int = 3
    ) -> Measured:
        """Median time and peak memory of one function."""
        return self.measure_turns({"": function}, repeats, warmup)[""]

    def measure_turns(
        self, functions: Mapping[str, Callable[[], object]], repeats: int = 10, warmup: int = 3
    ) -> dict[str, Measured]:
        """Median time of functions that take turns, and the peak memory of each.

        Args:
            functions: What to run, by name. Results are dropped at once.
            repeats: Timed runs of each; 2 at tiny sizes.
            warmup: Runs before the timed ones; memory is read during the last. 1 at tiny sizes.
        """
        if self.tiny:
            repeats, warmup = min(repeats, 2), min(warmup, 1)
        peaks: dict[str, float | None] = dict.fromkeys(functions)
        for name, function in functions.items():
            for _ in range(warmup):
                if self.cuda:
                    torch.cuda.synchronize(self.device)
                    torch.cuda.reset_peak_memory_stats(self.device)
                function()
            if self.cuda:
                torch.cuda.synchronize(self.device)
                peaks[name] = torch.cuda.max_memory_allocated(self.device) / GIB
        times: dict[str, list[float]] = {name: [] for name in functions}
        names = list(functions)
        for i in range(repeats):
            turn = i % len(names)
            for name in names[turn:] + names[:turn]:
                times[name].append(self._once_ms(functions[name]))
        return {name: Measured(statistics.median(times[name]), peaks[name]) for name in names}

    def _once_ms(self, function: Callable[[], object]) -> float:
        if not self.cuda:
            begin = time.perf_counter()
            function()
            return 1e3 * (time.perf_counter() - begin)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    def row(
        self,
        ours: Measured,
        plain: Measured | None = None,
        plain_name: str = "",
        operations: float = 0.0,
        bytes_moved: float = 0.0,
        equal: str = "",
        target: str = "",
        note: str = "",
        part: str = "",
    ) -> Row:
        """A row with its floor; `equal` from `difference`, `target` in words that name a bound.

        Args:
            ours: Time and memory of this project's fast path.
            plain: The same of what it is compared with.
            plain_name: What that is, e.g. "N x N matrices" or "timm 1.0.31".
            operations: Multiplications and additions that the result needs at least.
            bytes_moved: Bytes that must be read and written at least.
            equal: How far the fast path is from the slow one.
            target: What was to be reached, e.g. "at most 0.5 x plain".
            note: Anything else, e.g. images per second.
            part: Name of the row where one part gives several.
        """
        by_operations = 1e3 * operations / self.ceilings.operations
        by_bytes = 1e3 * bytes_moved / self.ceilings.bytes
        floor = max(by_operations, by_bytes)
        return Row(
            ours=ours,
            plain=plain,
            plain_name=plain_name,
            floor_ms=floor or None,
            floor_by=("operations" if by_operations >= by_bytes else "bytes") if floor else "",
            share_of_peak=by_operations / ours.ms if operations else None,
            equal=equal,
            target=target,
            note=note,
            part=part,
        )


def difference(fast: Tensor, slow: Tensor) -> str:
    """How far two results are apart: 'identical', or the largest gap in the range of the slow one.

    Raises:
        ValueError: If a value is not finite in one of them only, or the shapes differ.
    """
    if fast.shape != slow.shape:
        raise ValueError(f"fast and slow differ in shape: {tuple(fast.shape)}, {tuple(slow.shape)}")
    if torch.equal(fast, slow):
        return "identical"
    fast, slow = fast.detach().double(), slow.detach().double()
    if not torch.equal(torch.isfinite(fast), torch.isfinite(slow)):
        raise ValueError("a value is finite in only one of fast and slow")
    finite = torch.isfinite(slow)
    fast, slow = fast[finite], slow[finite]
    span = float(slow.max() - slow.min()) if slow.numel() > 1 else float(slow.abs().max())
    return f"{float((fast - slow).abs().max()) / (span or 1.0):.1e} of the range"
