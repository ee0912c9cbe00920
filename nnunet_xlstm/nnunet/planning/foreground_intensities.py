"""Intensities of the foreground without ignored voxels, for CT normalization."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from tqdm import tqdm

from nnunet_xlstm.datasets.dataset_json import NAME, DatasetFile
from nnunet_xlstm.imaging.integrity import check_whole

PROPERTIES = "foreground_intensity_properties_per_channel"
MAX_CASES = 200  # read, evenly spread over the data set
N_VOXELS = 10_000_000  # drawn from all of them together
logger = logging.getLogger(__name__)


def leave_out_ignored(
    fingerprint: dict[str, Any], files: Mapping[str, Mapping[str, Any]], dataset_json: Mapping[str, Any]
) -> None:
    """Replace the intensity statistics of CT channels in nnU-Net's fingerprint by those without ignored voxels.

    nnU-Net counts the label `ignore` as foreground, and CT normalization clips and scales by the foreground of the data
    set: air under `ignore` moves a mean of 73 HU to -902. Other channels are normalized image by image; theirs stay.

    Args:
        fingerprint: of the data set; it is changed.
        files: of each case, `images` and `label`.
        dataset_json: with `labels` and `channel_names`.

    Raises:
        DatasetError: an image or label map is not whole.
    """
    file = DatasetFile(Path(NAME), dataset_json)
    ignore, names = file.labels().ignore, file.channels()
    ct = [channel for channel, name in enumerate(names) if str(name).casefold() == "ct"]
    if ignore is None or not ct:
        return
    intensities = _foreground(files, dataset_json, ignore)
    for channel in ct:
        values = np.concatenate([case[channel] for case in intensities])
        before = fingerprint[PROPERTIES][str(channel)]
        if not values.size:
            logger.warning("channel %d: no voxel is labelled; the statistics are those of ignored voxels", channel)
            continue
        after = statistics(values)
        fingerprint[PROPERTIES][str(channel)] = after
        logger.warning(
            "CT intensities of channel %d without ignored voxels, from %d cases: mean %.1f (was %.1f), standard "
            "deviation %.1f (%.1f), clipped to %.1f .. %.1f (%.1f .. %.1f)",
            *(channel, len(intensities), after["mean"], before["mean"], after["std"], before["std"]),
            *(after["percentile_00_5"], after["percentile_99_5"], before["percentile_00_5"], before["percentile_99_5"]),
        )


def statistics(values: np.ndarray) -> dict[str, float]:
    """Return what nnU-Net's fingerprint holds of intensities (n,)."""
    low, median, high = np.percentile(values, (0.5, 50, 99.5))
    found = {"max": values.max(), "mean": values.mean(), "median": median, "min": values.min()}
    found |= {"percentile_00_5": low, "percentile_99_5": high, "std": values.std()}
    return {name: float(value) for name, value in found.items()}


def _foreground(
    files: Mapping[str, Mapping[str, Any]], dataset_json: Mapping[str, Any], ignore: int
) -> list[Sequence[np.ndarray]]:
    """Draw intensities of each case, by channel, as nnU-Net does from the foreground, without ignored voxels."""
    cases = sorted(files)
    cases = [cases[i] for i in np.unique(np.linspace(0, len(cases) - 1, min(len(cases), MAX_CASES)).astype(int))]
    reader: Any = determine_reader_writer_from_dataset_json(dataset_json, files[cases[0]]["images"][0], verbose=False)

    class WithoutIgnored(reader):  # nnU-Net makes an object of the class that it is given
        def read_seg(self, path: str) -> tuple[np.ndarray, dict[str, Any]]:
            labels, properties = super().read_seg(path)
            labels[labels == ignore] = 0
            return labels, properties

    drawn = []
    for case in tqdm(cases, desc="CT intensities without ignored voxels"):
        for path in (*files[case]["images"], files[case]["label"]):
            check_whole(Path(path))
        analysis = DatasetFingerprintExtractor.analyze_case(
            files[case]["images"], files[case]["label"], WithoutIgnored, N_VOXELS // len(cases)
        )
        drawn.append(analysis[2])
    return drawn
