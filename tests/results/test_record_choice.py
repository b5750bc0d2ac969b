"""Two encoders are named, and two records are compared; or all that fit are told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pe_dense.results.record_choice import two_records
from pe_dense.results.store import record_path, save_record

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def root(make_record, tmp_path: Path) -> Path:
    rows = [
        ("pe_spatial_t16_512", "a", 0, "random"),
        ("pe_spatial_t16_512", "a", 1, "random"),
        ("pe_spatial_t16_512", "b", 1, "random"),
        ("pe_core_t16_384", "a", 1, "random"),
        ("pe_core_t16_384", "c", 2, "random"),
        ("dinov2_s14", "b", 5, "random"),
        ("dinov2_s14", "b", 5, "ab" * 32),
        ("mae_b16", "d", 0, "random"),
    ]
    for name, protocol, seed, weights in rows:
        changes = {"encoder.name": name, "protocol.id": protocol, "seed": seed}
        changes |= {"encoder.weights_sha256": weights}
        changes |= {"encoder.weights": "random" if weights == "random" else "w.pt"}
        save_record(make_record(changes), tmp_path)
    return tmp_path


def places(root: Path, *words: str | None) -> list[str]:
    return [
        str(record_path(record)) for record in two_records(words[0], words[1], root, *words[2:])
    ]


def test_the_only_shared_protocol_and_seed_are_taken(root: Path) -> None:
    found = places(root, "pe_spatial_t16_512", "pe_core_t16_384")
    assert found == [
        f"{n}/random/a-v1.seed1.json" for n in ("pe_spatial_t16_512", "pe_core_t16_384")
    ]
    # Without a seed in common, the first of each.
    first, second = places(root, "pe_spatial_t16_512", "dinov2_s14/ab")
    assert first.endswith("b-v1.seed1.json") and second == "dinov2_s14/abababab/b-v1.seed5.json"


def test_files_are_named_as_before(root: Path) -> None:
    names = ["pe_spatial_t16_512/random/a-v1.seed0", "pe_core_t16_384/random/a-v1.seed1.json"]
    assert places(root, *names)[0] == f"{names[0]}.json"
    with pytest.raises(ValueError, match="leave it out for files"):
        two_records(*names, root, "a")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pe_spatial_t16", "mae_b16"), "did you mean pe_spatial_t16_512[,?]"),
        (("xyz", "mae_b16"), "there are dinov2_s14, mae_b16, pe_core"),
        (("pe_spatial_t16_512", "mae_b16"), "no protocol has records of both: pe_sp.* a-v1, b-v1"),
        (("pe_spatial_t16_512", "dinov2_s14"), "one of: dinov2_s14/abababab, dinov2_s14/random"),
        (("pe_spatial_t16_512", "dinov2_s14/cd"), "dinov2_s14 has abababab, random"),
        (("pe_spatial_t16_512", "pe_core_t16_384", "c"), "did you mean a-v1"),
    ],
)
def test_what_does_not_fit_one_pair_is_told(words, said: str, root: Path) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        two_records(words[0], words[1], root, *words[2:])
    assert "\n" not in str(refused.value)


def test_several_protocols_ask_for_one(root: Path, make_record) -> None:
    save_record(make_record({"encoder.name": "pe_core_t16_384", "protocol.id": "b"}), root)
    with pytest.raises(ValueError, match="add --protocol with one of: a-v1, b-v1"):
        two_records("pe_spatial_t16_512", "pe_core_t16_384", root)
    names = "pe_spatial_t16_512", "pe_core_t16_384", "b"
    assert places(root, *names)[0] == "pe_spatial_t16_512/random/b-v1.seed1.json"
    assert places(root, *names[:2], "b-v1") == places(root, *names)
    with pytest.raises(ValueError, match="holds no measured record"):
        two_records("a", "b", root / "nothing")


def run(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPO / "tools/leaderboard.py"), *words]
    records = ["--records", str(REPO / "benchmarks/records")]
    return subprocess.run([*command, *records], cwd=folder, capture_output=True, text=True)


def test_the_published_records_are_compared_by_name(tmp_path: Path) -> None:
    words = ["compare", "pe_core_t16_384", "pe_spatial_t16_512", "--protocol", "mini-detection"]
    done = run(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    which, score = done.stdout.splitlines()
    assert which == (
        "pe_core_t16_384/random/mini-detection-v1.seed0.json minus "
        "pe_spatial_t16_512/random/mini-detection-v1.seed0.json"
    )
    assert score.startswith("AP ") and "95 % interval" in score


def test_export_writes_a_file_that_it_names(tmp_path: Path) -> None:
    done = run("export", "csv", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "wrote leaderboard.csv\n"), done.stderr
    text = (tmp_path / "leaderboard.csv").read_text()
    assert run("export", "csv", "--out", "-", folder=tmp_path).stdout == text
    assert len(text.splitlines()) > 100
