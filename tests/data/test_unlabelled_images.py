"""Image folders and tar shards: order, sharding, resuming, files that cannot be read."""

import hashlib
import io
import os
import tarfile

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from torch.utils.data import DataLoader

from pe_dense.data import image_shards
from pe_dense.data.checks.picture_pairs import walk
from pe_dense.data.image_shards import ShardedImages, ShardOrderSampler
from pe_dense.data.photo_jitter import PackImages
from pe_dense.data.unlabelled_images import UnlabelledImages
from pe_dense.data.unreadable import UnreadableImages


def encoded(value, suffix=".png"):
    image = np.full((6, 8, 3), value, np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def write_folder(root, count=6, broken=()):
    for index in range(count):
        path = root / f"part{index % 2}" / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"broken" if index in broken else encoded(index))
    return root


def write_shards(root, sizes=(3, 5, 2, 4), broken=()):
    root.mkdir(parents=True, exist_ok=True)
    number = 0
    for shard, size in enumerate(sizes):
        with tarfile.open(root / f"shard-{shard:03d}.tar", "w") as tar:
            for _ in range(size):
                for name, content in (
                    (f"{number:04d}.png", b"" if number in broken else encoded(number)),
                    (f"{number:04d}.json", b"{}"),
                ):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                number += 1
    return root


def values(samples):
    return [int(sample["img"][0, 0, 0]) for sample in samples]


def test_folder_is_read_in_order_of_names(tmp_path):
    root = write_folder(tmp_path)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "99.png").write_bytes(encoded(99))
    images = UnlabelledImages(root, hash_images=True)
    assert values(images[i] for i in range(len(images))) == [0, 2, 4, 1, 3, 5]
    sample = images[0]
    assert sample["img"].shape == (6, 8, 3) and sample["ori_shape"] == (6, 8)
    content = (root / "part0" / "00.png").read_bytes()
    assert sample["image_sha256"] == hashlib.sha256(content).hexdigest()


def test_image_set_sha256_follows_names_and_sizes(tmp_path):
    root = write_folder(tmp_path / "a")
    first = UnlabelledImages(root).image_set_sha256
    assert first == UnlabelledImages(write_folder(tmp_path / "b")).image_set_sha256
    (root / "part0" / "00.png").rename(root / "part0" / "01.png")
    assert first != UnlabelledImages(root).image_set_sha256


def test_jpeg_that_is_cut_off_is_unreadable(tmp_path):
    root = write_folder(tmp_path / "images", 3)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    (root / "a.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    images = UnlabelledImages(root, unreadable_list=tmp_path / "list.txt")
    assert values([images[0]]) == [0]  # the next one
    assert (tmp_path / "list.txt").read_text().startswith(str(root / "a.jpg"))


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_files_are_skipped_counted_and_listed(tmp_path, workers):
    root = write_folder(tmp_path / "images", 8, broken=(2, 5))
    (root / "part0" / "04.png").write_bytes(b"")
    (root / "part0" / "06.png").unlink()
    (root / "part0" / "06.png").symlink_to(tmp_path / "nowhere.png")
    listed = tmp_path / "work" / "unreadable.txt"
    images = UnlabelledImages(root, [PackImages()], unreadable_list=listed)
    loader = DataLoader(images, 4, num_workers=workers, collate_fn=pseudo_collate)
    for _ in range(2):  # a second epoch lists nothing twice
        batches = list(loader)
        found = [int(image[0, 0, 0]) for batch in batches for image in batch["inputs"]]
        assert found == [0, 1, 1, 1, 1, 3, 7, 7]
    names = [line.split("\t")[0][-6:] for line in listed.read_text().splitlines()]
    assert sorted(set(names)) == ["02.png", "04.png", "05.png", "06.png"]
    assert images.unreadable.count == 4


def test_too_many_unreadable_files_stop(tmp_path):
    root = write_folder(tmp_path / "images", 40, broken=range(12))
    images = UnlabelledImages(root, unreadable_list=tmp_path / "list.txt")
    with pytest.raises(ValueError, match=r"11 of 40 images cannot be read, listed in .*list\.txt"):
        for index in range(40):
            images[index]
    patient = UnlabelledImages(root, max_unreadable_share=0.3)
    assert len([patient[i] for i in range(40)]) == 40


def test_a_folder_of_broken_files_only_ends(tmp_path):
    images = UnlabelledImages(write_folder(tmp_path, 2, broken=(0, 1)))
    with pytest.raises(ValueError, match="2 of 2 images cannot be read"):
        images[0]


def test_unreadable_list_is_shared_and_goes_on(tmp_path):
    first, second = (UnreadableImages(tmp_path / "list.txt") for _ in range(2))
    first.add("a\tb\n", "odd\nname", 100)
    second.add("a\tb\n", "odd name", 100)
    second.add("c", "other", 100)
    assert (tmp_path / "list.txt").read_text() == "a b\todd name\nc\tother\n"
    assert first.count == second.count == 2
    with pytest.raises(ValueError, match="not a share"):
        UnreadableImages(None, max_share=2)


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_no_images(tmp_path, kind):
    root = tmp_path / "images"
    if kind == "empty":
        root.mkdir()
    with pytest.raises(ValueError, match="does not exist|holds no image"):
        UnlabelledImages(root)
    with pytest.raises(ValueError, match=r"holds no shard \*\.tar"):
        ShardedImages(root)


# Shards ------------------------------------------------------------------------------------------


def test_shards_are_read_like_tarfile_reads_them(tmp_path):
    root = write_shards(tmp_path)
    images = ShardedImages(root, hash_images=True)
    assert images.shard_sizes() == [3, 5, 2, 4]
    assert values(images[i] for i in (13, 0, 7, 2)) == [13, 0, 7, 2]
    with tarfile.open(root / "shard-001.tar") as tar:
        content = tar.extractfile("0004.png").read()
    assert images[4]["image_sha256"] == hashlib.sha256(content).hexdigest()
    assert images[4]["img_path"] == f"{root}/shard-001.tar/0004.png"


def test_members_that_cannot_be_read_are_skipped_and_listed(tmp_path):
    root = write_shards(tmp_path / "shards", broken=(1,))
    images = ShardedImages(root, unreadable_list=tmp_path / "list.txt")
    assert values(images[i] for i in (0, 1)) == [0, 2]
    (line,) = (tmp_path / "list.txt").read_text().splitlines()
    assert "0001.png" in line and "empty" in line


@pytest.mark.parametrize("change", ["cut off", "written anew", "gone"])
def test_a_shard_that_changes_under_a_run_is_refused_by_name(tmp_path, change):
    root = write_shards(tmp_path / "shards")
    images = ShardedImages(root)
    last = root / "shard-003.tar"
    content = last.read_bytes()
    if change == "gone":
        last.unlink()
    else:
        last.write_bytes(content[: len(content) // 2] if change == "cut off" else content)
        os.utime(last, (1, 1))
    assert values([images[0]]) == [0]
    with pytest.raises(ValueError, match=r"shard-003.tar (changed|is missing) since .* restore it"):
        images[13]


def test_shards_that_are_none(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.png"))
    with pytest.raises(ValueError, match="no readable, uncompressed tar file") as caught:
        ShardedImages(tmp_path)
    assert "\n" not in str(caught.value)
    write_shards(tmp_path / "b", sizes=(2,))
    with pytest.raises(ValueError, match="hold no image"):
        ShardedImages(tmp_path / "b", suffixes=(".gif",))


def take(sampler, count):
    stream = iter(sampler)
    return [next(stream) for _ in range(count)]


def sampler_of(images, monkeypatch, rank=0, world_size=1, **options):
    monkeypatch.setattr(image_shards, "get_dist_info", lambda: (rank, world_size))
    return ShardOrderSampler(images, seed=7, **options)


def test_epochs_visit_every_image_once_shard_after_shard(tmp_path, monkeypatch):
    images = ShardedImages(write_shards(tmp_path))
    stream = take(sampler_of(images, monkeypatch), 28)
    shard_of = np.repeat([0, 1, 2, 3], [3, 5, 2, 4])
    for epoch in (stream[:14], stream[14:]):
        assert sorted(epoch) == list(range(14))
        assert np.count_nonzero(np.diff(shard_of[epoch])) == 3
    assert stream[:14] != stream[14:]
    assert take(sampler_of(images, monkeypatch, shuffle=False), 15) == [*range(14), 0]


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_share_the_stream_and_resume_in_it(tmp_path, monkeypatch, world_size):
    images = ShardedImages(write_shards(tmp_path))
    alone = take(sampler_of(images, monkeypatch), 60)
    for rank in range(world_size):
        options = dict(rank=rank, world_size=world_size)
        mine = take(sampler_of(images, monkeypatch, **options), 20)
        assert mine == alone[rank::world_size][:20]
        resumed = sampler_of(images, monkeypatch, **options)
        resumed.skip(11)
        assert take(resumed, 9) == mine[11:]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_the_number_of_workers(tmp_path, monkeypatch, workers):
    images = ShardedImages(write_shards(tmp_path), pipeline=[PackImages()])
    sampler = sampler_of(images, monkeypatch)
    expected = take(sampler, 12)
    loader = DataLoader(images, 4, sampler=sampler, num_workers=workers, collate_fn=pseudo_collate)
    stream = iter(loader)
    found = [int(image[0, 0, 0]) for _ in range(3) for image in next(stream)["inputs"]]
    assert found == expected


@pytest.mark.parametrize(("world_size", "workers"), [(1, 0), (2, 2), (4, 0), (4, 1)])
def test_all_numbers_of_processes_read_the_same_batches(tmp_path, monkeypatch, world_size, workers):
    images = ShardedImages(write_shards(tmp_path), pipeline=[PackImages()])
    stream = sampler_of(images, monkeypatch)
    batches = [[stream.image_at(8 * k + i) for i in range(8)] for k in range(5)]
    assert sorted(np.ravel(batches)[:14]) == list(range(14))
    found = [[] for _ in batches]
    for rank in range(world_size):
        sampler = sampler_of(images, monkeypatch, rank=rank, world_size=world_size)
        options = dict(sampler=sampler, num_workers=workers, collate_fn=pseudo_collate)
        loader = iter(DataLoader(images, 8 // world_size, **options))
        for batch in found:
            batch += [int(image[0, 0, 0]) for image in next(loader)["inputs"]]
    assert [sorted(batch) for batch in found] == [sorted(batch) for batch in batches]


@pytest.mark.parametrize("world_size", [2, 4])
def test_a_stream_goes_on_with_another_number_of_processes(tmp_path, monkeypatch, world_size):
    images = ShardedImages(write_shards(tmp_path))
    alone = take(sampler_of(images, monkeypatch), 40)
    for rank in range(world_size):
        sampler = sampler_of(images, monkeypatch, rank=rank, world_size=world_size)
        sampler.skip(16 // world_size)
        sampler.skip(16 // world_size)  # from the start of the stream, as MMEngine's samplers
        assert take(sampler, 6) == alone[16 + rank :: world_size][:6]
    with pytest.raises(ValueError, match="cannot skip -1"):
        sampler.skip(-1)


class ManyShards:
    """Sizes of shards without the shards, some of them empty."""

    def shard_sizes(self):
        return [0, *[900, 0, 1100] * 3000, 0]


def test_far_positions_are_drawn_without_those_before(monkeypatch):
    drawn = []
    randperm = torch.randperm
    monkeypatch.setattr(
        torch, "randperm", lambda size, **kw: drawn.append(size) or randperm(size, **kw)
    )
    sampler = sampler_of(ManyShards(), monkeypatch, rank=3, world_size=5)
    sampler.skip(10**12)
    (first,) = take(sampler, 1)
    assert len(drawn) == 2 and drawn[1] in (900, 1100)
    position = 5 * 10**12 + 3
    assert first == sampler.image_at(position)
    start = 6_000_000 * (position // 6_000_000)
    epoch = {sampler.image_at(start + place) for place in range(0, 6_000_000, 1009)}
    assert len(epoch) == 5947 and min(epoch) >= 0 and max(epoch) < 6_000_000


def test_packed_sample_holds_what_training_reads(tmp_path):
    images = UnlabelledImages(write_folder(tmp_path), [PackImages()], hash_images=True)
    packed = images[3]
    assert packed["inputs"].dtype == torch.uint8 and packed["inputs"].shape == (3, 6, 8)
    sample = packed["data_samples"]
    assert sample.view_yxyx == (0.0, 0.0, 1.0, 1.0) and sample.flip is False
    assert len(sample.image_sha256) == 64 and "instance_ids" not in sample


def test_a_link_to_a_folder_that_it_is_in(tmp_path):
    root = write_folder(tmp_path / "images", 2)
    (root / "part0" / "self").symlink_to(root, target_is_directory=True)
    for found in (lambda: UnlabelledImages(root), lambda: list(walk(root))):
        with pytest.raises(ValueError, match=r"part0/self is a link to a folder that it is in"):
            found()
    (root / "part0" / "self").unlink()
    (tmp_path / "more").mkdir()
    (root / "more").symlink_to(tmp_path / "more", target_is_directory=True)
    assert len(list(walk(root))) == len(UnlabelledImages(root)) == 2
