"""Speed and memory of the surface metrics against MONAI, and how `evaluate` scales with processes.

    python benchmarks/metrics.py

A 160 x 256 x 256 label map of 7 touching structures against a prediction whose borders are moved by up to some voxels.
Prints what it measures; the last line is one JSON object:

    speedup_per_class   time of MONAI's HD + HD95 + ASSD per class / time of ours (which also has overlap and volumes)
    memory_ratio        extra memory of ours / of MONAI's: peak of a fresh process during the call, less its resident
                        memory just before (imports excluded on both sides)
    process_speedup     time of `score_pairs` over 8 cases with 1 process / with 2
    rank_bootstrap_s    seconds for 1,000 resamples of the ranks of 10 models on 100 cases (median of 9)

The variants take turns, and the fastest call of each counts: other load on the machine only ever adds time. MONAI is a
development dependency (`pip install -e ".[test]"`).
"""

from __future__ import annotations

import argparse
import ctypes
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from bench import number_of
from scipy.ndimage import gaussian_filter

from nnunet_xlstm.datasets.dataset_json import scored_labels
from nnunet_xlstm.evaluation.folder import Pair, score_pairs
from nnunet_xlstm.evaluation.score import Settings, score_case
from nnunet_xlstm.statistics.ranking import bootstrap_ranks

SHAPE, SPACING, STRUCTURES = (160, 256, 256), (1.0, 1.0, 1.0), 7
CLASSES = scored_labels({"background": 0} | {f"structure {i}": i for i in range(1, STRUCTURES + 1)})


def label_maps(shape=SHAPE, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Reference and prediction (D, H, W) uint8: an ellipsoid cut into shells and sectors, and the same warped."""
    rng = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, n, dtype=np.float32) for n in shape]
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)

    def structures(wobble) -> np.ndarray:
        radius = np.sqrt((z / 0.8) ** 2 + (y / 0.7) ** 2 + (x / 0.6) ** 2) + wobble
        sector = np.digitize(np.arctan2(y, x) + 0 * z, np.linspace(-np.pi, np.pi, 5)[1:-1]).astype(np.uint8)
        labels = np.where(radius < 0.45, 1, np.where(radius < 0.6, 2, np.where(radius < 0.65, 3, 4 + sector)))
        return np.where(radius < 1, labels, 0).astype(np.uint8)

    small = [max(n // 8, 2) for n in shape]
    noise = gaussian_filter(rng.normal(size=small), 2).astype(np.float32)
    noise = np.kron(noise / noise.std(), np.ones((8, 8, 8), dtype=np.float32))[tuple(slice(n) for n in shape)]
    return structures(0.0), structures(0.02 * noise)


def ours(reference: np.ndarray, prediction: np.ndarray) -> dict[int, list[float]]:
    metrics, _ = score_case(reference, prediction, CLASSES, SPACING)
    return {int(key): [row[m] for m in ("HD", "HD95", "ASSD")] for key, row in metrics.items()}


def monai(reference: np.ndarray, prediction: np.ndarray) -> dict[int, list[float]]:
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    result = {}
    for i in range(1, STRUCTURES + 1):
        pair = [torch.from_numpy(x == i)[None, None] for x in (prediction, reference)]
        common = {"include_background": True, "spacing": list(SPACING)}
        result[i] = [
            compute_hausdorff_distance(*pair, **common).item(),
            compute_hausdorff_distance(*pair, percentile=95, **common).item(),
            compute_average_surface_distance(*pair, symmetric=True, **common).item(),
        ]
    return result


VARIANTS = {"ours": ours, "monai": monai}


def resident_mb(line: str) -> float:
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) for row in file if row.startswith(line)) / 1024


def extra_memory(variant: str) -> float:
    """Megabytes of one call in this process, which should be fresh (Linux)."""
    pair = label_maps()
    tiny = tuple(np.ascontiguousarray(x[::20, ::32, ::32]) for x in pair)
    VARIANTS[variant](*tiny)  # imports, buffers of the libraries
    ctypes.CDLL(None).malloc_trim(0)  # what making the maps has left must not be there to use
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak starts from here
    before = resident_mb("VmRSS")
    VARIANTS[variant](*pair)
    return resident_mb("VmHWM") - before


def fresh_memory(variant: str) -> float:
    value = number_of(__file__, "--memory-of", variant)
    print(f"{variant}: {value:.0f} MB extra", flush=True)
    return value


def process_seconds(n_cases: int) -> dict[int, float]:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, array in zip(("reference", "prediction"), label_maps(), strict=True):
            paths.append(Path(folder) / f"{name}.nii.gz")
            sitk.WriteImage(sitk.GetImageFromArray(array), str(paths[-1]))
        pairs = [Pair(str(i), *paths) for i in range(n_cases)]
        seconds = {}
        for processes in (1, 2):
            start = time.perf_counter()
            score_pairs(pairs, CLASSES, Settings(), processes)
            seconds[processes] = time.perf_counter() - start
            print(f"{n_cases} cases, {processes} processes: {seconds[processes]:.1f} s", flush=True)
    return seconds


def rank_bootstrap_seconds(repeats: int = 9) -> float:
    values = np.random.default_rng(0).random((10, 100))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        bootstrap_ranks(values, "high", resamples=1000)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cases", type=int, default=8, help="for the processes")
    parser.add_argument("--memory-of", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_of:
        print(extra_memory(args.memory_of))
        return
    megabytes = {variant: fresh_memory(variant) for variant in VARIANTS}
    pair = label_maps()
    results = {variant: run(*pair) for variant, run in VARIANTS.items()}  # warm up, and they must agree
    for i in results["ours"]:
        np.testing.assert_allclose(results["ours"][i], results["monai"][i], rtol=1e-4)
    seconds: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(args.repeats):
        for variant, run in VARIANTS.items():
            start = time.perf_counter()
            run(*pair)
            seconds[variant].append(time.perf_counter() - start)
    per_class = {variant: min(s) / STRUCTURES for variant, s in seconds.items()}
    processes = process_seconds(args.cases)
    result = {
        "speedup_per_class": per_class["monai"] / per_class["ours"],
        "memory_ratio": megabytes["ours"] / megabytes["monai"],
        "process_speedup": processes[1] / processes[2],
        "rank_bootstrap_s": rank_bootstrap_seconds(),
        "seconds_per_class": per_class,
        "megabytes": megabytes,
        "hd_hd95_assd": results["ours"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
