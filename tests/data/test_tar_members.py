"""Members of tar files: the same as tarfile finds, and files that end too early are refused."""

import io
import itertools
import os
import tarfile

import numpy as np
import pytest

from pe_dense.data import tar_members as module
from pe_dense.data.tar_members import tar_members, tar_members_slowly

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def member(name, size=0, **fields):
    info = tarfile.TarInfo(name)
    info.size = size
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def write(path, infos, **options):
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w", **options) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(rng.bytes(info.size)))
    return path


def both(path):
    fast, slow = tar_members(path), tar_members_slowly(path)
    assert fast == slow
    with tarfile.open(path) as tar, path.open("rb") as file:
        infos = [info for info in tar if info.isreg() and not info.issparse()]
        for found, info in zip(fast, infos, strict=True):
            file.seek(found.offset)
            assert file.read(found.num_bytes) == tar.extractfile(info).read()
    return fast


def some_members(longest):
    names = ["a.jpg", "\u00e4/\u4e2d.png", "d" * 60 + "/" + "e" * 60 + ".jpg", "f" * longest]
    sizes = itertools.cycle([0, 1, 511, 512, 513, 70_000, 300_000])
    yield member("folder", type=tarfile.DIRTYPE)
    for number, name in enumerate(names * 3):
        yield member(f"{number}/{name}"[:longest], next(sizes), mtime=number)
    yield member("link.jpg", type=tarfile.SYMTYPE, linkname="g" * min(longest, 90))
    yield member("hard.jpg", type=tarfile.LNKTYPE, linkname="a.jpg")
    yield member("last.jpg", 5)


@pytest.mark.parametrize("layout", FORMATS)
def test_equal_to_tarfile_in_every_format(tmp_path, layout):
    longest = 99 if layout == tarfile.USTAR_FORMAT else 400
    path = write(tmp_path / "a.tar", some_members(longest), format=layout)
    found = both(path)
    assert len(found) == 13 and max(len(m.name) for m in found) >= longest
    assert found[-1].name == "last.jpg" and found[-1].num_bytes == 5


def test_pax_headers_of_fractional_times(tmp_path):  # as WebDataset's writer makes them
    infos = [member(f"{n}.jpg", 700, mtime=n + 0.5) for n in range(30)]
    assert [m.name for m in both(write(tmp_path / "a.tar", infos))] == [
        f"{n}.jpg" for n in range(30)
    ]


def test_long_links_and_names_that_are_no_utf8(tmp_path):
    infos = [
        member("l" * 150, type=tarfile.SYMTYPE, linkname="t" * 150),
        member("\udcff\udcfe.jpg", 3),
        member("\udcff" * 120 + ".jpg", 4),
        member("plain.jpg", 5),
    ]
    path = write(tmp_path / "a.tar", infos, format=tarfile.GNU_FORMAT)
    assert [m.num_bytes for m in both(path)] == [3, 4, 5]


def test_rare_kinds_are_left_to_tarfile(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", [member("a.jpg", 3)], pax_headers={"comment": "global"})
    assert [m.name for m in both(path)] == ["a.jpg"]
    monkeypatch.setattr(module, "tar_members_slowly", lambda shard: "asked")
    assert tar_members(path) == "asked"


def test_an_empty_tar_file_has_no_members(tmp_path):
    assert both(write(tmp_path / "a.tar", [])) == []


@pytest.mark.parametrize("layout", FORMATS)
def test_whatever_is_cut_off_is_refused_by_name(tmp_path, layout):
    infos = [member(f"{n}" * 90 + ".jpg", 600 * n, mtime=n + 0.5 * (layout == 2)) for n in range(3)]
    path = write(tmp_path / "a.tar", infos, format=layout)
    content = path.read_bytes()
    whole = both(path)
    end = content.rstrip(b"\0")
    least = -(-len(end) // 512) * 512 + 512  # one block of zeros
    for length in [*range(0, least, 256), least - 1]:
        path.write_bytes(content[:length])
        for read in (tar_members, tar_members_slowly):
            with pytest.raises(ValueError, match=r"a\.tar (ends|has no end|is no readable)"):
                read(path)
    path.write_bytes(content[:least])
    assert both(path) == whole


def test_damage_is_found_where_it_is(tmp_path):
    path = write(tmp_path / "a.tar", [member(f"{n}.jpg", 600) for n in range(4)])
    content = bytearray(path.read_bytes())
    content[3 * 512 + 20] ^= 1  # in the name of the second
    path.write_bytes(content)
    for read in (tar_members, tar_members_slowly):
        with pytest.raises(ValueError, match=r"a\.tar is damaged: .* at byte 1,536"):
            read(path)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b" + bytes(600), b"x" * 2000, b"\x89PNG"])
def test_other_files(tmp_path, content):
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    for read in (tar_members, tar_members_slowly):
        with pytest.raises(ValueError, match="no readable, uncompressed tar file") as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_beyond_four_and_eight_gigabytes(tmp_path, layout):
    path = tmp_path / "a.tar"
    with path.open("wb") as file:  # holes of a sparse file: it takes no room
        for size in (5 << 30, 9 << 30):
            file.write(member("large.bin", size).tobuf(layout))
            file.seek(size, os.SEEK_CUR)
        file.write(member("a.jpg", 3).tobuf(layout) + b"abc" + bytes(509 + 1024))
    found = tar_members(path)
    assert found == tar_members_slowly(path)
    assert [m.num_bytes for m in found] == [5 << 30, 9 << 30, 3]
    with path.open("rb") as file:
        assert (
            os.pread(file.fileno(), 3, found[-1].offset) == b"abc" and found[-1].offset > 14 << 30
        )


def with_new_checksum(header):
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


@pytest.mark.parametrize("layout", FORMATS)
def test_broken_files_give_what_tarfile_gives_or_are_refused_by_name(tmp_path, layout):
    infos = [
        member(f"{n}" * (90 if n % 2 else 5) + ".jpg", 5 + 300 * n, mtime=n + 0.5 * (layout == 2))
        for n in range(4)
    ]
    content = write(tmp_path / "a.tar", infos, format=layout).read_bytes().rstrip(b"\0")
    content += bytes(-len(content) % 512 + 1024)
    rng = np.random.default_rng(layout)
    path = tmp_path / "b.tar"
    outcomes = set()
    for _ in range(400):
        changed = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            block = 512 * int(rng.integers(len(content) // 512 - 2))
            field = [range(100), range(124, 136), [156], range(512)][rng.integers(4)]
            if len(field) == 512 and changed[block + 257 : block + 262] == b"ustar":
                continue  # fields that only one of the two looks at
            at = block + int(rng.choice(field))
            changed[at] = rng.choice([0, 32, 48, 55, 128, 255, ord("L"), ord("x"), ord("=")])
            if changed[block + 257 : block + 262] == b"ustar":
                changed[block : block + 512] = with_new_checksum(
                    bytes(changed[block : block + 512])
                )
        path.write_bytes(changed)
        found = []
        for read in (tar_members, tar_members_slowly):
            try:
                found.append(read(path))
            except ValueError as error:
                assert str(path) in str(error)
                found.append("refused")
        assert found[0] == found[1], found
        outcomes.add(found[0] == "refused")
    assert outcomes == {True, False}
