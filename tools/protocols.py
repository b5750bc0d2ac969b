"""Compares the protocols in configs/ with their stored hashes, stores new ones, or compares two.

python tools/protocols.py check       exit 2 if a published protocol changed
python tools/protocols.py accept      store new protocols in benchmarks/protocols.json
python tools/protocols.py diff A B    the steps in which two differ, values of both
python tools/protocols.py blind CONFIG ... [--cfg-options data_root=DIR] [--publish]
                                      what predictors without the picture score on its data

A and B are ids, 'nyu-linear-dinov3' or 'nyu-linear-dinov3-v1', or config files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from pe_dense.files import atomic_write_text
from pe_dense.run import command_line

BLIND = Path("benchmarks/blind.json")


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
    text = "what predictors without the picture score under a protocol"
    blind = commands.add_parser("blind", help=text, description=text)
    blind.add_argument("configs", nargs="+", metavar="CONFIG")
    blind.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    blind.add_argument(
        "--publish",
        action="store_true",
        help=f"write them into {BLIND}, for records that are older than their field",
    )
    args = parser.parse_args(argv)
    if args.action == "blind":
        return run_blind(args.configs, args.cfg_options, args.publish)
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


def run_blind(configs: list[str], pairs: list[str], publish: bool) -> int:
    """Prints the scores of each protocol, best first; writes them where asked."""
    from pe_dense.run.blind import blind_scores  # heavy: OpenMMLab
    from pe_dense.run.config import load_config
    from pe_dense.run.protocol import protocol_info, protocol_sha256

    options, found = command_line.parse_options(pairs), {}
    for config in configs:
        cfg, template = load_config(config, options=options)
        if "protocol" not in cfg:
            raise ValueError(f"config {config} has no protocol, so that nothing is scored under it")
        protocol = protocol_info(template, config, protocol_sha256(template))
        scores = blind_scores(cfg)
        key = f"{protocol.id}-v{protocol.version}"
        found[key] = {"metric": protocol.metric, "scores": scores}
        sign = -1 if protocol.higher_is_better else 1
        print(f"{key}: {protocol.metric}" if scores else f"{key}: no blind baseline for this task")
        for name in sorted(scores, key=lambda name: sign * scores[name]):
            print(f"  {scores[name]:8.4f}  {name}")
    if publish:
        known = json.loads(BLIND.read_text()) if BLIND.is_file() else {}
        known |= {key: row for key, row in found.items() if row["scores"]}
        atomic_write_text(BLIND, json.dumps(dict(sorted(known.items())), indent=2) + "\n")
        print(f"wrote {BLIND}")
    return 0


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
