"""`flowpose onboard` on a mesh file, a BOP folder and our own folder."""

import mesh_files
import numpy as np
import pytest
import synthetic_bop
import trimesh
import yaml

from flowpose_ros.cli.main import main
from flowpose_ros.evaluation.images import read_color
from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.objects.catalogue import Catalogue
from flowpose_ros.rendering.contact_sheet import COLUMNS, ROWS, VIEW_PIXELS


def snippet(out):
    """The part of the output that is meant for objects.yaml."""
    return out.split("objects.yaml:\n\n")[1]


def test_a_mesh_file(tmp_path, capsys):
    path = mesh_files.write_glb(tmp_path / "crate.glb")
    assert main(["onboard", str(path), "--unit", "mm", "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    cells = out.splitlines()[2].split()
    assert cells == "crate - 2 12 24 mm 0.0800 x 0.0600 x 0.0400 0.1077 1 none".split()
    assert yaml.safe_load(snippet(out)) == {"objects": {"crate": {"file": "crate.glb", "unit": "mm",
                                                                  "diameter": pytest.approx(107.703, rel=1e-5)}}}


def test_the_picture_shows_every_view_whole_and_every_colour(tmp_path):
    path = mesh_files.write_ply(tmp_path / "box.ply", True)
    assert main(["onboard", str(path), "--unit", "mm", "--output", str(tmp_path)]) == 0
    image = read_color(tmp_path / "box.png").astype(int)
    assert image.shape == (ROWS * VIEW_PIXELS, COLUMNS * VIEW_PIXELS, 3)
    views = image.reshape(ROWS, VIEW_PIXELS, COLUMNS, VIEW_PIXELS, 3).swapaxes(1, 2).reshape(-1, *2 * [VIEW_PIXELS], 3)
    background = image[0, 0]
    seen = (views != background).any(-1)
    assert (seen.mean((1, 2)) > 0.1).all()
    border = np.concatenate([seen[:, 0], seen[:, -1], seen[:, :, 0], seen[:, :, -1]])
    assert not border.any()
    for color in mesh_files.COLORS / np.linalg.norm(mesh_files.COLORS, axis=1, keepdims=True):
        pixels = image[(image != background).any(-1)]
        assert (pixels @ color > 0.999 * np.linalg.norm(pixels, axis=1)).any()


def test_a_folder_and_its_snippet_say_the_same(tmp_path, capsys):
    models = tmp_path / "models"
    synthetic_bop.write_models(models)
    assert main(["onboard", str(models), "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "0 discrete, 1 axes" in out and (tmp_path / "out" / "obj_000003.png").is_file()
    before = Catalogue.load(models)
    (models / "objects.yaml").write_text(snippet(out))
    after = Catalogue.load(models)
    assert after.labels == before.labels and after["7"].label == "obj_000007"
    for old, new in zip(before, after):
        assert np.allclose(old.symmetries.transforms(), new.symmetries.transforms())
        assert old.mesh.content_hash == new.mesh.content_hash


def test_what_a_folder_holds_beside_objects_is_told(tmp_path, capsys):
    mesh_files.write_ply(tmp_path / "box.ply", True)
    (tmp_path / "valve.step").touch()
    assert main(["onboard", str(tmp_path), "--unit", "mm", "--output", str(tmp_path / "out")]) == 0
    assert "not read: valve.step: objects are files ending in .ply" in capsys.readouterr().out


def test_symmetries_of_the_shape_are_a_hint_that_can_be_taken(tmp_path, capsys):
    path = mesh_files.write_ply(tmp_path / "box.ply", True)
    assert main(["onboard", str(path), "--unit", "mm", "--output", str(tmp_path)]) == 0
    out = snippet(capsys.readouterr().out)
    assert "symmetries_discrete" not in yaml.safe_load(out)["objects"]["box"]
    hint = "\n".join(line[2:] for line in out.split("as well:\n")[1].splitlines())
    group = SymmetryGroup.from_models_info(yaml.safe_load(hint)["box"], 0.001)
    assert len(group.discrete) == 3
    assert np.allclose(group.discrete @ [*mesh_files.ORIGIN / 1000, 1], [*mesh_files.ORIGIN / 1000, 1], atol=1e-6)


def test_a_mesh_of_a_bop_folder_is_in_millimetres_also_through_a_link(tmp_path, capsys):
    synthetic_bop.write_models(tmp_path / "models")
    (tmp_path / "mug.ply").symlink_to(tmp_path / "models" / "obj_000003.ply")
    assert main(["onboard", str(tmp_path / "mug.ply"), "--output", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert f"for {tmp_path / 'models' / 'objects.yaml'}" in out
    entry = yaml.safe_load(snippet(out))["objects"]["obj_000003"]
    assert entry["file"] == "obj_000003.ply" and entry["unit"] == "mm"


def test_one_mesh_of_a_folder_keeps_what_the_folder_says_of_it(tmp_path, capsys):
    synthetic_bop.write_models(tmp_path / "models")
    path = tmp_path / "models" / f"obj_{synthetic_bop.CAN:06d}.ply"
    assert main(["onboard", str(path), "--output", str(tmp_path / "out")]) == 0
    entry = yaml.safe_load(snippet(capsys.readouterr().out))["objects"][path.stem]
    assert entry["id"] == synthetic_bop.CAN and len(entry["symmetries_continuous"]) == 1


def test_an_origin_far_from_the_body_is_told(tmp_path, capsys):
    trimesh.creation.box((80, 60, 40), transform=trimesh.transformations.translation_matrix((0, 3000, 0))).export(
        tmp_path / "part.stl")
    assert main(["onboard", str(tmp_path / "part.stl"), "--unit", "mm", "--output", str(tmp_path / "out")]) == 0
    assert "part: its file's origin, whose pose is published, lies 3 m from its middle" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, expected", [
    (["box.ply"], "box.ply: expected its unit, got none; pass --unit m|cm|mm|inch"),
    (["box.ply", "--unit", "m"], "is the unit right?"),
    (["none.ply", "--unit", "mm"], "none.ply: expected a file, got nothing there"),
    (["."], "expected its unit, got none"),
    (["box.ply", "--unit", "mm", "--output", "box.ply"], "box.ply: expected a folder to write to, got File exists")])
def test_what_cannot_be_used_is_one_line(arguments, expected, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mesh_files.write_ply(tmp_path / "box.ply", True)
    assert main(["onboard", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and expected in error[0]
