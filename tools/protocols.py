"""Compares the protocols in configs/ with their stored hashes, stores new ones, or compares two.

python tools/protocols.py check       exit 2 if a published protocol changed
python tools/protocols.py accept      store new protocols in benchmarks/protocols.json
python tools/protocols.py diff A B    the steps in which two differ, values of both

A and B are ids, 'nyu-linear-dinov3' or 'nyu-linear-dinov3-v1', or config files.
"""

from __future__ import annotations

import argparse
import sys

from pe_dense.run import command_line


def main(argv: list[str] | None = None) -> int:
    """Check, accept or diff."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    for name, text in (
        ("check", "exit 2 if a published protocol changed"),
        ("accept", "store new protocols"),
    ):
        commands.add_parser(name, help=text, description=text)
    text = "the steps in which two protocols differ"
    compare = commands.add_parser("diff", help=text, description=text)
    compare.add_argument("first", metavar="A", help="id, with or without version, or config file")
    compare.add_argument("second", metavar="B", help="the same")
    args = parser.parse_args(argv)
    if args.action == "diff":
        return run_diff(args.first, args.second)
    from pe_dense.run import protocol as protocol_hashes  # heavy: OpenMMLab

    if args.action == "accept":
        for key in protocol_hashes.accept():
            print(f"stored {key}")
        return 0
    current = protocol_hashes.current_protocols()
    problems = protocol_hashes.find_changes(current, protocol_hashes.stored_protocols())
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    if not problems:
        print(f"{len(current)} protocols, all as stored")
    return command_line.USER_ERROR if problems else 0


def run_diff(first: str, second: str) -> int:
    """Prints what differs; the status is 0 whether anything does or not."""
    from pe_dense.run.protocol_difference import differences, find_protocol, lines_of

    (name_a, a), (name_b, b) = find_protocol(first), find_protocol(second)
    for name, template in ((name_a, a), (name_b, b)):
        print(f"{template.protocol.id}-v{template.protocol.version}  {name}")
    found = differences(a, b)
    for line in lines_of(found):
        print(line)
    if not found:
        print("no setting differs")
    return 0


if __name__ == "__main__":
    command_line.run(main)
