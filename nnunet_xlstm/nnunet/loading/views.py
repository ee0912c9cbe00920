"""Loads preprocessed cases and makes views of them, in nnU-Net's worker processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
from batchgenerators.dataloading.data_loader import DataLoader
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from threadpoolctl import threadpool_limits

from nnunet_xlstm.datasets.case_index import PoolCases
from nnunet_xlstm.datasets.sampling import FramePartner, sampling_probabilities
from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.networks.geometry import check_patch_size
from nnunet_xlstm.nnunet.loading.workers import enter_worker
from nnunet_xlstm.pretraining.views import ViewBatch, Views

Box = list[list[int]]  # [first, last + 1] per axis


class ViewLoader(DataLoader):
    """Endless batches of views.

    A batch holds the fields of ViewBatch for `batch_size` images, and `keys`, their cases. The parent crop is as large
    as the views ask for where the image allows it, and never smaller than the patch; outside the image it is 0.

    Args:
        dataset: nnU-Net's preprocessed cases.
        foreground_share: of the images, how many have a foreground voxel in the middle of the parent crop.
        probabilities: of each case, in the order of the data set's identifiers; None draws all alike.
        partner: a case -> the case of another frame for the second view (or the case itself).
        subjects: a case -> the number of its subject; without it, of itself.
    """

    def __init__(
        self,
        dataset: nnUNetBaseDataset,
        batch_size: int,
        views: Views,
        foreground_share: float,
        probabilities: Sequence[float] | np.ndarray | None = None,
        partner: Callable[[str], str] | None = None,
        subjects: Mapping[str, int] | None = None,
    ):
        super().__init__(dataset, batch_size, 1, None, True, False, True, probabilities)
        self.indices = dataset.identifiers
        self.views, self.foreground_share, self.partner = views, foreground_share, partner
        self.subjects = subjects or {str(key): i for i, key in enumerate(dataset.identifiers)}
        self._pid = os.getpid()

    def set_thread_id(self, thread_id: int) -> None:
        """Prepare a worker; batchgenerators calls this in each before its first batch."""
        super().set_thread_id(thread_id)
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            enter_worker()

    def generate_train_batch(self) -> dict:
        """Draw cases and make a batch of their views."""
        keys = [str(key) for key in self.get_indices()]
        with torch.no_grad(), threadpool_limits(limits=1, user_api=None):
            made = [self.views.make(self._parents(key)) for key in keys]
        batch = {name: torch.stack([one[name] for one in made]) for name in made[0]}
        return batch | {"subjects": torch.tensor([self.subjects[key] for key in keys]), "keys": keys}

    def _parents(self, key: str) -> list[torch.Tensor]:
        """Return the parent crop of the case, and that of its partner if there is one."""
        data, _, _, properties = self._data.load_case(key)
        box = self._parent_box(data.shape[1:], properties["class_locations"])
        crops = [self._crop(data, box)]
        other = key if self.partner is None else self.partner(key)
        if other != key:
            data_2, _, _, properties_2 = self._data.load_case(other)
            crops.append(
                self._crop(data_2, map_box(box, (data.shape[1:], properties), (data_2.shape[1:], properties_2)))
            )
        return crops

    def _parent_box(self, shape: Sequence[int], class_locations: dict) -> Box:
        """Draw a box around a voxel of the body, or anywhere; in 2D one slice."""
        wanted, least = self.views.parent_size, self.views.patch_size
        if len(wanted) == len(shape) - 1:
            wanted, least = np.insert(wanted, 0, 1), np.insert(least, 0, 1)
        size = np.clip(shape, least, wanted)
        places = [] if class_locations is None else [v for v in class_locations.values() if len(v)]
        middle = None
        if places and np.random.uniform() < self.foreground_share:
            voxels = places[np.random.randint(len(places))]
            middle = voxels[np.random.randint(len(voxels))][1:]  # the first number is the channel
        box = []
        for axis, (n, edge) in enumerate(zip(map(int, size), shape, strict=True)):
            if edge <= n:
                start = -((n - edge) // 2)  # the image in the middle of the crop
            elif middle is None:
                start = np.random.randint(edge - n + 1)  # all places alike, as nnU-Net draws its patches
            else:
                start = min(max(int(middle[axis]) - n // 2, 0), edge - n)
            box.append([int(start), int(start) + n])
        return box

    def _crop(self, data: np.ndarray, box: Box) -> torch.Tensor:
        crop = torch.from_numpy(crop_and_pad_nd(data, box, 0)).float()
        return crop[:, 0] if len(self.views.patch_size) == len(box) - 1 else crop


def map_box(box: Box, one: tuple[Sequence[int], dict], other: tuple[Sequence[int], dict]) -> Box:
    """Find the place of `box` in another preprocessed frame of the scan (nnU-Net crops each frame by itself).

    Args:
        box: in the first frame, [first, last + 1] per axis.
        one: of the first frame, shape after preprocessing and nnU-Net's properties of the case.
        other: of the other frame, likewise.
    """
    result = []
    for axis, (start, end) in enumerate(box):
        scale, corner = [], []
        for shape, properties in (one, other):
            scale.append(shape[axis] / properties["shape_after_cropping_and_before_resampling"][axis])
            corner.append(properties["bbox_used_for_cropping"][axis][0])
        moved = round((start / scale[0] + corner[0] - corner[1]) * scale[1])
        result.append([moved, moved + end - start])
    return result


def view_batch(batch: dict, device: torch.device) -> ViewBatch:
    """Return the views of a loader's batch, on `device`."""
    fields = (batch["global_views"], batch["boxes"], batch["flips"], batch.get("local_views"), batch.get("subjects"))
    return ViewBatch(*fields).to(device, non_blocking=True)


def view_loaders(
    datasets: Sequence[nnUNetBaseDataset],
    batch_size: int,
    views: Views,
    foreground_share: float,
    pool: PoolCases | None,
    pairs: bool,
    pin_memory: bool,
) -> tuple:
    """Return, for each data set, an endless iterator over its batches, in nnU-Net's worker processes.

    Args:
        datasets: preprocessed cases, for training and validation.
        batch_size: images per batch.
        views: that are made of every image.
        foreground_share: of the images, how many have a foreground voxel in the middle.
        pool: who belongs to whom, and how often a case is drawn; None takes every case for a subject.
        pairs: the second view is of another frame of the same subject.
        pin_memory: put batches into pinned memory, for copies to a GPU.
    """
    subjects = pool.subject_numbers() if pool else None
    loaders = []
    for dataset in datasets:
        probabilities = sampling_probabilities(pool.cases, dataset.identifiers, pool.sampling) if pool else None
        partner = _frame_partner(pool, dataset.identifiers) if pairs else None
        loaders.append(ViewLoader(dataset, batch_size, views, foreground_share, probabilities, partner, subjects))
    workers = get_allowed_n_proc_DA()
    if workers == 0:
        return tuple(SingleThreadedAugmenter(loader, None) for loader in loaders)
    numbers = [workers] + [max(1, workers // 2)] * (len(loaders) - 1)
    augmenters = tuple(
        NonDetMultiThreadedAugmenter(loader, None, n, num_cached=max(3, n), pin_memory=pin_memory, wait_time=0.002)
        for loader, n in zip(loaders, numbers, strict=True)
    )
    for augmenter in augmenters:
        next(augmenter)  # start the workers before CUDA is in use
    return augmenters


def _frame_partner(pool: PoolCases | None, identifiers: Sequence[str]) -> FramePartner:
    partner = FramePartner(pool.cases, identifiers) if pool else None
    if partner is None or not any(partner.partners.values()):
        raise ConfigError(
            "frames = pair: no case of this data set has another frame (pool_cases.json says which belong "
            "together); make it from 4D images with `nnunet_xlstm unlabelled --time frames`, or set frames to random"
        )
    return partner


def local_patch(patch: Sequence[int], strides: Sequence[int], wanted: Sequence[int] | None) -> list[int]:
    """Choose the size of local views: `wanted`, or half the patch, rounded to what the network's strides divide.

    Args:
        patch: voxels per axis.
        strides: of the whole network, per axis.
        wanted: voxels per axis; None for the default.

    Raises:
        ConfigError: another number of axes than the patch, or no more than one cell at the bottleneck.
    """
    default = [int(max(s, round(p / 2 / s) * s)) for p, s in zip(patch, strides, strict=True)]
    local = list(wanted or default)
    if len(local) != len(patch):
        raise ConfigError(f"local_patch_size {local}: give {len(patch)} numbers, as the patch {list(patch)} has")
    check_patch_size(local, strides)
    if np.prod(local) == np.prod(strides):
        raise ConfigError(
            f"local views of {local} are one cell at the bottleneck of this network (strides "
            f"{list(map(int, strides))}), which instance normalisation cannot take; give a larger local_patch_size "
            "or patch_size, or n_local_crops 0"
        )
    return local
