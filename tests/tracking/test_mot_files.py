"""MOTChallenge files: what is read, what is refused, what is written."""

from __future__ import annotations

import numpy as np
import pytest

from pe_dense.tracking.mot_files import (
    find_sequences,
    ground_truth_lines,
    read_ground_truth,
    read_sequence_info,
    result_lines,
)

GOOD = "1,7,1,1,10,20,1,1,0.5\n\n2,7,3.5,1,10,20,0,8,1\n"


def write(tmp_path, text, encoding="ascii"):
    file = tmp_path / "gt.txt"
    file.write_bytes(text.encode(encoding))
    return file


def test_rows_are_read_by_column(tmp_path):
    rows = read_ground_truth(write(tmp_path, GOOD), 2)
    assert rows.frames_Q.tolist() == [1, 2] and rows.ids_Q.tolist() == [7, 7]
    assert rows.boxes_xywh_Q4.tolist() == [[1, 1, 10, 20], [3.5, 1, 10, 20]]
    assert rows.is_active.tolist() == [True, False] and rows.classes_Q.tolist() == [1, 8]
    assert rows.visibility_Q.tolist() == [0.5, 1.0]


def test_an_empty_file_is_a_sequence_without_boxes(tmp_path):
    rows = read_ground_truth(write(tmp_path, ""), 5)
    assert len(rows.frames_Q) == 0 and rows.boxes_xywh_Q4.shape == (0, 4)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1,7,1,1,10,20,1", "has 7 of the nine numbers"),
        ("1,7,1,1,ten,20,1,1,1", "is no number"),
        ("1,7,1,1,nan,20,1,1,1", "not finite"),
        ("3,7,1,1,10,20,1,1,1", "is of frame 3"),
        ("0,7,1,1,10,20,1,1,1", "is of frame 0"),
        ("1,7,1,1,0,20,1,1,1", "box of 0 x 20 px"),
        ("1,7.5,1,1,10,20,1,1,1", "fraction"),
        ("1,7,4,4,10,20,1,1,1", "identity 7 in frame 1 again, after line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words):
    file = write(tmp_path, f"1,7,1,1,10,20,1,1,1\n{line}\n")
    with pytest.raises(ValueError, match=words) as error:
        read_ground_truth(file, 2)
    assert f"{file} line 2" in str(error.value)


def test_missing_and_binary_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="scored on its server"):
        read_ground_truth(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="no text file"):
        read_ground_truth(write(tmp_path, "\xff\xfe", "latin-1"))


def test_a_range_of_frames_is_renumbered_and_reads_back(tmp_path):
    rows = read_ground_truth(write(tmp_path, GOOD), 2)
    [line] = ground_truth_lines(rows, 2, 2)
    again = read_ground_truth(write(tmp_path, line), 1)
    assert again.frames_Q.tolist() == [1] and again.classes_Q.tolist() == [8]
    np.testing.assert_array_equal(again.boxes_xywh_Q4, rows.boxes_xywh_Q4[1:])


def test_results_count_pixels_and_identities_from_1():
    [line] = result_lines(3, [0], np.array([[0.0, 4.0, 10.0, 24.0]]), [0.75])
    assert [float(v) for v in line.split(",")] == [3, 1, 1, 5, 10, 20, 0.75, -1, -1, -1]


def sequence(root, name="a", text="[Sequence]\nseqLength=4\nimHeight=8\nimWidth=9\n"):
    (root / name).mkdir()
    (root / name / "seqinfo.ini").write_text(text)
    return root / name


def test_sequences_are_found_by_pattern(tmp_path):
    sequence(tmp_path, "MOT17-02-SDP"), sequence(tmp_path, "MOT17-02-FRCNN")
    [info] = find_sequences(tmp_path, "*-FRCNN")
    assert (info.name, info.num_frames, info.height, info.width) == ("MOT17-02-FRCNN", 4, 8, 9)
    with pytest.raises(ValueError, match="no sequence named 'x'"):
        find_sequences(tmp_path, "x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Sequence]\nseqLength=four\nimHeight=8\nimWidth=9\n", "seqLength='four'"),
        ("[Sequence]\nimHeight=8\nimWidth=9\n", "seqLength=''"),
        ("[Other]\n", r"has no \[Sequence\]"),
        ("seqLength=4", "no INI file"),
    ],
)
def test_a_bad_seqinfo_is_named(tmp_path, text, words):
    with pytest.raises(ValueError, match=words):
        read_sequence_info(sequence(tmp_path, text=text))
    with pytest.raises(ValueError, match="missing"):
        read_sequence_info(tmp_path / "none")
