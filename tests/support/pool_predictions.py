"""Predictions of a pool's network as nnU-Net writes them, made from label maps; and the pool's metadata, naively."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ALL_REGIONS = ("head", "neck", "thorax", "abdomen", "pelvis", "limbs")


def members(ids, number):
    return frozenset(name for name, group in ids.items() if number in group)


def make_dataset_json(targets, sources, hierarchy=(), mutually_exclusive=(), ending=".nii.gz"):
    """The content of dataset.json.

    Args:
        targets: name -> group, or (group, modalities, regions); in the order of painting.
        sources: name -> target -> ids, or (target -> ids, modality, field of view).
    """
    rows = {n: (t, ("CT", "MR", "PET"), ALL_REGIONS) if isinstance(t, str) else t for n, t in targets.items()}
    known = {n: (s, "CT", ALL_REGIONS) if isinstance(s, dict) else s for n, s in sources.items()}
    sets, holding = [], {name: {name} for name in rows}
    for ids, *_ in known.values():
        sets += [members(ids, i) for i in sorted({i for group in ids.values() for i in group})]
        for name, group in ids.items():
            holding[name] |= {other for other in ids if set(group) < set(ids[other])}
    for first, *others in hierarchy:
        for name in others:
            holding[name].add(first)
    sets = list(dict.fromkeys([*sets, *map(frozenset, holding.values())]))
    sets.append(frozenset([next(iter(rows))]))  # the spare code that makes nnU-Net train regions
    code = {name: sets.index(frozenset(holding[name])) + 1 for name in rows}
    return {
        "channel_names": {"0": "image"},
        "labels": {"background": 0} | {n: [c for c, s in enumerate(sets, 1) if n in s] for n in rows},
        "regions_class_order": list(code.values()),
        "numTraining": 1,
        "file_ending": ending,
        "pool": {
            "targets": [
                {"name": n, "group": g, "modality": list(m), "region": list(r)} for n, (g, m, r) in rows.items()
            ],
            "codes": {str(c): [n for n in rows if n in s] for c, s in enumerate(sets, 1)},
            "hierarchy": [list(chain) for chain in hierarchy],
            "mutually_exclusive": [list(group) for group in mutually_exclusive],
            "merge": "unified",
            "sources": {
                name: {
                    "modality": modality,
                    "field_of_view": list(view),
                    "labels": {f"label {i}": i for i in sorted({i for group in ids.values() for i in group})},
                    "targets": {target: list(group) for target, group in ids.items()},
                }
                for name, (ids, modality, view) in known.items()
            },
        },
    }


def ideal(dataset, source, native, rng=None):
    """Probabilities (targets, ...) of a perfect network for a map of a source's ids; with rng, of an unsure one."""
    ids = dataset["pool"]["sources"][source]["targets"]
    there = np.array([np.isin(native, ids.get(row["name"], [])) for row in dataset["pool"]["targets"]])
    if rng is None:
        return there.astype(np.float32)
    doubt = rng.uniform(0.01, 0.49, there.shape)
    return np.where(there, 1 - doubt, doubt).astype(np.float32)


def stock_map(dataset, probabilities):
    """The merged map as nnU-Net paints it."""
    result = np.zeros(probabilities.shape[1:], np.uint8)
    for code, values in zip(dataset["regions_class_order"], probabilities, strict=True):
        result[values > 0.5] = code
    return result


def write_case(folder: Path, case, dataset, probabilities, like=None, npz=True):
    """One case as `nnUNetv2_predict --save_probabilities` leaves it."""
    folder.mkdir(exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(dataset))
    image = sitk.GetImageFromArray(stock_map(dataset, probabilities))
    if like is not None:
        image.CopyInformation(like)
    sitk.WriteImage(image, str(folder / f"{case}{dataset['file_ending']}"))
    if npz:
        flat = probabilities.ndim == 3
        np.savez_compressed(folder / f"{case}.npz", probabilities=probabilities[:, None] if flat else probabilities)
    return folder
