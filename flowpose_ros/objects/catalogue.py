"""The objects that can be found: their meshes, symmetries and names, from one folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowpose_ros.errors import CatalogueError, GeometryError
from flowpose_ros.geometry.symmetry import SymmetryGroup
from flowpose_ros.objects.files import inside
from flowpose_ros.objects.listing import BOP_INFO, OWN_INFO, ListedObject, list_objects
from flowpose_ros.objects.load import MeshLimits, load_mesh, metres_per_unit
from flowpose_ros.objects.mesh import Mesh

DIAMETER_TOLERANCE = 0.05
"""Relative difference from the stated diameter beyond which a mesh is taken to be in another unit."""


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """An object that can be found.

    label: its name; obj_id: its number in BOP files, or None; mesh: metres, origin of the file;
    symmetries: metres, in the mesh's frame; path: the mesh file, links resolved; unit: of that file.
    """

    label: str
    obj_id: int | None
    mesh: Mesh
    symmetries: SymmetryGroup
    path: Path
    unit: str = "m"


class Catalogue:
    """Objects by label; the decimal obj_id is a second name ("8" for "obj_000008").

    Raises CatalogueError when two objects share a label or an id.
    """

    def __init__(self, models: Sequence[ObjectModel]) -> None:
        self._models = {model.label: model for model in models}
        self._labels_by_id = {str(model.obj_id): model.label for model in models if model.obj_id is not None}
        if len(self._models) < len(models):
            raise CatalogueError(f"expected labels that differ, got {', '.join(m.label for m in models)}")
        if len(self._labels_by_id) < sum(model.obj_id is not None for model in models):
            raise CatalogueError("expected ids that differ, got "
                                 f"{', '.join(f'{m.label}: {m.obj_id}' for m in models)}")
        for number, label in self._labels_by_id.items():
            if self._models.get(number, self._models[label]) is not self._models[label]:
                raise CatalogueError(f"expected labels that are no other object's id, got {number!r}, the id of {label}")

    @staticmethod
    def load(folder: str | Path, unit: str | None = None, labels: Sequence[str] | None = None,
             progress: Callable[[str, float], None] | None = None, limits: MeshLimits = MeshLimits()) -> Catalogue:
        """The objects of a folder: BOP's models/ as it is, or mesh files with an objects.yaml.

        unit: of the meshes for which the folder says none; labels: those to load, all if None;
        progress: told each label and the share done before it.
        Raises CatalogueError or MeshError when any object asked for is unusable.
        """
        folder = Path(folder)
        listed = _choose(folder, list_objects(folder), labels)
        models = []
        for index, item in enumerate(listed):
            if progress is not None:
                progress(item.label, index / len(listed))
            models.append(_load_one(folder, item, unit, limits))
        return Catalogue(models)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of all objects."""
        return tuple(self._models)

    def __getitem__(self, label: str) -> ObjectModel:
        if label not in self:
            raise CatalogueError(f"expected one of the objects {', '.join(self.labels)}, got {label!r:.100}")
        return self._models[label if label in self._models else self._labels_by_id[label]]

    def __contains__(self, label: str) -> bool:
        return label in self._models or label in self._labels_by_id

    def __iter__(self) -> Iterator[ObjectModel]:
        return iter(self._models.values())

    def __len__(self) -> int:
        return len(self._models)


def _choose(folder: Path, listed: list[ListedObject], labels: Sequence[str] | None) -> list[ListedObject]:
    """The listed objects that `labels` name, by label or by id; all of them if it is None."""
    if labels is None:
        return listed
    names = {str(item.obj_id): item for item in listed if item.obj_id is not None}
    names |= {item.label: item for item in listed}
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise CatalogueError(f"{folder}: expected some of the objects {', '.join(item.label for item in listed)}, "
                             f"got {', '.join(unknown)}")
    return list({names[label].label: names[label] for label in labels}.values())


def _load_one(folder: Path, item: ListedObject, unit: str | None, limits: MeshLimits) -> ObjectModel:
    unit = _unit_of(item, unit)
    path = inside(folder, item.path.absolute(), f"{item.source}: {item.label}", CatalogueError)
    mesh = load_mesh(path, unit, limits, root=folder)
    scale = metres_per_unit(unit, path)
    _check_diameter(item, mesh, unit, scale)
    try:
        symmetries = SymmetryGroup.from_models_info(item.info, scale)
    except (GeometryError, TypeError, ValueError) as error:
        raise CatalogueError(f"{item.source}: {item.label}: {error}") from error
    return ObjectModel(item.label, item.obj_id, mesh, symmetries, path, unit)


def _unit_of(item: ListedObject, given: str | None) -> str:
    """What the folder says, else what the caller says; never a guess."""
    unit = item.unit if item.unit is not None else given
    if unit is None:
        raise CatalogueError(f"{item.path}: expected its unit, got none; state `unit:` in {OWN_INFO}, or "
                             "pass --unit (of a node: the parameter object_unit)")
    if item.source.name == BOP_INFO and given not in (None, unit):
        raise CatalogueError(f"{item.source}: meshes beside {BOP_INFO} are in {unit}, got unit {given}")
    return unit


def _check_diameter(item: ListedObject, mesh: Mesh, unit: str, scale: float) -> None:
    stated = item.info.get("diameter")
    if stated is None:
        return
    if not isinstance(stated, (int, float)) or not 0 < stated < float("inf"):
        raise CatalogueError(f"{item.source}: {item.label}: diameter: expected a positive number, got {stated!r}")
    if abs(mesh.diameter / (stated * scale) - 1) > DIAMETER_TOLERANCE:
        raise CatalogueError(f"{item.source}: {item.label}: expected the stated diameter of {stated * scale:.4g} m, "
                             f"got a mesh of {mesh.diameter:.4g} m; the unit {unit} may be wrong")
