"""The index of image shards: found once, shared, held to, and whole after a kill."""

import errno
import fcntl
import io
import itertools
import os
import pickle
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time

import pytest

from pe_dense.data import one_at_a_time, shard_indexing, shard_journal
from pe_dense.data.image_shards import ShardedImages
from pe_dense.data.shard_indexing import open_shard_index
from pe_dense.data.unlabelled_images import SUFFIXES, UnlabelledImages


def write_shard(path, names, sizes=(7,)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, size in zip(names, itertools.cycle(sizes)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(path.name.encode().ljust(size, b"-")[:size]))
    return path


def write_shards(root, count=4, images=3):
    for shard in range(count):
        names = [f"{shard}-{n}.{end}" for n in range(images) for end in ("jpg", "json")]
        write_shard(root / f"{shard}.tar", names, sizes=[10 + shard, 2])
    return root


@pytest.fixture
def scans(monkeypatch):
    """Names of the shards that this process scans."""
    names = []
    scan = shard_journal.scan_shard

    def noted(root, suffixes, task):
        names.append(task[0])
        return scan(root, suffixes, task)

    monkeypatch.setattr(shard_indexing, "scan_shard", noted)
    return names


@pytest.fixture
def said():
    return []


def opened(root, said=None, **options):
    log = (lambda line: None) if said is None else said.append
    return open_shard_index(
        root, options.get("pattern", "*.tar"), options.get("suffixes", SUFFIXES), log
    )


def listed(index):
    return [(shard.name, *member) for shard, member in map(index.entry, range(len(index)))]


def expected(root, pattern="*.tar"):
    found = []
    for path in sorted(root.glob(pattern)):
        with tarfile.open(path) as tar:
            found += [
                (path.relative_to(root).as_posix(), info.name, info.offset_data, info.size)
                for info in tar
                if info.name.endswith(".jpg")
            ]
    return found


# What it holds ------------------------------------------------------------------------------------


def test_holds_what_tarfile_finds_and_is_found_out_once(tmp_path, scans):
    root = write_shards(tmp_path)
    first = opened(root)
    assert listed(first) == expected(root) and len(first) == 12
    assert scans == ["0.tar", "1.tar", "2.tar", "3.tar"]
    second = opened(root)
    assert len(scans) == 4 and listed(second) == listed(first)
    assert {path.suffix for path in (root / ".pe_dense").iterdir()} == {".json", ".idx", ".lock"}


def test_other_patterns_and_endings_have_an_index_of_their_own(tmp_path):
    root = write_shards(tmp_path, count=2)
    write_shard(root / "part" / "9.tar", ["deep.jpg"])
    assert len(opened(root)) == len(opened(root, suffixes=(".json",))) == 6
    assert listed(opened(root, pattern="**/*.tar")) == expected(root, "**/*.tar")


def test_all_cores_find_the_same(tmp_path, monkeypatch):
    roots = [write_shards(tmp_path / name, count=9) for name in "ab"]
    alone = opened(roots[0])
    monkeypatch.setattr(shard_indexing, "ALONE_S", 0.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    many = opened(roots[1])
    assert listed(many) == listed(alone) and many.data.read_bytes() == alone.data.read_bytes()
    assert many.image_set_sha256 == alone.image_set_sha256


def test_hash_of_the_set_is_that_of_other_images(tmp_path):
    images = ShardedImages(write_shards(tmp_path))
    assert images.image_set_sha256 == UnlabelledImages.image_set_sha256.fget(images)


def test_summary_says_what_is_no_image_and_what_is_strange(tmp_path):
    write_shard(tmp_path / "a.tar", ["1.jpg", "1.json", "._1.jpg", "dir/README", "1.jpg", "2.PNG"])
    write_shard(tmp_path / "b.tar", [])
    for name in "cd":
        write_shard(tmp_path / f"{name}.tar", ["3.jpg", "3.json"], sizes=[5])
    assert opened(tmp_path).summary() == (
        "5 images in 4 shards; 5 members are no images (.json 3, hidden 1, without an ending 1); "
        "no image in shard b.tar; names that come again in one shard, and are read again: 1 (shard "
        "a.tar); copies of each other: 2 shards c.tar, d.tar"
    )


def test_names_that_are_no_utf8(tmp_path):
    write_shard(tmp_path / "a.tar", ["\udcff.jpg", "\u4e2d.jpg"])
    index = opened(tmp_path)
    assert listed(index) == listed(opened(tmp_path)) == expected(tmp_path)
    assert len(index.image_set_sha256) == 64


def test_images_beyond_four_gigabytes_are_read(tmp_path):
    with (tmp_path / "a.tar").open("wb") as file:  # a hole: it takes no room
        for name, size in (("film.mp4", 5 << 30), ("a.jpg", 3)):
            info = tarfile.TarInfo(name)
            info.size = size
            file.write(info.tobuf())
            file.seek(size // 512 * 512, os.SEEK_CUR)
        file.write(b"abc".ljust(512, b"\0") + bytes(1024))
    images = ShardedImages(tmp_path)
    assert images.get_data_info(0)["offset"] == (5 << 30) + 1024 and images.read(0) == b"abc"


def test_parts_and_spawned_workers_share_it(tmp_path):
    images = ShardedImages(write_shards(tmp_path, images=200))
    again = pickle.loads(pickle.dumps(images))
    assert again.get_data_info(799) == images.get_data_info(-1)
    assert len(pickle.dumps(images)) < 5000  # 800 entries would be more
    assert not again.index._columns.flags.writeable
    part = images.get_subset([0, 1, 250, 250, 799])
    assert (len(part), part.shard_sizes(), len(images)) == (5, [2, 2, 1], 800)
    assert part.get_data_info(4)["name"] == "3-199.jpg"
    assert part.get_data_info(4)["sample_idx"] == 4 and part.image_set_sha256
    assert ShardedImages(tmp_path, indices=-3).get_data_info(0)["name"] == "3-197.jpg"
    assert ShardedImages(tmp_path, indices=3).shard_sizes() == [3]
    with pytest.raises(IndexError):
        images.get_data_info(800)


# What it is held to -------------------------------------------------------------------------------


def test_new_shards_are_added_and_said(tmp_path, scans, said):
    root = write_shards(tmp_path)
    opened(root)
    write_shard(root / "10.tar", ["new.jpg"])  # sorts between others
    index = opened(root, said)
    assert scans[4:] == ["10.tar"] and listed(index) == expected(root)
    assert said == [f"new in the index of {root}: shard 10.tar"]


def test_a_missing_shard_is_refused_by_name(tmp_path):
    root = write_shards(tmp_path)
    opened(root)
    content = (root / "2.tar").read_bytes()
    (root / "2.tar").unlink()
    for _ in range(2):
        with pytest.raises(ValueError, match=r"missing in .*: shard 2\.tar; restore .* or delete"):
            opened(root)
    (root / "2.tar").write_bytes(content)
    assert len(opened(root)) == 12
    (root / "2.tar").unlink()
    next((root / ".pe_dense").glob("*.json")).unlink()
    assert len(opened(root)) == 9


def test_a_changed_shard_is_refused_by_name(tmp_path):
    root = write_shards(tmp_path)
    opened(root)
    write_shard(root / "1.tar", ["other.jpg"])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"changed in .*: shard 1\.tar \(the first had 3 im"):
            opened(root)
    next((root / ".pe_dense").glob("*.json")).unlink()
    assert listed(opened(root)) == expected(root)


def test_a_shard_with_another_time_and_the_same_images_is_taken(tmp_path, scans):
    root = write_shards(tmp_path)
    first = opened(root)
    inode = first.data.stat().st_ino
    os.utime(root / "1.tar", (1, 1))
    content = (root / "2.tar").read_bytes()
    (root / "2.tar").unlink()
    (root / "2.tar").write_bytes(content)
    second = opened(root)
    assert sorted(scans[4:]) == ["1.tar", "2.tar"] and listed(second) == listed(first)
    assert second.data.stat().st_ino == inode  # others may be reading it
    opened(root)
    assert len(scans) == 6


def test_a_truncated_shard_is_refused_and_the_others_are_kept(tmp_path, scans):
    root = write_shards(tmp_path)
    content = (root / "1.tar").read_bytes()
    (root / "1.tar").write_bytes(content[:1300])
    (root / "3.tar").write_bytes(b"no tar")
    with pytest.raises(
        ValueError, match=r"1\.tar has no end.* \(and 1 more shards: .*3\.tar is no"
    ):
        opened(root)
    write_shards(root)
    assert listed(opened(root)) == expected(root)
    assert scans == [*(f"{n}.tar" for n in range(4)), *(f"{n}.tar" for n in range(4))]


def test_good_shards_are_not_scanned_again_after_a_bad_one(tmp_path, scans):
    root = write_shards(tmp_path)
    content = (root / "1.tar").read_bytes()
    (root / "1.tar").write_bytes(content[:1300])
    with pytest.raises(ValueError, match="has no end"):
        opened(root)
    (root / "1.tar").write_bytes(content)
    assert listed(opened(root)) == expected(root) and scans[4:] == ["1.tar"]
    assert not list((root / ".pe_dense").glob("*.journal"))


def test_one_file_under_two_names_and_links_to_nowhere_are_refused(tmp_path):
    root = write_shards(tmp_path)
    (root / "x.tar").symlink_to("1.tar")
    with pytest.raises(ValueError, match=r"1\.tar and .*x\.tar are one file under two names"):
        opened(root)
    (root / "x.tar").unlink()
    (root / "x.tar").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"x\.tar cannot be read"):
        opened(root)


def test_a_shard_that_is_being_written_is_refused(tmp_path, monkeypatch):
    root = write_shards(tmp_path)
    scan = shard_journal.scan_shard

    def scan_while_it_grows(root, suffixes, task):
        found = scan(root, suffixes, task)
        if task[0] == "2.tar":
            with (root / "2.tar").open("ab") as file:
                file.write(bytes(512))
        return found

    monkeypatch.setattr(shard_indexing, "scan_shard", scan_while_it_grows)
    with pytest.raises(ValueError, match=r"2\.tar is being written"):
        opened(root)


@pytest.mark.parametrize("damage", ["data cut", "data gone", "json cut"])
def test_an_index_that_is_not_whole_is_built_anew(tmp_path, damage):
    root = write_shards(tmp_path)
    before = listed(opened(root))
    kind = ".json" if damage == "json cut" else ".idx"
    (file,) = (root / ".pe_dense").glob(f"*{kind}")
    if damage == "data gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-5])
    assert listed(opened(root)) == before


# Where it lies ------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, scans):
    root = write_shards(tmp_path / "shards")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check = shard_indexing.why_not_writable

    def only_cache(path):
        return None if "cache" in str(path) else f"{path} is read-only"

    monkeypatch.setattr(shard_indexing, "why_not_writable", only_cache)
    assert len(opened(root)) == 12 and not (root / ".pe_dense").exists()
    assert len(opened(root)) == 12 and len(scans) == 4
    monkeypatch.setattr(shard_indexing, "why_not_writable", lambda path: "full")
    assert len(opened(root)) == 12
    with pytest.raises(ValueError, match="has no place .* set XDG_CACHE_HOME"):
        opened(root, suffixes=(".json",))
    # An index that somebody else built beside the shards is used.
    monkeypatch.setattr(shard_indexing, "why_not_writable", check)
    opened(root, suffixes=(".json",))
    monkeypatch.setattr(shard_indexing, "why_not_writable", lambda path: "full")
    assert len(opened(root, suffixes=(".json",))) == 12 and len(scans) == 8


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    root = write_shards(tmp_path)

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shard_indexing, "_write_data", full)
    with pytest.raises(ValueError, match="cannot be written to .*No space left.* make room"):
        opened(root)
    monkeypatch.undo()
    assert listed(opened(root)) == expected(root)


# Several processes, and kills ---------------------------------------------------------------------

SLOW = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from pe_dense.data import shard_indexing, shard_journal
    root, seconds = Path(sys.argv[1]), float(sys.argv[2])
    scan = shard_journal.scan_shard

    def slow(folder, suffixes, task):
        with (root / "scanned.txt").open("a") as file:
            file.write(task[0] + "\\n")
        time.sleep(seconds)
        return scan(folder, suffixes, task)

    shard_indexing.scan_shard = slow
    shard_indexing.ALONE_S = float(sys.argv[3])
    index = shard_indexing.open_shard_index(root, "*.tar", (".jpg",), print)
    print(len(index), "images")
    """
)


def start(root, seconds, alone_s=1e9):
    command = [sys.executable, "-c", SLOW, str(root), str(seconds), str(alone_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def scanned(root):
    file = root / "scanned.txt"
    return file.read_text().split() if file.exists() else []


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_of_several_processes_one_builds(tmp_path):
    root = write_shards(tmp_path, count=6)
    processes = [start(root, 0.3) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert sorted(scanned(root)) == [f"{n}.tar" for n in range(6)]
    assert all("18 images" in output for output in outputs)
    assert any("another process indexes" in output for output in outputs)


@pytest.mark.parametrize("alone_s", [1e9, 0.0], ids=["one process", "all cores"])
def test_a_kill_costs_what_was_in_work(tmp_path, alone_s):
    root = write_shards(tmp_path, count=12)
    process = start(root, 0.4, alone_s)
    wait_for(lambda: len(scanned(root)) >= 8)
    os.kill(process.pid, signal.SIGKILL)  # its workers must not go on, nor keep the lock
    process.wait()
    before = len(scanned(root))
    output, _ = start(root, 0.0).communicate(timeout=60)
    assert "36 images" in output
    assert before - 2 <= len(set(scanned(root)[:before])) and len(scanned(root)) <= 12 + 4
    assert not list((root / ".pe_dense").glob("*.journal"))
    assert listed(opened(root, suffixes=(".jpg",))) == expected(root)
    with pytest.raises(ProcessLookupError):  # the group is empty: no worker is left
        wait_for(lambda: os.killpg(process.pid, 0), 10)


def test_a_record_that_was_cut_off_is_found_out_again(tmp_path, scans, monkeypatch):
    root = write_shards(tmp_path)
    monkeypatch.setattr(shard_journal.ShardJournals, "delete", lambda self: None)
    opened(root)
    (journal,) = (root / ".pe_dense").glob("*.journal")
    for file in (root / ".pe_dense").glob("shards*.json"):
        file.unlink()
    journal.write_bytes(journal.read_bytes()[:-3])
    assert listed(opened(root)) == expected(root) and scans[4:] == ["3.tar"]


def no_locks(*args):
    raise OSError(errno.ENOLCK, "No locks available")


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    root = write_shards(tmp_path)
    monkeypatch.setattr(fcntl, "lockf", no_locks)
    assert listed(opened(root)) == expected(root)
    assert not list((root / ".pe_dense").glob("*.claim"))


def test_without_locks_one_works_and_the_other_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "lockf", no_locks)
    monkeypatch.setattr(one_at_a_time, "LOOKED_AT_EVERY_S", 0.01)
    events, inside, go_on = [], threading.Event(), threading.Event()

    def first():
        with one_at_a_time.one_at_a_time(tmp_path / "lock", lambda: events.append("waits 1")):
            inside.set()
            go_on.wait(30)
            events.append("done 1")

    def second():
        with one_at_a_time.one_at_a_time(tmp_path / "lock", lambda: events.append("waits 2")):
            events.append("done 2")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(30)
    threads[1].start()
    wait_for(lambda: "waits 2" in events)
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert events == ["waits 2", "done 1", "done 2"]


@pytest.mark.parametrize("holder", ["dead here", "silent elsewhere"])
def test_without_locks_who_is_gone_does_not_stop_the_others(tmp_path, monkeypatch, holder):
    monkeypatch.setattr(fcntl, "lockf", no_locks)
    monkeypatch.setattr(one_at_a_time, "LOOKED_AT_EVERY_S", 0.01)
    monkeypatch.setattr(one_at_a_time, "GIVEN_UP_AFTER_S", 0.2)
    host = one_at_a_time.socket.gethostname() if holder == "dead here" else "another"
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (tmp_path / "lock.claim").write_text(f"{host} {process.pid} abc")
    with one_at_a_time.one_at_a_time(tmp_path / "lock", lambda: None):
        assert str(os.getpid()) in (tmp_path / "lock.claim").read_text()
    assert not (tmp_path / "lock.claim").exists()
