"""Images of unlabelled cases through nnU-Net's own loader and transforms; nothing of a label gets in."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA


class UnlabelledCases:
    """Preprocessed cases as a data set of nnU-Net, with zeros in place of the segmentation and without its statistics.

    nnU-Net stores both with every case, and of a case that does have a label they would tell it: also where foreground
    lies, by which patches are drawn.

    Args:
        dataset: nnU-Net's.
    """

    def __init__(self, dataset: nnUNetBaseDataset):
        self.dataset = dataset
        self.identifiers: Sequence[str] = dataset.identifiers

    def load_case(self, identifier: str) -> tuple:
        """Return image (C, *shape), zeros (1, *shape), no earlier segmentation, and properties without locations."""
        data = self.dataset.load_case(identifier)[0]
        return data, np.broadcast_to(np.int16(0), (1, *data.shape[1:])), None, {"class_locations": {}}


class MaskFromImage:
    """Marks with -1 where all channels are 0, in place of nnU-Net's mark of the outside, then transforms.

    nnU-Net's own mark is taken from the image too, but a label there removes it.

    Args:
        transform: nnU-Net's pipeline for a data set that is normalized within a mask, so that outside is exactly 0.
    """

    def __init__(self, transform: BasicTransform):
        self.transform = transform

    def __call__(self, image: torch.Tensor, segmentation: torch.Tensor, **more) -> dict:
        """Return what the pipeline makes of image (C, *patch) and segmentation (1, *patch) with the mark."""
        outside = (image == 0).all(0, keepdim=True)
        return self.transform(image=image, segmentation=segmentation.masked_fill(outside, -1), **more)


def unlabelled_batches(
    labelled: SingleThreadedAugmenter | NonDetMultiThreadedAugmenter,
    cases: UnlabelledCases,
    batch_size: int,
    masked: bool,
    pin_memory: bool,
) -> Iterator[dict]:
    """Make the augmenter of unlabelled batches: the loader of the labelled ones, with other cases.

    Args:
        labelled: nnU-Net's augmenter of training batches, whose patches and transforms are taken over.
        cases: to draw from, all alike.
        batch_size: images of a batch.
        masked: the data set is normalized within a mask (`use_mask_for_norm`).
        pin_memory: as nnU-Net does for CUDA.
    """
    single = isinstance(labelled, SingleThreadedAugmenter)
    loader: nnUNetDataLoader = copy.copy(labelled.data_loader if single else labelled.generator)
    loader._data, loader.indices = cases, cases.identifiers
    loader.batch_size = batch_size
    loader.oversample_foreground_percent = 0.0
    loader.get_do_oversample = loader._oversample_last_XX_percent  # the copied method is that of the labelled loader
    loader.has_ignore = False  # patches are drawn where something is annotated otherwise
    if masked:
        loader.transforms = MaskFromImage(loader.transforms)
    processes = get_allowed_n_proc_DA()
    if processes == 0:
        augmenter = SingleThreadedAugmenter(loader, None)
    else:
        augmenter = NonDetMultiThreadedAugmenter(
            loader, None, processes, max(6, processes // 2), None, pin_memory, wait_time=0.002
        )
    next(augmenter)  # as nnU-Net does: what fails, fails before the first step
    return augmenter
