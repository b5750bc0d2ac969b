"""Eight writers at once, killed at random: nothing lost, nothing half-written."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from pe_dense.results.store import (
    CLEAN,
    find_problems,
    load_record,
    load_records,
    record_path,
    remove_leftovers,
)

WRITERS = 8
# Saves records one after another and says of each that it is saved.
WRITER = """
import json, sys
from pe_dense.results.record import Record
from pe_dense.results.store import save_record
root, number, data = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
for i in range(100_000):
    data["encoder"]["name"] = f"encoder_{number}_{i % 40}"
    evidence = f"{number} {i}".encode() * 2000
    path = save_record(Record(**data), root, supersede=i >= 40, evidence=evidence)
    print(path, flush=True)
"""
RACER = """
import json, sys
from pe_dense.results.record import Record
from pe_dense.results.store import save_record
data = json.loads(sys.argv[3])
sys.stdin.readline()
wins = 0
for i in range(30):
    data["seed"], data["notes"] = i, sys.argv[2]
    try:
        save_record(Record(**data), sys.argv[1], evidence=sys.argv[2].encode())
        wins += 1
    except ValueError as error:
        assert "already holds" in str(error)
print(wins)
"""
# Replaces one record again and again, each time with other evidence.
SUPERSEDER = """
import json, sys
from pe_dense.results.record import Record
from pe_dense.results.store import save_record
data = json.loads(sys.argv[3])
sys.stdin.readline()
for i in range(int(sys.argv[4])):
    data["notes"] = f"{sys.argv[2]} {i}"
    evidence = data["notes"].encode() * 1000
    save_record(Record(**data), sys.argv[1], supersede=True, evidence=evidence)
    print(i, flush=True)
"""


def start(program, root, number, data, *more):
    command = [sys.executable, "-c", program, str(root), str(number), json.dumps(data), *more]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("seed", range(2))
def test_killed_writers_lose_nothing(record_data, tmp_path, seed):
    data = record_data()
    del data["content_sha256"]
    writers = [start(WRITER, tmp_path, number, data) for number in range(WRITERS)]
    for writer in writers:
        writer.stdout.readline()  # has begun
    rng = random.Random(seed)
    saved = []
    for writer in rng.sample(writers, WRITERS):
        time.sleep(rng.uniform(0.0, 0.25))
        os.kill(writer.pid, signal.SIGKILL)
        saved += writer.stdout.readlines()  # `communicate` would lose what readline read ahead
        writer.wait()
    names = {line.rstrip("\n") for line in saved if line.endswith("\n")}
    assert len(names) > WRITERS
    records = load_records(tmp_path)  # none half-written, each in its place
    there = {str(tmp_path / record_path(record)) for record in records}
    assert names <= there
    # What a kill may leave: evidence of no record, half of a file; never a wrong record.
    problems = find_problems(tmp_path)
    assert all(problem.endswith(CLEAN) for problem in problems), problems
    assert len(problems) <= 2 * WRITERS
    assert len(remove_leftovers(tmp_path)) == len(problems)
    assert find_problems(tmp_path) == [] and len(load_records(tmp_path)) == len(records)


def test_of_many_writers_of_one_key_one_wins(record_data, tmp_path):
    data = record_data()
    del data["content_sha256"]
    racers = [start(RACER, tmp_path, number, data) for number in range(WRITERS)]
    time.sleep(0.5)
    for racer in racers:
        racer.stdin.write("\n")
        racer.stdin.flush()
    wins = []
    for racer in racers:
        out, err = racer.communicate(timeout=60)
        assert racer.returncode == 0, err
        wins.append(int(out))
    assert sum(wins) == 30
    for file in tmp_path.rglob("*.json"):
        record = load_record(file, tmp_path)
        assert (tmp_path / record.evidence.file).read_text() == record.notes


@pytest.mark.parametrize("killed", [False, True], ids=["to the end", "killed"])
def test_of_many_superseders_one_record_with_its_evidence_remains(record_data, tmp_path, killed):
    data = record_data()
    del data["content_sha256"]
    turns = "100000" if killed else "20"
    writers = [start(SUPERSEDER, tmp_path, number, data, turns) for number in range(WRITERS)]
    time.sleep(0.5)
    for writer in writers:
        writer.stdin.write("\n")
        writer.stdin.flush()
    rng = random.Random(0)
    for writer in writers:
        if killed:
            writer.stdout.readline()  # has begun
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        else:
            _, err = writer.communicate(timeout=120)
            assert writer.returncode == 0, err
    problems = find_problems(tmp_path)
    if killed:  # each may have stopped in the middle
        assert all(problem.endswith(CLEAN) for problem in problems), problems
        remove_leftovers(tmp_path)
        problems = find_problems(tmp_path)
    assert problems == []
    (record,) = load_records(tmp_path)
    (evidence,) = tmp_path.rglob("*.npz")
    assert evidence == tmp_path / record.evidence.file
    assert evidence.read_bytes() == record.notes.encode() * 1000
