"""The README's program, as a reader runs it."""

import re
import shutil
from pathlib import Path

import cv2

ROOT = Path(__file__).resolve().parents[1]


def test_the_program_without_ros_prints_a_pose(tmp_path, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "models").mkdir()
    for path in (ROOT / "demo" / "models").glob("obj_000002.*"):
        shutil.copy(path, tmp_path / "models")
    (tmp_path / "models" / "objects.yaml").write_text("unit: mm\nobjects: {drill: {file: obj_000002.ply}}\n")
    cv2.imwrite(str(tmp_path / "image.png"), cv2.imread(str(next((ROOT / "demo" / "test" / "000000" / "rgb").iterdir()))))
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert re.match(r"drill 0\.\d+ \[\[", capsys.readouterr().out)
