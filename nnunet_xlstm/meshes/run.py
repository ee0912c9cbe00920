"""Label maps to mesh files, case by case, and meshes.json, which says how well the meshes keep the volumes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm import __version__
from nnunet_xlstm.choices import MESH_BACKENDS, MESH_FORMATS, RENDERERS, SMOOTHING_STEPS, SPACES
from nnunet_xlstm.datasets.dataset_json import DatasetFile
from nnunet_xlstm.errors import DatasetError, failed_text
from nnunet_xlstm.evaluation.cases import find_cases
from nnunet_xlstm.imaging.images import read_label_map
from nnunet_xlstm.io.protect import protect_inputs
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.tables import text_table
from nnunet_xlstm.io.write import staging, write_json
from nnunet_xlstm.meshes.mesh import Mesh, compact, volume_and_area
from nnunet_xlstm.meshes.render import choose_renderer, draw_mesh
from nnunet_xlstm.meshes.smooth import smooth
from nnunet_xlstm.meshes.surface_nets import surface_nets
from nnunet_xlstm.meshes.vtk_nets import mesh_with_vtk
from nnunet_xlstm.meshes.write import WRITERS, write_vtp
from nnunet_xlstm.parallel import for_each

INDEX = "meshes.json"
# Points are in mm in LPS (x to the left, y to the back, z to the head), as in ITK and DICOM, or in RAS, as in NIfTI.
AXES = {"LPS": np.diag([1.0, 1.0, 1.0]), "RAS": np.diag([-1.0, -1.0, 1.0])}
MAX_LABELS = 1024
OFF = 0.02  # a mesh that is further from the volume of its voxels is flagged


@dataclass(frozen=True)
class Settings:
    """How meshes are made and written.

    Attributes:
        labels: ids; empty for all of a case.
        names: label id -> name.
        steps: of the smoothing, 0 for the faces of the voxels.
        render: None, or one of RENDERERS.
    """

    labels: tuple[int, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    steps: int = SMOOTHING_STEPS
    formats: tuple[str, ...] = MESH_FORMATS[:1]
    space: str = SPACES[0]
    backend: str = MESH_BACKENDS[0]
    render: str | None = None

    def __post_init__(self):
        known = (("backend", MESH_BACKENDS), ("space", SPACES), ("render", (None, *RENDERERS)))
        for name, valid in known:
            if getattr(self, name) not in valid:
                raise DatasetError(f"{name} '{getattr(self, name)}' is unknown; use {' or '.join(map(str, valid))}")
        if not self.formats or not set(self.formats) <= set(MESH_FORMATS):
            raise DatasetError(f"formats {list(self.formats)}: give one or more of {list(MESH_FORMATS)}")
        if self.steps < 0:
            raise DatasetError(f"{self.steps} smoothing steps were asked for; use 0 (none) or more")
        if any(label < 1 for label in self.labels):
            raise DatasetError(f"labels {list(self.labels)}: ids are 1 or more; 0 is the background, which has no mesh")


def mesh_files(
    source: Path, out: Path, settings: Settings, processes: int = 1, inputs: Sequence[Path] = ()
) -> dict[str, Any]:
    """Write the meshes of a label map, or of all in a folder, and meshes.json; returns its content.

    A case gets a folder `out/CASE` with one file per label and format, named ID_NAME. With the format vtp there is also
    walls.vtp: every wall once, with the two labels of each triangle (BoundaryLabels, 0 where there is none). The meshes
    of an earlier run stay until all new ones are written; then those that were not made again are removed.

    Args:
        source: label map, or folder of label maps.
        out: folder that gets one folder per case.
        settings: how meshes are made and written.
        processes: cases at a time.
        inputs: further files that must not be replaced.

    Raises:
        ConfigError: meshes.json is a file that is read.
        DatasetError: no label map, one that cannot be meshed, or a label without a name that no case has.
        WriteError: a file cannot be written. UserError: a process was ended from outside.
    """
    cases = find_cases(source)
    protect_inputs([out / INDEX], [*cases.values(), *inputs])
    earlier = _files_of(out)
    if settings.render is not None:
        settings = replace(settings, render=choose_renderer(settings.render))
    with staging(out, last=[INDEX]) as fresh:
        items = list(cases.items())
        labels = for_each(_labels_of, items, processes, desc="check", caught=(DatasetError,))
        _check_cases(source, {case: found for (case, _), found in labels}, settings)
        meshes = for_each(partial(_mesh_into, fresh, settings), items, processes, desc="meshes")
        rows = dict(sorted((case, row) for (case, _), row in meshes))
        content = _content(settings, rows)
        write_json(fresh / INDEX, content)
    for path in sorted(earlier - _files_of(out)):
        path.unlink(missing_ok=True)
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    return content


def _content(settings: Settings, rows: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "nnunet_xlstm": __version__,
        "space": settings.space,
        "unit": "mm",
        "backend": settings.backend,
        "smoothing_steps": settings.steps,
        "formats": list(settings.formats),
        "volume_ratio": "volume of the mesh / volume of the voxels",
        "cases": rows,
    }


def text_lines(content: Mapping[str, Any]) -> list[str]:
    """Return a line per case: how many meshes, the range of mesh volume / voxel volume, and what is amiss."""
    rows, notes = [["case", "meshes", "mesh / voxel volume"]], [""]
    for case, row in content["cases"].items():
        ratios = [label["volume_ratio"] for label in row["labels"].values()]
        span = f"{min(ratios):.4f} to {max(ratios):.4f}" if ratios else "no label to mesh"
        rows.append([case, str(len(ratios)), span])
        flagged = [label for label, entry in row["labels"].items() if "flag" in entry]
        note = f"  off by more than {OFF:.0%}: label {', '.join(flagged)}" if flagged else ""
        notes.append(note + (f"  absent: label {', '.join(map(str, row['absent']))}" if row["absent"] else ""))
    return [line + note for line, note in zip(text_table(rows), notes, strict=True)]


def _files_of(out: Path) -> set[Path]:
    """Return the files that meshes.json of a folder lists; none where it is missing, or not of this command."""
    found = set()
    try:
        for case, row in read_json(out / INDEX, dict)["cases"].items():
            names = [name for label in row["labels"].values() for name in label["files"]]
            found |= {Path(case, name) for name in (*names, row.get("walls"), row.get("picture")) if name}
    except (DatasetError, KeyError, TypeError, AttributeError):
        return set()
    inside = {path for path in found if len(path.parts) == 2 and ".." not in path.parts and not path.is_absolute()}
    return {out / path for path in inside if (out / path).is_file()}


def label_names(path: Path | None, labels: Sequence[int] = ()) -> dict[int, str]:
    """Return label id -> name from a dataset.json; empty without one. Regions have no id and so no name.

    Raises:
        DatasetError: the file is not a dataset.json, or it does not have one of `labels`.
    """
    if path is None:
        return {}
    classes = DatasetFile.read(path).scored_labels()
    unknown = sorted(set(labels) - classes.known)
    if unknown:
        raise DatasetError(f"label {unknown[0]} was asked for, but {path} has only {sorted(classes.known - {0})}")
    names = classes.plain_names()
    return names if classes.ignore is None else names | {classes.ignore: "ignore"}


def _check_cases(source: Path, labels: Mapping[str, list[int] | str], settings: Settings) -> None:
    """Check, before any mesh is made, that all label maps can be used, and one has each label that was asked for."""
    failed = {case: found for case, found in sorted(labels.items()) if isinstance(found, str)}
    if failed:
        raise DatasetError(failed_text(failed, len(labels), "used, so no mesh was made"))
    unknown = [label for label in settings.labels if label not in settings.names]
    absent = [label for label in unknown if not any(label in found for found in labels.values())]
    if absent:
        raise DatasetError(f"no case in {source} has the label {absent[0]}; check --labels and the label maps")


def _labels_of(item: tuple[str, Path]) -> list[int]:
    return _read(item[1])[2]


def _mesh_into(out: Path, settings: Settings, item: tuple[str, Path]) -> dict[str, Any]:
    case, path = item
    return mesh_case(path, out / case, settings)


def mesh_case(path: Path, folder: Path, settings: Settings) -> dict[str, Any]:
    """Write the meshes of one label map into a folder; returns its row of meshes.json."""
    labels, image, present = _read(path)
    counts = np.bincount(labels.ravel())
    chosen = [label for label in settings.labels or present if label in present]
    mesh = _placed_mesh(labels, image, settings)
    row: dict[str, Any] = {
        "input": path.name,
        "spacing_mm": list(image.GetSpacing()),
        "labels": {},
        "absent": [label for label in settings.labels if label not in present],
    }
    written = mesh.placed(AXES[settings.space], np.zeros(3))
    voxel_ml = float(np.prod(image.GetSpacing())) / 1000
    for label in chosen:
        row["labels"][str(label)] = _write_label(written, label, int(counts[label]), voxel_ml, folder, settings)
    if "vtp" in settings.formats:
        own = np.isin(written.pairs, chosen).any(1)
        data = {"BoundaryLabels": np.where(np.isin(written.pairs[own], chosen), written.pairs[own], 0)}
        write_vtp(folder / "walls.vtp", *compact(written.points, written.triangles[own]), settings.space, "walls", data)
        row["walls"] = "walls.vtp"
    if settings.render is not None:
        names = settings.names
        draw_mesh(folder / "view.png", mesh, chosen, names=names, title=folder.name, renderer=settings.render)
        row |= {"picture": "view.png", "renderer": settings.render}
    return row


def read_mesh(path: Path, settings: Settings) -> tuple[Mesh, list[int]]:
    """Return the walls of a label map's labels, in mm in LPS, and which labels it has.

    Raises:
        DatasetError: it cannot be read, or is no label map in 3D.
    """
    labels, image, present = _read(path)
    return _placed_mesh(labels, image, settings), present


def _placed_mesh(labels: np.ndarray, image: sitk.Image, settings: Settings) -> Mesh:
    make = mesh_with_vtk if settings.backend == "vtk" else lambda array, steps: smooth(surface_nets(array), steps)
    mesh = make(labels, settings.steps)
    matrix = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    return mesh.placed(matrix[:, ::-1], np.array(image.GetOrigin()))  # the array is (z, y, x)


def _write_label(mesh: Mesh, label: int, voxels: int, voxel_ml: float, folder: Path, settings: Settings) -> dict:
    points, triangles = mesh.part(label)
    name = settings.names.get(label, "")
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.")
    stem = f"{label}_{plain}" if plain else str(label)
    for kind in settings.formats:
        WRITERS[kind](folder / f"{stem}.{kind}", points, triangles, settings.space, name or f"label {label}")
    volume, area = volume_and_area(points, triangles)
    ratio = volume / 1000 / (voxels * voxel_ml)
    row = {
        "name": name,
        "files": [f"{stem}.{kind}" for kind in settings.formats],
        "voxels": voxels,
        "voxel_volume_mL": voxels * voxel_ml,
        "mesh_volume_mL": volume / 1000,
        "volume_ratio": ratio,
        "area_cm2": area / 100,
        "points": len(points),
        "triangles": len(triangles),
    }
    return row | ({"flag": f"the mesh's volume is off by more than {OFF:.0%}"} if abs(ratio - 1) > OFF else {})


def _read(path: Path) -> tuple[np.ndarray, sitk.Image, list[int]]:
    """Read a label map: the array (z, y, x), the image with its geometry, and the labels that it has."""
    image = read_label_map(path)
    if image.GetDimension() != 3:
        raise DatasetError(f"{path}: {image.GetDimension()} dimensions; a surface mesh needs a label map in 3D")
    labels = sitk.GetArrayFromImage(image)
    low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
    if low < 0 or high > 65535:
        raise DatasetError(f"{path}: its values reach from {low} to {high}; label ids must be 0 to 65535")
    labels = labels.astype(np.uint16)
    present = [int(label) for label in np.flatnonzero(np.bincount(labels.ravel())) if label]
    if len(present) > MAX_LABELS:
        raise DatasetError(f"{path}: {len(present)} different values; that is an image, give a label map")
    return labels, image, present
