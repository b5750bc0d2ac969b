"""Runs a suite of protocols for some encoders and builds the leaderboard from the records.

python tools/benchmark.py --suite mini --encoders pe_spatial_t16_512 pe_core_t16_384
python tools/benchmark.py --suite finetune --encoders pe_spatial_b16_512 --seeds 3 --dry-run

What is recorded already is skipped, what was interrupted goes on, what failed is tried again.
One run at a time on a CPU, one on each visible GPU. The exit code is 0 if every run has
a record that passes all checks, 1 if one failed, is refused or runs elsewhere.
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path

from pe_dense.results.store import DEFAULT_ROOT, OWN_ROOT
from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--suite", required=True, help="name in configs/suites, or a .py file; Python that is run")
    add(
        "--encoders",
        required=True,
        nargs="+",
        metavar="NAME[=WEIGHTS]",
        help="zoo names or timm:<model>; WEIGHTS is a path, hf://..., released or random",
    )
    add("--tasks", nargs="+", default=[], help="only these tasks of the suite")
    add("--seeds", type=int, help="number of seeds, instead of the suite's")
    add(
        "--data",
        nargs="+",
        default=[],
        metavar="DATASET=DIR",
        help="where data sets lie, for example bccd=/data/bccd",
    )
    add(
        "--records",
        default=OWN_ROOT,
        help=f"root of records (%(default)s); {DEFAULT_ROOT} publishes the results",
    )
    add("--work-dir", default="work_dirs", help="folder of all runs (%(default)s)")
    add("--parallel", type=int, help="runs at a time; default: one per GPU, or one")
    add("--amp", action="store_true", help="encoders in bfloat16; another protocol in the records")
    command_line.add_speed_options(parser)
    command_line.add_accept_option(parser)
    add("--dry-run", action="store_true", help="print the plan and its estimated cost")
    add("--slurm", metavar="FILE", help="write an array script for sbatch instead of running")
    return parser.parse_args()


def main() -> int:
    """Plan, run, build the leaderboard; 1 if a run has no valid record in the end."""
    args = parse_args()
    for name in ("seeds", "parallel"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} {value}: must be 1 or more")
    from rich.console import Console
    from rich.live import Live

    from pe_dense.encoders.zoo import licences_in_words
    from pe_dense.files import atomic_write_text
    from pe_dense.results import pages, provenance
    from pe_dense.results.store import load_readable, record_path
    from pe_dense.suites import display, jobs, layer_curves, plan, slurm

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 160  # a log has no width, and protocols are told apart by their whole ids
    records = Path(args.records)
    suite = plan.load_suite(args.suite)
    todo = plan.make_jobs(
        suite,
        args.encoders,
        args.tasks,
        args.seeds,
        command_line.parse_options(args.data).texts,
        args.amp,
        Path(args.work_dir),
        command_line.speed_options(args),
        args.accept,
    )
    recorded, unreadable = load_readable(records)
    for problem in unreadable:
        print(f"left out: {problem}", file=sys.stderr)
    planned = plan.make_plan(todo, recorded)
    gpus = jobs.visible_gpus()
    slots = args.parallel or max(1, len(gpus))
    console.print(display.plan_table(planned, slots), soft_wrap=True)
    if args.dry_run:
        return 0
    if args.slurm:
        script = slurm.array_script(planned, records)
        atomic_write_text(args.slurm, script)
        print(f"wrote {args.slurm}; submit it with: sbatch {args.slurm}")
        return 0
    if pages.is_published(records) and provenance.git_state(Path.cwd())[1]:
        raise ValueError(
            f"{records} is published, and uncommitted changes are not; commit them first, or give "
            "--records a folder of your own"
        )
    faults = plan.find_faults([p.job for p in planned if p.record is None])
    faults |= plan.unreadable_records(planned, records)
    plan.refuse_other_data(planned)
    try:
        if console.is_terminal:
            with Live(console=console, auto_refresh=False) as live:

                def show(state: jobs.Board) -> None:
                    live.update(display.board_table(state), refresh=True)

                board = jobs.run_jobs(planned, records, gpus, args.parallel, show, faults=faults)
        else:
            reporter = display.LineReporter(functools.partial(print, flush=True))
            board = jobs.run_jobs(planned, records, gpus, args.parallel, reporter, faults=faults)
            console.print(display.board_table(board), soft_wrap=True)
    except SystemExit:  # a signal; for Ctrl-C, `command_line.run` says the same
        print(command_line.stopped(sys.argv, goes_on=True), file=sys.stderr)
        raise
    missing = [progress for progress in board.jobs if progress.state not in jobs.RECORDED_STATES]
    for progress in missing:
        name, log = progress.planned.job.name, progress.planned.job.work_dir / "benchmark.log"
        if progress.state == jobs.ELSEWHERE:
            print(f"not done: {name}: another process holds {log.parent}; run this again later")
        else:
            print(f"failed: {name}: {progress.error or progress.state} (log: {log})")
    store = pages.open_store(records)
    written = list(pages.build(records, store=store, licences=licences_in_words()))
    for problem in store.problems:
        print(f"refused: {problem}", file=sys.stderr)
    refused = plan.refused_jobs(todo, load_readable(records)[0], store.records)
    for job, record in refused:
        print(f"not shown: {job.name}: a check refuses {records / record_path(record)}")
    if suite.layer_curves:
        names = {job.encoder for job in todo}
        protocols = {job.protocol.split(".mod-")[0] for job in todo}
        curves = layer_curves.layer_curves(
            record
            for record in store.records
            if record.encoder.name in names and record.protocol.id.split(".mod-")[0] in protocols
        )
        for curve in curves:
            if not curve.is_converged:
                whose = f"{curve.encoder} under {curve.protocol}"
                print(f"not drawn: {whose}: {curve.unfinished_in_words}")
        curves = [curve for curve in curves if curve.is_converged]
        if curves:
            written += layer_curves.write_layer_curves(
                curves, Path(args.work_dir) / suite.name / "layers"
            )
            print(layer_curves.markdown_table(curves))
    for path in written:
        print(f"wrote {path}")
    return 1 if missing or refused else 0


if __name__ == "__main__":
    command_line.run(main, goes_on=True)
