"""BOP csv files: what is written is read back, and what is wrong is named."""

import numpy as np
import pytest
import synthetic_bop
from hypothesis import given, settings
from hypothesis import strategies as st

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import ImageId
from flowpose_ros.evaluation.results import (HEADER, ResultRow, read_results, result_file_name,
                                             write_results)

IDENTITY = "1 0 0 0 1 0 0 0 1"
GOOD = f"1,2,3,0.5,{IDENTITY},10 20 -30,0.25"


def write(path, *lines, header=HEADER):
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_header_and_units_are_bops(tmp_path):
    T = np.array([[0, -1, 0, 0.01], [1, 0, 0, 0.02], [0, 0, 1, 0.5], [0, 0, 0, 1.0]])
    write_results(tmp_path / "r.csv", [ResultRow(ImageId(1, 2), 3, 0.5, T, 0.25)])
    assert (tmp_path / "r.csv").read_text() == (
        "scene_id,im_id,obj_id,score,R,t,time\n1,2,3,0.5,0 -1 0 1 0 0 0 0 1,10 20 500,0.250000\n")


@settings(max_examples=30)
@given(rotation=st.tuples(*[st.floats(-3, 3)] * 3), translation=st.tuples(*[st.floats(-5, 5)] * 3),
       score=st.floats(0, 1))
def test_rows_survive_writing(tmp_path_factory, rotation, translation, score):
    row = ResultRow(ImageId(48, 1), 21, score, synthetic_bop.pose(rotation, translation), -1.0)
    path = tmp_path_factory.mktemp("results") / "r.csv"
    write_results(path, [row])
    back, = read_results(path)
    assert (back.image_id, back.obj_id, back.time) == (row.image_id, row.obj_id, row.time)
    assert back.score == pytest.approx(row.score, rel=1e-6)
    np.testing.assert_allclose(back.T_cam_obj, row.T_cam_obj, atol=1e-8)


@pytest.mark.parametrize("line, message", [
    ("1,2,3", "line 3: expected 7 fields .*got 3"),
    (f"x,2,3,0.5,{IDENTITY},0 0 1,1", "line 3: scene_id: expected an integer, got 'x'"),
    (f"1,2,3.5,0.5,{IDENTITY},0 0 1,1", "line 3: obj_id: expected an integer, got '3.5'"),
    (f"1,2,3,nan,{IDENTITY},0 0 1,1", "line 3: score: expected 1 finite number, got 'nan'"),
    ("1,2,3,0.5,1 0 0 0 1 0 0 0,0 0 1,1", "line 3: R: expected 9 finite numbers"),
    ("1,2,3,0.5,2 0 0 0 1 0 0 0 1,0 0 1,1", "line 3: R: expected a rotation"),
    ("1,2,3,0.5,1 0 0 0 1 0 0 0 -1,0 0 1,1", "line 3: R: expected a rotation"),
    (f"1,2,3,0.5,{IDENTITY},0 inf 1,1", "line 3: t: expected 3 finite numbers, got '0 inf 1'"),
    (f"1,9,3,0.5,{IDENTITY},0 0 1,-3", "line 3: time: expected seconds, or -1 for none, got '-3'"),
    (f"1,2,4,0.5,{IDENTITY},0 0 1,0.252", "line 3: time: expected 0.25 .* of image 000001/000002, got 0.252"),
])
def test_broken_lines_are_named(tmp_path, line, message):
    with pytest.raises(DatasetError, match=r"r\.csv: " + message):
        read_results(write(tmp_path / "r.csv", GOOD, line))


def test_times_of_one_image_may_differ_by_less_than_a_millisecond(tmp_path):
    rows = read_results(write(tmp_path / "r.csv", GOOD, f"1,2,4,0.5,{IDENTITY},0 0 1,0.2509"))
    assert len(rows) == 2


@pytest.mark.parametrize("content", [b"", b"a,b\n", b"\xff\xfe\x00"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "r.csv").write_bytes(content)
    with pytest.raises(DatasetError, match="r.csv"):
        read_results(tmp_path / "r.csv")


def test_missing_file_and_unwritable_path_are_named(tmp_path):
    with pytest.raises(DatasetError, match="none.csv"):
        read_results(tmp_path / "none.csv")
    with pytest.raises(DatasetError, match="expected a writable path"):
        write_results(tmp_path, [])


def test_file_name_follows_bops_rule():
    assert result_file_name("flowpose-genflow", "ycbv", "test") == "flowpose-genflow_ycbv-test.csv"
    assert result_file_name("m", "tless", "test", "primesense", "a1") == "m_tless-test-primesense_a1.csv"
    for parts in (("flow_pose", "ycbv", "test"), ("m", "y-v", "test"), ("", "ycbv", "test"), ("m", "ycbv", "a/b")):
        with pytest.raises(DatasetError, match="result file name"):
            result_file_name(*parts)
