"""Volumes, ejection fraction and mass of the heart from its label maps at end diastole (ED) and end systole (ES).

Volume = voxels times their size; stroke volume = EDV - ESV; ejection fraction = 100 stroke volume / EDV; mass of the
left ventricle = volume of its myocardium at ED times a density, 1.05 g/mL by convention (Schulz-Menger et al., J.
Cardiovasc. Magn. Reson. 22:19, 2020).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_xlstm.choices import DENSITY_G_PER_ML
from nnunet_xlstm.datasets.dataset_json import Labels
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.images import read_label_map

PHASES = ("ED", "ES")
STRUCTURES = ("LV", "RV", "MYO")
WHAT = {"LV": "left ventricle's cavity", "RV": "right ventricle's cavity", "MYO": "myocardium of the left ventricle"}
_CAVITY = ("", " cavity", " blood", " blood pool", " blood cavity", " endo", " endocardium")
_SIDES = {"LV": ("lv", "left ventricle", "left ventricular"), "RV": ("rv", "right ventricle", "right ventricular")}
# Names in data sets, in lower case with single spaces: ACDC, M&Ms, MM-WHS, TotalSegmentator and their kin.
SYNONYMS = {
    "LV": {side + end for side in _SIDES["LV"] for end in _CAVITY} | {"lvc", "lv bp", "heart ventricle left"},
    "RV": {side + end for side in _SIDES["RV"] for end in _CAVITY} | {"rvc", "rv bp", "heart ventricle right"},
    "MYO": {f"{side} {wall}" for side in _SIDES["LV"] for wall in ("myo", "myocardium", "wall")}
    | {"myo", "myocardium", "mlv", "lvm", "lvmyo", "heart myocardium", "myocardium of the left ventricle"},
}


@dataclass(frozen=True)
class Quantity:
    """A number of the result: its unit, also as a part of a column's name, and what it is in words."""

    unit: str
    column: str
    what: str


def quantities(structures: Mapping[str, Sequence[int]], density: float, indexed: bool) -> dict[str, Quantity]:
    """Return name -> what it is, for the structures at hand; `indexed` adds those per body surface area."""
    found: dict[str, Quantity] = {}
    for side in (s for s in ("LV", "RV") if s in structures):
        found |= {
            f"{side}EDV": Quantity("mL", "mL", f"volume of the {WHAT[side]} at ED"),
            f"{side}ESV": Quantity("mL", "mL", f"volume of the {WHAT[side]} at ES"),
            f"{side}SV": Quantity("mL", "mL", f"{side}EDV - {side}ESV"),
            f"{side}EF": Quantity("%", "percent", f"100 {side}SV / {side}EDV"),
        }
    if "MYO" in structures:
        found["LVM"] = Quantity("g", "g", f"volume of the {WHAT['MYO']} at ED, times {density:g} g/mL")
    if indexed:
        found |= {
            f"{name}i": Quantity(f"{q.unit}/m2", f"{q.column}_per_m2", f"{name} / body surface area")
            for name, q in list(found.items())
            if q.unit != "%"
        }
    return found


def find_structures(classes: Labels | None, chosen: Mapping[str, str | None]) -> dict[str, tuple[int, ...]]:
    """Find LV, RV, MYO -> label ids, by name from dataset.json or as chosen; what is in neither is left out.

    Args:
        classes: of the data set; None without a dataset.json.
        chosen: structure -> an id, several ("2,3") or a name in dataset.json; None to go by the usual names.

    Raises:
        DatasetError: unknown or double names, two structures with a label in common, or neither ventricle.
    """
    named = {} if classes is None else {classes.names[key]: ids for key, ids in classes.scored.items()}
    found = {}
    for structure in STRUCTURES:
        wish = chosen.get(structure)
        if wish is not None:
            found[structure] = _chosen(structure, wish, classes, named)
            continue
        hits = [name for name in named if _plain(name) in SYNONYMS[structure]]
        if len(hits) > 1:
            raise DatasetError(
                f"{' and '.join(hits)} could both be the {WHAT[structure]}; choose with {_flag(structure)}"
            )
        if hits:
            found[structure] = named[hits[0]]
    if "LV" not in found and "RV" not in found:
        raise DatasetError(
            f"no ventricle among the labels {list(named)}; give -djfile, or --lv and --rv with their ids or names"
        )
    for one, other in combinations(found, 2):
        if common := set(found[one]) & set(found[other]):
            raise DatasetError(
                f"{one} = {list(found[one])} and {other} = {list(found[other])} both hold the label {min(common)}; a "
                f"voxel belongs to one structure: choose with {_flag(one)} and {_flag(other)}"
            )
    return found


def _chosen(structure: str, wish: str, classes: Labels | None, named: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    if re.fullmatch(r"\d+(,\d+)*", wish):
        ids = tuple(int(part) for part in wish.split(","))
        unknown = sorted(set(ids) - classes.known) if classes else []
        if 0 in ids or unknown:
            raise DatasetError(f"{_flag(structure)} {wish}: there is no label {0 if 0 in ids else unknown[0]}; {named}")
        return ids
    hits = [ids for name, ids in named.items() if name == wish or _plain(name) == _plain(wish)]
    if len(hits) != 1:
        raise DatasetError(f"{_flag(structure)} '{wish}' is not the name of one label; the names are {list(named)}")
    return hits[0]


def _flag(structure: str) -> str:
    return f"--{structure.lower()}"


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9]+", " ", name.lower()).split())


@dataclass(frozen=True)
class Phase:
    """One label map: mL per structure (NaN where it is missing) and which end slices each structure touches."""

    volumes: Mapping[str, float]
    ends: Mapping[str, tuple[str, ...]]


def measure_phase(path: Path, structures: Mapping[str, Sequence[int]], known: frozenset[int] | None) -> Phase:
    """Measure the volumes in one label map.

    Slices are taken along the axis with the largest spacing, the last one (z) of equals.

    Args:
        path: of the label map, 3D.
        structures: structure -> its label ids.
        known: the ids that the map may hold; None to accept all.

    Raises:
        DatasetError: not a label map in 3D, or it holds other ids.
    """
    image = read_label_map(path)
    if image.GetDimension() != 3:
        raise DatasetError(f"{path}: {image.GetDimension()} dimensions; volumes need a label map in 3D")
    labels = sitk.GetArrayViewFromImage(image)
    present = np.unique(labels)
    if known is not None and (unknown := sorted(set(present.tolist()) - known)):
        raise DatasetError(
            f"{path}: it holds the label {unknown[0]}, which dataset.json does not have ({sorted(known)}); "
            "correct the label map, or give the dataset.json that belongs to it"
        )
    spacing = image.GetSpacing()[::-1]  # as the array: z, y, x
    axis = int(np.argmax(np.round(spacing, 3)))
    voxel_ml = math.prod(spacing) / 1000
    volumes, ends = {}, {}
    for structure, ids in structures.items():
        mask = np.isin(labels, ids)
        volumes[structure] = int(mask.sum()) * voxel_ml or math.nan
        touched = {"first": mask.take(0, axis).any(), "last": mask.take(-1, axis).any()}
        ends[structure] = tuple(name for name, hit in touched.items() if hit)
    return Phase(volumes, ends)


def measure(ed: Phase, es: Phase, density: float = DENSITY_G_PER_ML, bsa: float | None = None) -> dict[str, float]:
    """Return name (see `quantities`) -> value; NaN where a structure is missing.

    Args:
        ed: volumes at end diastole.
        es: volumes at end systole.
        density: g/mL.
        bsa: body surface area in m2; None for no indexed values.
    """
    values: dict[str, float] = {}
    for side in (s for s in ("LV", "RV") if s in ed.volumes):
        edv, esv = ed.volumes[side], es.volumes[side]
        values |= {f"{side}EDV": edv, f"{side}ESV": esv, f"{side}SV": edv - esv, f"{side}EF": 100 * (edv - esv) / edv}
    if "MYO" in ed.volumes:
        values["LVM"] = ed.volumes["MYO"] * density
    if bsa is not None:
        values |= {f"{name}i": value / bsa for name, value in list(values.items()) if not name.endswith("EF")}
    return values


def flags(ed: Phase, es: Phase) -> list[str]:
    """List what makes the numbers doubtful, the worst first."""
    phases = dict(zip(PHASES, (ed, es), strict=True))
    found = [f"{s} missing at {name}" for name, p in phases.items() for s, v in p.volumes.items() if math.isnan(v)]
    found += [
        f"{side} larger at ES than at ED"
        for side in ("LV", "RV")
        if side in ed.volumes and es.volumes[side] > ed.volumes[side]
    ]
    for name, phase in phases.items():
        for end in ("first", "last"):
            touching = [structure for structure, ends in phase.ends.items() if end in ends]
            if touching:
                found.append(f"{' '.join(touching)} on the {end} slice at {name}: may be cut off")
    return found
