"""Compares the protocols in configs/ with their stored hashes, or stores new ones.

python tools/protocols.py check       exit 2 if a published protocol changed
python tools/protocols.py accept      store new protocols in benchmarks/protocols.json
"""

from __future__ import annotations

import argparse
import sys

from pe_dense.run import command_line


def main() -> int:
    """Check or accept."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("check", "accept"))
    args = parser.parse_args()
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


if __name__ == "__main__":
    command_line.run(main)
