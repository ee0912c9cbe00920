"""Small summary.json files, in our layout and in nnU-Net's."""

import json
import math

import numpy as np
import pytest
from support.png import PNG

from nnunet_xlstm.comparison import run

DEFINITION = {"nsd_tolerance": 2.0, "hd95": "max"}


@pytest.fixture
def summary(tmp_path):
    """Writes a summary.json: `values` is metric -> (cases, classes); NaN becomes null (ours) or NaN (stock)."""

    def write(name, values, *, stock=False, classes=None, cases=None, definition=None, n_ref=1000):
        values = {metric: np.asarray(v, float) for metric, v in values.items()}
        n_cases, n_classes = next(iter(values.values())).shape
        classes = classes or {str(i + 1): ["LV", "RV", "LA"][i] for i in range(n_classes)}
        cases = cases or [f"case_{i:03d}" for i in range(n_cases)]
        n = np.broadcast_to(n_ref, (n_cases, n_classes))
        rows = []
        for c, case in enumerate(cases):
            metrics = {}
            for k, key in enumerate(classes):
                empty = bool(np.isnan(values["Dice"][c, k])) if "Dice" in values else False
                row = {m: v[c, k] if stock or math.isfinite(v[c, k]) else None for m, v in values.items()}
                sizes = {"n_ref": 0 if empty else int(n[c, k]), "n_pred": 0 if empty else int(n[c, k]) + 10}
                if not stock:
                    sizes |= {"VolumeRef": sizes["n_ref"] / 100, "VolumePred": sizes["n_pred"] / 100}
                metrics[key] = row | {m: v for m, v in sizes.items() if m not in values}
            file = f"/data/{case}.nii.gz"
            rows.append({"reference_file": file, "prediction_file": file, "metrics": metrics})
        content = {"foreground_mean": {}, "mean": {}, "metric_per_case": rows}
        if not stock:
            content["nnunet_xlstm"] = {"classes": classes, "definition": definition or DEFINITION}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content, allow_nan=stock), encoding="utf-8")
        return path

    return write


@pytest.fixture
def no_drawing(monkeypatch):
    """Figures cost seconds: each becomes one pixel."""

    def draw(job, folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{job.name}.png"
        path.write_bytes(PNG)
        return [path]

    monkeypatch.setattr(run, "draw", draw)


@pytest.fixture
def dice():
    """(models, cases, classes): the first model is the best in every case."""
    rng = np.random.default_rng(0)
    base = rng.uniform(0.7, 0.85, (1, 12, 2))
    return base + np.array([0.1, 0.05, 0.0])[:, None, None] + rng.uniform(0, 0.02, (3, 12, 2))
