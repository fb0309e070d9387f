"""Folders of objects: BOP's and our own; every unusable one refused by name."""

import json
from pathlib import Path

import mesh_files
import numpy as np
import pytest
import synthetic_bop

from flowpose_ros.errors import CatalogueError, MeshError
from flowpose_ros.objects.catalogue import Catalogue, ObjectModel
from flowpose_ros.objects.listing import overlooked


@pytest.fixture
def bop(tmp_path):
    """BOP's models/ with obj_000003 (a box) and obj_000007 (a can with an axis of symmetry)."""
    synthetic_bop.write_models(tmp_path / "models")
    return tmp_path / "models"


@pytest.fixture
def own(tmp_path):
    """A folder with one mesh file, mug.ply, and one subfolder, crate/, in millimetres."""
    folder = tmp_path / "objects"
    (folder / "crate").mkdir(parents=True)
    mesh_files.write_ply(folder / "mug.ply", binary=True)
    mesh_files.write_obj(folder / "crate" / "textured.obj", textured=True)
    return folder


def describe(folder, text):
    (folder / "objects.yaml").write_text(text)


def refusal(folder, *args, error=CatalogueError, **kwargs):
    """The one line with which a folder is refused."""
    with pytest.raises(error) as caught:
        Catalogue.load(folder, *args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- BOP --------------------------------------------------------------------------------------------------

def test_bop_models_as_they_are(bop):
    catalogue = Catalogue.load(bop)
    assert catalogue.labels == ("obj_000003", "obj_000007") and len(catalogue) == 2
    assert [model.obj_id for model in catalogue] == [3, 7]
    can = catalogue["obj_000007"]
    assert can.mesh.diameter == pytest.approx(np.hypot(0.06, 0.09), rel=1e-3)
    assert can.path == (bop / "obj_000007.ply").resolve()
    assert catalogue["obj_000003"].symmetries.is_trivial and len(can.symmetries.axes) == 1


def test_a_decimal_id_is_a_second_name(bop):
    catalogue = Catalogue.load(bop)
    assert catalogue["7"] is catalogue["obj_000007"]
    assert "7" in catalogue and "obj_000007" in catalogue
    assert "8" not in catalogue and "07" not in catalogue and "" not in catalogue


@pytest.mark.parametrize("name", ["8", "mug", "", "9" * 5000])
def test_an_unknown_name_is_answered_with_the_known_ones(bop, name):
    with pytest.raises(CatalogueError, match="expected one of the objects obj_000003, obj_000007"):
        Catalogue.load(bop)[name]


def test_lengths_of_symmetries_become_metres(bop):
    half_turn = [-1, 0, 0, 100, 0, -1, 0, 40, 0, 0, 1, 0, 0, 0, 0, 1]
    info = {"3": {"symmetries_discrete": [half_turn]},
            "7": {"symmetries_continuous": [{"axis": [0, 0, 2], "offset": [10, 0, 0]}]}}
    (bop / "models_info.json").write_text(json.dumps(info))
    catalogue = Catalogue.load(bop)
    assert np.allclose(catalogue["3"].symmetries.discrete[0, :3, 3], (0.1, 0.04, 0))
    axis, = catalogue["7"].symmetries.axes
    assert np.allclose(axis.offset, (0.01, 0, 0)) and np.allclose(axis.direction, (0, 0, 1))


def test_a_diameter_that_does_not_fit_betrays_the_unit(bop):
    (bop / "models_info.json").write_text(json.dumps({"3": {"diameter": 0.1077}, "7": {}}))
    assert "the unit mm may be wrong" in refusal(bop)
    (bop / "models_info.json").write_text(json.dumps({"3": {"diameter": 107.7 * 1.06}, "7": {}}))
    assert "the unit mm may be wrong" in refusal(bop)
    (bop / "models_info.json").write_text(json.dumps({"3": {"diameter": 107.7 * 1.04}, "7": {}}))
    assert len(Catalogue.load(bop)) == 2


def test_bop_is_in_millimetres_whatever_is_said(bop):
    assert len(Catalogue.load(bop, unit="mm")) == 2
    assert "are in mm, got unit m" in refusal(bop, unit="m")


@pytest.mark.parametrize("content, expected", [
    ("{", "expected JSON"), ("[]", "expected a mapping"), ('{"3": 5}', "3: expected a mapping"),
    ('{"3": {"diameter": "big"}}', "diameter: expected a positive number"),
    ('{"3": {"symmetries_discrete": [[1, 2]]}}', "expected 16 numbers, got 2"),
    ('{"3": {"symmetries_discrete": 5}}', "obj_000003"),
    ('{"3": {"symmetries_continuous": [{"axis": [0, 0, 0]}]}}', "expected a non-zero axis")])
def test_a_broken_models_info_is_named(bop, content, expected):
    (bop / "models_info.json").write_text(content)
    message = refusal(bop)
    assert "models_info.json" in message and expected in message


def test_only_the_objects_asked_for_are_read(bop):
    (bop / "obj_000003.ply").write_text("broken")
    told = []
    catalogue = Catalogue.load(bop, labels=["7", "obj_000007"], progress=lambda *news: told.append(news))
    assert catalogue.labels == ("obj_000007",) and told == [("obj_000007", 0.0)]
    assert "obj_000003.ply" in refusal(bop, error=MeshError)
    assert "expected some of the objects obj_000003, obj_000007, got mug" in refusal(bop, labels=["mug", "7"])


# --- our own ----------------------------------------------------------------------------------------------

def test_files_and_subfolders_are_objects_named_by_themselves(own):
    (own / "textures").mkdir()
    (own / "README.txt").touch()
    catalogue = Catalogue.load(own, unit="mm")
    assert catalogue.labels == ("crate", "mug")
    assert all(model.obj_id is None and model.symmetries.is_trivial for model in catalogue)
    assert len(catalogue["crate"].mesh.textures) == 1
    assert catalogue["mug"].mesh.diameter == pytest.approx(0.1077, rel=1e-3)


def test_units_are_never_guessed(own):
    assert "expected its unit, got none" in refusal(own)
    assert "expected one of m, cm, mm, inch, got 'feet'" in refusal(own, unit="feet", error=MeshError)
    describe(own, "unit: mm\n")
    assert len(Catalogue.load(own)) == 2
    describe(own, "unit: [mm]\n")
    assert "got ['mm']" in refusal(own, error=MeshError)


def test_objects_yaml_says_everything_about_an_object(own):
    describe(own, """
unit: m
objects:
  cup:
    file: mug.ply
    unit: mm
    id: 8
    diameter: 107.7
    symmetries_continuous: [{axis: [0, 0, 1], offset: [10, 20, 0]}]
    symmetries_discrete: [[-1, 0, 0, 20, 0, -1, 0, 40, 0, 0, 1, 0, 0, 0, 0, 1]]
  12: {file: crate/textured.obj, unit: cm}
""")
    catalogue = Catalogue.load(own, unit="inch")
    assert catalogue.labels == ("12", "cup") and catalogue["8"].label == "cup"
    assert catalogue["cup"].mesh.diameter == pytest.approx(0.1077, rel=1e-3)
    assert catalogue["12"].mesh.diameter == pytest.approx(1.077, rel=1e-3)
    assert np.allclose(catalogue["cup"].symmetries.axes[0].offset, (0.01, 0.02, 0))
    assert np.allclose(catalogue["cup"].symmetries.discrete[0, :3, 3], (0.02, 0.04, 0))


@pytest.mark.parametrize("content, expected", [
    ("objects: {mug: {file: ../mug.ply, unit: mm}}", "expected a file inside"),
    ("objects: {mug: {file: /etc/hostname, unit: mm}}", "expected a file inside"),
    ("objects: {mug: {file: link.ply, unit: mm}}", "expected a file inside"),
    ("objects: {mug: {unit: mm}}", "mug: file: expected the path of a mesh, got None"),
    ("objects: {mug: {file: mug.ply}}", "expected its unit, got none"),
    ("objects: {mug: {file: mug.ply, unit: mm, id: one}}", "mug: id: expected an integer, got 'one'"),
    ("objects: {mug: {file: mug.ply, units: mm}}", "expected only"),
    ("objects: {mug: mug.ply}", "mug: expected a mapping"),
    ("objects: {mug: {file: mug.ply, unit: mm, diameter: 50}}", "the unit mm may be wrong"),
    ("objects: {a: {file: mug.ply, unit: mm, id: 1}, b: {file: mug.ply, unit: mm, id: 1}}", "expected ids that differ"),
    ("objects: {a/b: {file: mug.ply, unit: mm}}", "expected labels without a slash, got 'a/b'"),
    ("objects: {}", "expected meshes"),
    ("meshes: {}", "expected only"),
    ("objects: [", "expected YAML"),
    ("", "expected a mapping")])
def test_a_broken_objects_yaml_is_refused(own, content, expected):
    mesh_files.write_ply(own.parent / "mug.ply", binary=True)
    (own / "link.ply").symlink_to(own.parent / "mug.ply")
    describe(own, content)
    assert expected in refusal(own)


def test_a_missing_mesh_is_named(own):
    describe(own, "objects: {mug: {file: lost.ply, unit: mm}}")
    assert "lost.ply: expected a file, got nothing there" in refusal(own, error=MeshError)


def test_meshes_that_lead_out_of_the_folder_are_refused(own, bop):
    mesh_files.write_ply(own.parent / "outside.ply", binary=True)
    (own / "link.ply").symlink_to(own.parent / "outside.ply")
    (bop / "obj_000009.ply").symlink_to(own.parent / "outside.ply")
    assert "link: expected a file inside" in refusal(own, unit="mm")
    assert "obj_000009: expected a file inside" in refusal(bop)
    assert len(Catalogue.load(own, unit="mm", labels=["mug"])) == 1


def test_the_example_is_usable(tmp_path):
    example = Path(__file__).parents[2] / "config" / "objects" / "objects.yaml"
    describe(tmp_path, example.read_text().replace("diameter: 0.36", "diameter: 0.1077"))
    (tmp_path / "crate").mkdir()
    mesh_files.write_ply(tmp_path / "mug.ply", binary=True)
    mesh_files.write_obj(tmp_path / "bowl.obj", textured=False)
    mesh_files.write_stl(tmp_path / "box.stl")
    metres = mesh_files.two_parts().apply_scale(0.001)
    (tmp_path / "crate" / "crate.glb").write_bytes(metres.export(file_type="glb"))
    catalogue = Catalogue.load(tmp_path)
    assert catalogue.labels == ("bowl", "box", "crate", "mug") and catalogue["8"].label == "crate"
    assert all(model.mesh.diameter == pytest.approx(0.1077, rel=1e-3) for model in catalogue)


def test_a_relative_folder(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    assert len(Catalogue.load("objects", unit="mm")) == 2


def test_two_meshes_of_one_name_are_refused(own):
    mesh_files.write_stl(own / "mug.stl")
    assert "mug: expected one mesh, got mug.ply, mug.stl" in refusal(own, unit="mm")


def test_two_meshes_in_one_subfolder_are_refused(own):
    mesh_files.write_stl(own / "crate" / "b.stl")
    assert "crate: expected one mesh, got crate/b.stl, crate/textured.obj" in refusal(own, unit="mm")


def test_missing_and_empty_folders(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert "got nothing there" in refusal(tmp_path / "none")
    assert "got a file" in refusal(tmp_path / "file")
    assert "expected meshes (.ply, .obj, .glb, .gltf, .stl)" in refusal(tmp_path / "empty")


def test_labels_must_differ(bop):
    model = Catalogue.load(bop)["3"]
    twin = ObjectModel(model.label, 4, model.mesh, model.symmetries, model.path)
    with pytest.raises(CatalogueError, match="expected labels that differ, got obj_000003, obj_000003"):
        Catalogue([model, twin])


def test_a_label_that_is_another_objects_number_is_refused(bop):
    model = Catalogue.load(bop)["3"]
    named = ObjectModel("3", 4, model.mesh, model.symmetries, model.path)
    with pytest.raises(CatalogueError, match="expected labels that are no other object's id, got '3', the id of obj_000003"):
        Catalogue([model, named])
    assert Catalogue([ObjectModel("3", 3, model.mesh, model.symmetries, model.path)])["3"].obj_id == 3


def test_what_looks_like_an_object_and_is_none_is_told(own):
    (own / "drill" / "meshes").mkdir(parents=True)
    (own / "drill" / "meshes" / "drill.ply").touch()
    for name in ("valve.step", "README.txt"):
        (own / name).touch()
    assert overlooked(own) == ["drill/", "valve.step"]
    (own / "objects.yaml").write_text("unit: mm\n")
    assert overlooked(own) == []


def test_real_models(data_root):
    catalogue = Catalogue.load(data_root / "real_dev" / "ycbv" / "models", labels=["14", "8"])
    assert catalogue.labels == ("obj_000014", "obj_000008")
    assert all(len(model.mesh.textures) == 1 for model in catalogue)
