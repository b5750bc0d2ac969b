"""Weights against the hash that their publisher gives, and what a record says of them."""

from __future__ import annotations

import hashlib

import pytest

from pe_dense.encoders import published
from pe_dense.encoders.contract import WeightsInfo
from pe_dense.encoders.published import require_published, revision_of, standing
from pe_dense.encoders.zoo import ENCODERS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CORE_L = "hf://facebook/PE-Core-L14-336:PE-Core-L14-336.pt"


def a_file(path, content=b"weights"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def test_a_file_of_the_hub_is_its_object(tmp_path):
    blob, digest = a_file(tmp_path / "blobs" / hashlib.sha256(b"weights").hexdigest())
    link = tmp_path / "snapshots" / COMMIT / "a.pt"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    assert require_published(link, digest, "hf://a/b:a.pt")
    assert revision_of(link) == COMMIT and revision_of(blob) is None
    with pytest.raises(ValueError, match=r"cached copy of hf://a/b:a\.pt is damaged.*delete"):
        require_published(link, "0" * 64, "hf://a/b:a.pt")


def test_a_file_is_what_its_name_says(tmp_path):
    path, digest = a_file(tmp_path / f"vit-{hashlib.sha256(b'weights').hexdigest()[:8]}.pth")
    assert require_published(path, digest, "timm:vit")
    with pytest.raises(ValueError, match=r"timm:vit is not the file that was released: .*again"):
        require_published(path, "f" * 64, "timm:vit")
    plain, digest = a_file(tmp_path / "vit.pth")
    assert not require_published(plain, digest, "timm:vit")


def test_what_the_zoo_holds_is_checked(tmp_path):
    path, digest = a_file(tmp_path / "PE-Core-L14-336.pt")
    with pytest.raises(ValueError, match=r"my/PE is not the file .*0cdab5b338cb was published"):
        require_published(path, digest, "my/PE", CORE_L)
    blob, digest = a_file(tmp_path / hashlib.sha256(b"weights").hexdigest())
    with pytest.raises(ValueError, match=r"was published; name the revision that you mean"):
        require_published(blob, digest, "my/PE", CORE_L)  # another file was put in its place
    assert require_published(path, ENCODERS["pe_core_l14_336"].sha256, "my/PE", CORE_L)
    assert not require_published(path, digest, "x", "hf://facebook/PE-Core-L14-336@main:a.pt")


def test_hashes_of_the_zoo_are_hashes():
    known = {name: spec.sha256 for name, spec in ENCODERS.items() if spec.sha256}
    assert set(known) == {"pe_core_l14_336", "pe_spatial_b16_512"}
    assert all(len(digest) == 64 and int(digest, 16) for digest in known.values())


@pytest.mark.parametrize(
    ("encoder", "info", "expected"),
    [
        ("pe_core_l14_336", WeightsInfo("random", "random"), None),
        (
            "pe_core_l14_336",
            WeightsInfo("a.pt", ENCODERS["pe_core_l14_336"].sha256),
            "the released file",
        ),
        ("pe_core_l14_336", WeightsInfo(CORE_L, "0" * 64, (), True), "another file"),
        ("pe_core_b16_224", WeightsInfo("PE-Core-B16-224.pt", "0" * 64), "no published hash"),
        (
            "pe_core_b16_224",
            WeightsInfo("hf://facebook/PE-Core-B16-224", "0" * 64, (), True),
            "the released file",
        ),
        (
            "pe_core_b16_224",
            WeightsInfo("hf://facebook/PE-Core-B16-224@v1:PE-Core-B16-224.pt", "0" * 64, (), True),
            "the released file",
        ),
        (
            "pe_core_b16_224",
            WeightsInfo("hf://me/mine:a.pt", "0" * 64, (), True),
            "no published hash",
        ),
        (
            "dinov2_b14",
            WeightsInfo("timm:vit_base_patch14_dinov2.lvd142m", "0" * 64, (), True),
            "the released file",
        ),
        (
            "timm:vit_tiny",
            WeightsInfo("timm:vit_tiny", "0" * 64, ("sha256 is that of the tensors",)),
            "no published hash",
        ),
    ],
)
def test_what_a_record_says(encoder, info, expected):
    assert standing(encoder, info) == expected


def test_the_words_are_those_of_records():
    record = pytest.importorskip("pe_dense.results.record")
    words = (published.RELEASED, published.ANOTHER, published.UNKNOWN)
    assert words == record.PUBLISHED


def test_a_checkpoint_keeps_what_was_compared():
    run = pytest.importorskip("pe_dense.run.checkpoint")
    weights = WeightsInfo(CORE_L, "0" * 64, ("note",), True, COMMIT)
    facts = run.RunFacts("e", weights, None, 0, False, 1, None, "", None, "0" * 40, False)
    assert run.RunFacts.from_meta(facts.to_meta(), "x.pth").weights == weights
    old = facts.to_meta()
    old["weights"] = {"source": "a.pt", "sha256": "0" * 64, "notes": []}
    assert run.RunFacts.from_meta(old, "x.pth").weights == WeightsInfo("a.pt", "0" * 64)
    del old["weights"]["sha256"]
    with pytest.raises(ValueError, match="was not written by"):
        run.RunFacts.from_meta(old, "x.pth")
