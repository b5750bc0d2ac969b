"""A hub that cannot be reached: data are looked at first, and the sentence names the ways out."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("mmengine")
pytest.importorskip("huggingface_hub")

from runs import evaluate, train

from pe_dense.encoders.weights import resolve_weights
from pe_dense.run.value_rules import require_data_root

REPO = Path(__file__).resolve().parents[2]
ALIGN = REPO / "configs/alignment/spatial_distill_s16.py"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run asked a hub for that fails at once."""
    calls: list[str] = []

    def download(repo_id: str, **rest: object) -> str:
        calls.append(repo_id)
        raise RuntimeError("no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    return calls


def test_data_are_looked_at_before_weights_are_fetched(asked: list[str], tmp_path: Path) -> None:
    options = {"data_root": str(tmp_path / "nowhere")}
    with pytest.raises(ValueError, match=r"nowhere does not exist; .*data_root=DIR"):
        train(ALIGN, options=options, work_dir=tmp_path / "w")
    tracking = REPO / "configs/tracking/davis2017_v1.py"
    with pytest.raises(ValueError, match=r"nowhere\S* does not exist"):
        evaluate(tracking, options=options, work_dir=tmp_path / "w")
    assert asked == []


@pytest.mark.parametrize("root", [None, "", "a/*.tar", "a/{000..003}.tar", "."])
def test_places_that_are_left_to_their_reader(root: str | None) -> None:
    require_data_root({"data_root": root})


def test_the_ways_out_are_named(asked: list[str]) -> None:
    with pytest.raises(ValueError) as refused:
        resolve_weights("hf://facebook/PE-Core-B16-224")
    told = str(refused.value)
    for way in ("--weights random", "--weights FILE", "HF_ENDPOINT=", "HF_HUB_OFFLINE=1"):
        assert way in told
    assert asked == ["facebook/PE-Core-B16-224"] and "\n" not in told


class _Away(http.server.BaseHTTPRequestHandler):
    """A hub that knows no file, and says so at once."""

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Away)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_real_client_and_a_hub_of_our_own(hub: str, tmp_path: Path) -> None:
    code = (
        "from pe_dense.encoders.weights import resolve_weights\n"
        "try:\n    resolve_weights('hf://facebook/PE-Core-B16-224')\n"
        "except ValueError as error:\n    print(error)\n"
    )
    env = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "PYTHONPATH": str(REPO)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "there is no such repository, or it needs a licence or login" in done.stdout
    assert done.stderr == ""
