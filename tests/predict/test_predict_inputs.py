"""Words of a command line become pictures with names."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("cv2")

from pe_dense.predict.inputs import find_inputs, output_stems


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def names(words: list[object], **more: Path) -> list[str]:
    return [source.name for source in find_inputs(list(map(str, words)), **more).pictures]


def test_a_folder_is_searched_with_its_subfolders(tmp_path: Path) -> None:
    touch(tmp_path, "in/b.JPG", "in/a.png", "in/deep/c.webp", "in/notes.md", "in/.d.jpg",
          "in/.hidden/e.jpg", "in/__MACOSX/f.jpg", "in/clip.mp4")  # fmt: skip
    found = find_inputs([str(tmp_path / "in")])
    assert [source.name for source in found.pictures] == ["a.png", "b.JPG", "deep/c.webp"]
    assert found.videos == (str(tmp_path / "in" / "clip.mp4"),)
    assert found.passed_over == 1


def test_predictions_inside_the_folder_are_no_pictures(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/overlays/a.jpg")
    assert names([tmp_path], leave_out=tmp_path / "out") == ["a.jpg"]


def test_several_folders_have_their_names_in_front(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/a.jpg", "c.jpg")
    words = [tmp_path / "one", tmp_path / "two", tmp_path / "c.jpg"]
    assert names(words) == ["one/a.jpg", "two/a.jpg", "c.jpg"]


def test_files_are_called_by_themselves_or_by_their_folders(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "x/b.jpg", "y/a.jpg")
    files = [tmp_path / "x" / "a.jpg", tmp_path / "x" / "b.jpg"]
    assert names(files) == ["a.jpg", "b.jpg"]
    assert names([*files, tmp_path / "y" / "a.jpg"]) == ["x/a.jpg", "x/b.jpg", "y/a.jpg"]


def test_a_file_of_any_ending_may_be_named(tmp_path: Path) -> None:
    touch(tmp_path, "photo")
    assert names([tmp_path / "photo"]) == ["photo"]


def test_a_list_keeps_files_that_are_missing(tmp_path: Path) -> None:
    """They are told of when their turn comes, and stop nothing else."""
    touch(tmp_path, "sub/a.jpg", "b.jpg")
    (tmp_path / "list.txt").write_text("\ufeffsub/a.jpg\n\nb.jpg\r\ngone.jpg\n", encoding="utf-8")
    assert names([tmp_path / "list.txt"]) == ["sub/a.jpg", "b.jpg", "gone.jpg"]


def test_a_glob(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "x/y/b.jpg", "x/c.txt")
    assert names([tmp_path / "x" / "*"]) == ["a.jpg"]
    assert names([tmp_path / "**" / "*.jpg"]) == ["x/a.jpg", "x/y/b.jpg"]


def test_a_glob_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x/a.jpg", "y/a.jpg", "[1].jpg")
    monkeypatch.chdir(tmp_path)
    assert names(["*/*.jpg"]) == ["x/a.jpg", "y/a.jpg"]
    assert names(["[1].jpg"]) == ["[1].jpg"], "a file of that name is no glob"


def test_a_file_that_is_named_twice_is_one_picture(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    assert names([tmp_path, tmp_path / "a.jpg"]) == [f"{tmp_path.name}/a.jpg",
                                                     f"{tmp_path.name}/b.jpg"]  # fmt: skip


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("absent.jpg", "absent.jpg does not exist"),
        ("empty", "holds no picture and no video (1 other files)"),
        ("*.png", "matches no picture and no video (0 other paths)"),
        ("none.txt", "is empty"),
        ("odd.txt", "is no text in UTF-8"),
    ],
)
def test_what_names_nothing(tmp_path: Path, word: str, message: str) -> None:
    touch(tmp_path, "empty/readme")
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError) as caught:
        find_inputs([str(tmp_path / word)])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_two_pictures_of_one_name(tmp_path: Path) -> None:
    touch(tmp_path, "x/val/a.jpg", "y/val/a.jpg")
    with pytest.raises(ValueError, match=r"would both be written as val/a\.jpg"):
        find_inputs([str(tmp_path / "x" / "val"), str(tmp_path / "y" / "val")])


def test_a_link_into_itself(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in", target_is_directory=True)
    with pytest.raises(ValueError, match="is a link to a folder that it is in"):
        find_inputs([str(tmp_path / "in")])


def test_stems_that_clash_keep_their_endings() -> None:
    assert output_stems(["a.jpg", "b.jpg", "x/a.png"]) == {
        "a.jpg": "a", "b.jpg": "b", "x/a.png": "x/a",
    }  # fmt: skip
    assert output_stems(["a.jpg", "A.png"]) == {"a.jpg": "a.jpg", "A.png": "A.png"}
    with pytest.raises(ValueError, match=r"what is made of a\.jpg and a\.jpg\.jpg would have"):
        output_stems(["a.jpg", "a.png", "a.jpg.jpg"])


def test_a_folder_that_is_called_as_what_is_made_of_a_picture_is_refused() -> None:
    assert len(output_stems(["x.jpg", "x/y.jpg", "b.png/x.jpg"])) == 3
    with pytest.raises(ValueError, match=r"made of x.jpg would be called as the folder x.png"):
        output_stems(["x.jpg", "x.png/y.jpg"])
