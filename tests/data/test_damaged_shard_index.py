"""A damaged or hostile index of image shards gives right images or a refusal, never others."""

import io
import json
import os
import random
import struct
import tarfile
import zlib

import pytest

from pe_dense.data import shard_index, shard_indexing
from pe_dense.data.image_shards import ShardedImages

NUM = 12  # images


def write_shard(root, number):
    with tarfile.open(root / f"{number}.tar", "w") as tar:
        for place in range(4):
            content = f"image {number}.{place}".encode() * 9
            info = tarfile.TarInfo(f"{number}-{place}.jpg")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "shards"
    root.mkdir()
    for number in range(NUM // 4):
        write_shard(root, number)
    return root


def read(root):
    """Name and bytes of every image, read as training does."""
    images = ShardedImages(root)
    return [(images.get_data_info(n)["name"], images.read(n)) for n in range(len(images))]


def files(root):
    folder = root / ".pe_dense"
    return (*folder.glob("shards-*.idx"), *folder.glob("shards-*.json"))


def changed(content, place, bit):
    content = bytearray(content)
    content[place] ^= 1 << bit
    return bytes(content)


def test_no_changed_bit_of_the_index_gives_another_image(root):
    right = read(root)
    data, manifest = files(root)
    whole, draw = data.read_bytes(), random.Random(0)
    for place in range(0, len(whole), 3):
        data.write_bytes(changed(whole, place, draw.randrange(8)))
        with pytest.raises(ValueError, match=rf"index {data} is damaged.*; delete it and start"):
            read(root)
    data.unlink()  # as it says
    assert read(root) == right
    text = manifest.read_bytes()
    for place in range(0, len(text), 7):
        manifest.write_bytes(changed(text, place, draw.randrange(7)))
        assert read(root) == right, "built anew"


def test_zeros_after_a_loss_of_power_are_no_unreadable_images(root):
    read(root)
    data, _ = files(root)
    data.write_bytes(bytes(data.stat().st_size))
    images = ShardedImages(root, max_unreadable_share=1.0)
    with pytest.raises(ValueError, match="is damaged"):
        images[0]


def test_a_damaged_part_is_not_taken_into_a_new_index(root):
    right = read(root)
    data, _ = files(root)
    data.write_bytes(changed(data.read_bytes(), 8, 3))  # of the offset of the second image
    write_shard(root, 3)
    assert read(root)[:NUM] == right


def test_what_is_there_already_is_not_taken_unseen(root):
    right = read(root)
    data, manifest = files(root)
    data.write_bytes(changed(data.read_bytes(), 8, 3))
    manifest.unlink()  # as other messages ask for
    assert read(root) == right


@pytest.mark.parametrize(
    "change",
    [
        {"name": ["0.tar"]}, {"others": 5}, {"others": {".jpg": "many"}}, {"num_repeated": "1"},
        {"num_images": -4}, {"sha256": None}, {"stamp": "now"}, {"stamp": [0, 0, 0, "1"]},
        {"more": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_hostile_index_is_built_anew(root, change):
    right = read(root)
    _, manifest = files(root)
    content = json.loads(manifest.read_text())
    content.pop("checksum")
    content["shards"][0] |= change
    content["checksum"] = shard_index.checksum(content)
    manifest.write_text(json.dumps(content))
    assert read(root) == right


@pytest.mark.parametrize("text", ["[" * 100_000, "null", "[]", '{"checksum": 1}', "\0" * 99])
def test_another_file_in_its_place_is_built_anew(root, text):
    right = read(root)
    files(root)[1].write_text(text)
    assert read(root) == right


@pytest.mark.parametrize("name", ["../../x", "a\0b", 5, ["x"]])
def test_an_index_names_no_file_elsewhere(root, name):
    right = read(root)
    _, manifest = files(root)
    content = {**json.loads(manifest.read_text()), "data": name}
    content.pop("checksum")
    manifest.write_text(json.dumps({**content, "checksum": shard_index.checksum(content)}))
    assert read(root) == right


@pytest.mark.parametrize("facts", [b"5", b"{}", b"[" * 100_000, b"\xff"])
def test_a_hostile_journal_is_left_alone(root, facts):
    right = read(root)
    _, manifest = files(root)
    manifest.unlink()
    body = struct.pack("<I", len(facts)) + facts
    record = struct.pack("<4sIQ", b"PEsh", zlib.crc32(body), len(body)) + body
    manifest.with_name(f"{manifest.stem}.other.journal").write_bytes(record)
    assert read(root) == right


def test_what_is_no_file_is_refused_at_once(root):
    os.mkfifo(root / "7.tar")  # opening it would wait for ever
    with pytest.raises(ValueError, match=r"7\.tar is no file; take it out"):
        read(root)


def test_a_user_without_a_home(root, monkeypatch):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    for name in ("home", "expanduser"):
        monkeypatch.setattr(shard_indexing.Path, name, no_home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert len(read(root)) == NUM
