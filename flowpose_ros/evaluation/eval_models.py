"""The meshes and diameters that scores are measured with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flowpose_ros.errors import DatasetError
from flowpose_ros.evaluation.bop_dataset import BopDataset
from flowpose_ros.evaluation.bop_scene import MM
from flowpose_ros.evaluation.json_input import read_json, take_numbers
from flowpose_ros.objects.catalogue import Catalogue, ObjectModel


@dataclass(frozen=True, eq=False)
class EvalModel:
    """An object as the metrics need it: diameter metres; symmetries [S,4,4] with the identity."""

    model: ObjectModel
    diameter: float
    symmetries: np.ndarray

    @property
    def vertices(self) -> np.ndarray:
        """Vertices [N,3] metres in the object's frame."""
        return self.model.mesh.vertices


def load_eval_models(dataset: BopDataset) -> dict[int, EvalModel]:
    """The dataset's objects by BOP id: ROOT/models_eval where it exists, else the dataset's catalogue.

    Raises CatalogueError or DatasetError when the folder or its models_info.json is unusable.
    """
    folder = dataset.root / "models_eval"
    catalogue = Catalogue.load(folder) if folder.is_dir() else dataset.catalogue
    stated = _stated_diameters(folder if folder.is_dir() else dataset.root / "models")
    models = {}
    for label in catalogue.labels:
        model = catalogue[label]
        if model.obj_id is not None:
            models[model.obj_id] = EvalModel(model, stated.get(model.obj_id, model.mesh.diameter),
                                             model.symmetries.transforms())
    if not models:
        raise DatasetError(f"{folder.parent}: expected objects with BOP ids, got {', '.join(catalogue.labels)}")
    return models


def _stated_diameters(folder: Path) -> dict[int, float]:
    """Diameters in metres from models_info.json: BOP's thresholds use these, not re-measured ones."""
    path = folder / "models_info.json"
    if not path.is_file():
        return {}
    diameters = {}
    for key, entry in read_json(path, dict).items():
        if not key.isdecimal():
            raise DatasetError(f"{path}: expected object numbers as keys, got {key!r}")
        diameters[int(key)] = take_numbers(entry, "diameter", 1, f"{path}: object {key}").item() * MM
    return diameters
