"""Builds the leaderboard from records, compares records, exports and checks them.

python tools/leaderboard.py build              write LEADERBOARD.md and leaderboard.html
python tools/leaderboard.py build --check      exit 1 if those are not up to date
python tools/leaderboard.py show               print the tables here
python tools/leaderboard.py compare A B        paired difference of two encoders or records
python tools/leaderboard.py export csv         write all records to a CSV file; latex, metafile
python tools/leaderboard.py validate           check every record and its evidence
python tools/leaderboard.py intervals          make all intervals again from the evidence
python tools/leaderboard.py clean              remove what killed writers left in the store
python tools/leaderboard.py add-reported F     add numbers of a paper, with their source

The pages lie beside the records: those of benchmarks/records in benchmarks/.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pe_dense.results import refusals
from pe_dense.results.checked_store import CheckedStore
from pe_dense.results.provenance import SHIPPED
from pe_dense.results.store import DEFAULT_ROOT, OWN_ROOT
from pe_dense.run import command_line

# Format -> what `export` writes where no --out is given.
EXPORTS = {"csv": "leaderboard.csv", "latex": "leaderboard.tex", "metafile": "leaderboard_metafile"}


def default_root() -> str:
    """The records that a checkout publishes; of an installed wheel, those that runs write."""
    return OWN_ROOT if SHIPPED.is_dir() and not Path(DEFAULT_ROOT).is_dir() else DEFAULT_ROOT


def build_parser() -> command_line.Parser:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--records", help=f"root of the records (default {default_root()})")
        return added

    build = command("build", "write the leaderboard's pages")
    build.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if a page is not up to date"
    )
    build.add_argument(
        "--allow-dirty", action="store_true", help="publish records of uncommitted code as well"
    )
    command("show", "print the tables in the terminal")
    compare = command("compare", "paired difference of two records of one protocol")
    compare.add_argument(
        "first", metavar="A", help="ENCODER, ENCODER/WEIGHTS, or a record's file below the root"
    )
    compare.add_argument("second", metavar="B", help="the same; shown is A minus B")
    compare.add_argument(
        "--protocol", metavar="ID", help="where both encoders have records of several"
    )
    compare.add_argument("--metrics", nargs="+", default=[], help="default: the main metric")
    compare.add_argument(
        "--all-seeds", action="store_true", help="means over all seeds of both, not two records"
    )
    export = command("export", "the records in another format")
    export.add_argument("format", choices=("csv", "latex", "metafile"))
    export.add_argument(
        "--out",
        help="file (metafile: folder) to write, '-' prints; default: "
        + ", ".join(EXPORTS.values()),
    )
    command("validate", "check every record and its evidence")
    command("clean", "remove files of the store that belong to no record")
    command("intervals", "make the intervals of all records again from their evidence")
    add = command("add-reported", "add numbers of a paper to benchmarks/reported")
    add.add_argument("file", help="JSON file; its layout is told in pe_dense/results/reported.py")
    add.add_argument("--supersede", action="store_true", help="replace a file of the same name")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit status.

    0 fine; 1 a page is not up to date, or records were refused and the others shown; 2 user error,
    or something is wrong in a store that is validated.
    """
    args = build_parser().parse_args(argv)
    # The default folder may not exist yet; a folder named by hand must.
    if args.records is not None and not Path(args.records).is_dir():
        raise ValueError(f"{args.records}: no such folder; give the root of the records")
    root = Path(args.records or default_root())
    return {
        "build": run_build,
        "show": run_show,
        "compare": run_compare,
        "export": run_export,
        "validate": run_validate,
        "intervals": run_intervals,
        "clean": run_clean,
        "add-reported": run_add_reported,
    }[args.command](args, root)


def run_build(args: argparse.Namespace, root: Path) -> int:
    """Writes the pages, or with `--check` compares them with the files."""
    from pe_dense.encoders.zoo import licences_in_words
    from pe_dense.results import pages

    if args.check:
        old = pages.outdated(root, licences_in_words())
        for path in old:
            print(
                f"{path} is not what the records give; run python tools/leaderboard.py build",
                file=sys.stderr,
            )
        if not old:
            print("all pages are up to date")
        return 1 if old else 0
    store = pages.open_store(root, args.allow_dirty)
    for path in pages.build(root, store=store, licences=licences_in_words()):
        print(f"wrote {path}")
    return tell_refused(store)


def tell_refused(store: CheckedStore) -> int:
    """Names refused records on stderr; the exit status: 1 if there are any, else 0."""
    for problem in store.problems:
        print(f"error: {problem}", file=sys.stderr)
    if store.refused:
        text = refusals.heading(len(store.refused))
        print(f"{text}; the others are ({len(store.records)})", file=sys.stderr)
    return 1 if store.refused else 0


def run_show(args: argparse.Namespace, root: Path) -> int:
    """Prints the tables."""
    from pe_dense.results import pages
    from pe_dense.results.findings import find
    from pe_dense.results.leaderboard import render_terminal

    store = pages.open_store(root, allow_dirty=True)
    records = pages.load_all(root, store=store)
    text = render_terminal(records, find(records, root))
    sys.stdout.write(command_line.as_typed(text))
    return tell_refused(store)


def run_compare(args: argparse.Namespace, root: Path) -> int:
    """Prints the paired difference of two records."""
    from pe_dense.results.comparison import compare_encoders, compare_records
    from pe_dense.results.leaderboard import format_difference
    from pe_dense.results.record_choice import names_file, two_records
    from pe_dense.results.store import load_records, record_path

    first, second = two_records(args.first, args.second, root, args.protocol)
    if not names_file(args.first, root):
        print(f"{record_path(first)} minus {record_path(second)}")
    if args.all_seeds:
        found = compare_encoders(first, second, load_records(root), root, args.metrics)
    else:
        found = compare_records(first, second, root, args.metrics)
    for compared in found:
        print(format_difference(compared))
    return 0


def run_export(args: argparse.Namespace, root: Path) -> int:
    """Writes another format to a file, which it names; '--out -' prints."""
    from pe_dense.files import atomic_write_text
    from pe_dense.results import exports, pages
    from pe_dense.results.findings import find

    store = pages.open_store(root)
    records = pages.load_all(root, store=store)
    if args.format == "metafile":
        files = exports.render_metafile(records)
    elif args.format == "csv":
        files = {"": exports.render_csv(records)}
    else:
        files = {"": exports.render_latex(records, find(records, root))}
    for name, text in files.items():
        if args.out == "-":
            sys.stdout.write(f"# {name}\n{text}" if name else text)
        else:
            out = Path(args.out or EXPORTS[args.format])
            path = out / name if name else out
            atomic_write_text(path, text)
            print(f"wrote {path}")
    return tell_refused(store)


def run_validate(args: argparse.Namespace, root: Path) -> int:
    """Prints one line for every problem in the store, and what no evidence gives."""
    from pe_dense.results import pages
    from pe_dense.results.store import leftovers

    store = pages.open_store(root)
    problems = [*store.problems, *(f"{file}: {why}" for file, why in leftovers(root).items())]
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    for name, numbers in store.not_recomputed.items():
        print(f"{name}: {len(numbers)} not recomputed ({kinds_of(numbers)})")
    if problems:
        return command_line.USER_ERROR
    count = len(store.records)
    print(
        f"{count} record{'' if count == 1 else 's'} in {root}, all valid; "
        f"{sum(map(len, store.not_recomputed.values()))} numbers not recomputed"
    )
    return 0


def kinds_of(numbers: Sequence[str]) -> str:
    """'ci95 3, by_layer 77': how many there are below each field."""
    counts = Counter(name.partition(".")[0] for name in numbers)
    return ", ".join(f"{field} {count}" for field, count in counts.items())


def run_clean(args: argparse.Namespace, root: Path) -> int:
    """Removes evidence of no record and half files; waits for writers that are at work."""
    from pe_dense.results.store import remove_leftovers

    removed = remove_leftovers(root)
    for path in removed:
        print(f"removed {path}")
    if not removed:
        print(f"nothing to remove in {root}")
    return 0


def run_intervals(args: argparse.Namespace, root: Path) -> int:
    """Rewrites the records whose intervals are not what their evidence gives now."""
    from pe_dense.results.record_intervals import rewrite_intervals

    rewritten = rewrite_intervals(root)
    for path in rewritten:
        print(f"rewrote {path}")
    print(f"{len(rewritten)} records rewritten; scores are untouched")
    return 0


def run_add_reported(args: argparse.Namespace, root: Path) -> int:
    """Checks a file of reported numbers and puts it beside the others."""
    from pe_dense.results import pages
    from pe_dense.results.reported import add_reported

    path = add_reported(args.file, pages.REPORTED, supersede=args.supersede)
    print(command_line.as_typed(f"wrote {path}; now run python tools/leaderboard.py build"))
    return 0


if __name__ == "__main__":
    command_line.run(main)
