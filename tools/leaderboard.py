"""Builds, shows and checks the leaderboard from the records in benchmarks/records.

python tools/leaderboard.py build            write benchmarks/LEADERBOARD.md
python tools/leaderboard.py build --check    exit 1 if that file is not up to date
python tools/leaderboard.py show             print the tables here
python tools/leaderboard.py validate         check every record file
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pe_dense.command_line import Parser
from pe_dense.results.leaderboard import build_sections, render_markdown, render_terminal
from pe_dense.results.provenance import atomic_write_text
from pe_dense.results.store import DEFAULT_ROOT, find_problems, load_records

DEFAULT_PAGE = "benchmarks/LEADERBOARD.md"


def build_parser() -> Parser:
    """The command line."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    build = commands.add_parser("build", help="write the leaderboard page")
    show = commands.add_parser("show", help="print the tables in the terminal")
    validate = commands.add_parser("validate", help="check every record file")
    for command in (build, show, validate):
        command.add_argument("--records", help=f"root of the records (default {DEFAULT_ROOT})")
    build.add_argument("--out", default=DEFAULT_PAGE, help="page to write (default %(default)s)")
    build.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if the page is not up to date"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 fine, 1 page not up to date, 2 user error."""
    args = build_parser().parse_args(argv)
    try:
        # The default folder may not exist yet; a folder named by hand must.
        if args.records is not None and not Path(args.records).is_dir():
            raise ValueError(f"{args.records}: no such folder; give the root of the records")
        root = args.records or DEFAULT_ROOT
        if args.command == "validate":
            return run_validate(root)
        records = load_records(root)
        if args.command == "show":
            sys.stdout.write(render_terminal(records))
            return 0
        return run_build(render_markdown(records), Path(args.out), args.check, len(records))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
    return 2


def run_build(page: str, out: Path, check: bool, num_records: int) -> int:
    """Writes the page, or with `check` compares it with the file."""
    if not check:
        if out.is_dir():
            raise ValueError(f"{out}: is a folder; give --out the name of a file")
        atomic_write_text(out, page)
        print(f"wrote {out} from {_counted(num_records)}")
        return 0
    if out.is_file() and out.read_bytes() == page.encode():
        print(f"{out} is up to date")
        return 0
    state = "differs from what the records give" if out.is_file() else "does not exist"
    print(f"{out} {state}; run python tools/leaderboard.py build", file=sys.stderr)
    return 1


def run_validate(root: str) -> int:
    """Prints one line for every problem in the store."""
    problems = find_problems(root)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if problems:
        return 2
    records = load_records(root)
    build_sections(records)  # records of one protocol version must agree
    print(f"{_counted(len(records))} in {root}, all valid")
    return 0


def _counted(num_records: int) -> str:
    return f"{num_records} record" + ("" if num_records == 1 else "s")


if __name__ == "__main__":
    sys.exit(main())
