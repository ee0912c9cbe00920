"""Cases of a raw data set, preprocessed with the plans of a pre-training checkpoint, and the way back to their grid."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from torch import Tensor

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.integrity import check_whole
from nnunet_xlstm.io.write import replacing
from nnunet_xlstm.nnunet.loading.raw_images import RawImages
from nnunet_xlstm.nnunet.probing.frozen_encoder import Pretrained

CACHE_BYTES = 2 << 30  # of preprocessed images that are needed more than once
logger = logging.getLogger(__name__)


@dataclass
class Prepared:
    """A preprocessed case: image (C, D, H, W), label ids (D, H, W) if asked for, and what the way back needs."""

    image: np.ndarray
    labels: np.ndarray
    properties: dict[str, Any]


class Cases:
    """The cases of a data set, preprocessed with the plans of the checkpoint.

    Args:
        channel: of the data set, for an encoder of one channel; None takes all.

    Raises:
        DatasetError: the channels of data set and encoder do not fit.
    """

    def __init__(self, dataset: RawImages, pretrained: Pretrained, channel: int | None = None):
        self.dataset, self.pretrained, self.channel = dataset, pretrained, channel
        self._check_channels()
        first = next(iter(dataset.images.values()))[0]
        try:
            self.reader = determine_reader_writer_from_dataset_json(dataset.file.content, first, verbose=False)()
        except RuntimeError as error:
            raise DatasetError(f"{first}: nnU-Net has no reader for it; check file_ending in dataset.json") from error
        self.preprocessor = pretrained.configuration.preprocessor_class(verbose=False)
        self._cache: dict[str, Prepared] = {}
        self._room = CACHE_BYTES

    def _check_channels(self) -> None:
        names, wanted = self.dataset.file.channels(), self.pretrained.channel_names
        where = self.dataset.folder.name
        if self.channel is not None and not 0 <= self.channel < len(names):
            raise DatasetError(f"--channel {self.channel}: {where} has the channels 0 to {len(names) - 1} ({names})")
        given = names if self.channel is None else (names[self.channel],)
        if len(given) != len(wanted):
            fix = "; choose one of them with --channel N" if len(wanted) == 1 else ""
            raise DatasetError(
                f"{where} gives {len(given)} channel(s) {given}, the encoder was trained on {len(wanted)} {wanted}{fix}"
            )
        if [n.lower() for n in given] != [n.lower() for n in wanted]:
            logger.warning("the encoder was trained on %s, these images are %s", ", ".join(wanted), ", ".join(given))

    def load(self, case: str, with_labels: bool = False) -> Prepared:
        """Return the case, preprocessed.

        Raises:
            DatasetError: it cannot be read, is not whole, has no label map, or one of another size.
        """
        held = self._cache.get(case)
        if held is not None and (held.labels.size or not with_labels):
            return held
        prepared = self._load(case, with_labels)
        size = prepared.image.nbytes
        if held is None and size <= self._room:
            self._room -= size
            self._cache[case] = prepared
        return prepared

    def _load(self, case: str, with_labels: bool) -> Prepared:
        images, label = self.dataset.images[case], self.dataset.labels[case]
        if with_labels and not label.is_file():
            raise DatasetError(f"case '{case}' has no label map {label}; --probe needs the labels of all cases")
        chosen = images if self.channel is None else [images[self.channel]]
        for file in [*map(Path, chosen), *([label] if with_labels else [])]:
            check_whole(file)  # nnU-Net's readers fill what is missing with zeros
        try:
            data, properties = self.reader.read_images(chosen)
            seg = self.reader.read_seg(str(label))[0] if with_labels else None
        except (RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise DatasetError(f"case '{case}' cannot be read ({reason}); mend its files or take it out") from error
        if seg is not None and seg.shape[1:] != data.shape[1:]:
            raise DatasetError(f"case '{case}': image {data.shape[1:]} and label map {seg.shape[1:]} differ in size")
        for name, array in ((chosen[0], data), (label, seg)):
            if array is not None and not np.isfinite(array).all():
                raise DatasetError(f"{name}: holds NaN or infinite values; mend it, or take case '{case}' out")
        # ids alone: regions are unions of them
        ids = {0} if seg is None else {int(v) for v in np.unique(seg)} - {0}
        plain = {"labels": {"background": 0, **{str(i): i for i in sorted(ids) if i}}}
        image, labels, properties = self.preprocessor.run_case_npy(
            data, seg, properties, self.pretrained.plans, self.pretrained.configuration, plain
        )
        # -1 is background outside the body
        labels = np.zeros((0, 0, 0), int) if seg is None else np.maximum(labels[0], 0)
        return Prepared(np.ascontiguousarray(image, np.float32), labels, properties)

    def write_labels(self, logits: Tensor, ids: Sequence[int], prepared: Prepared, path: Path) -> None:
        """Write a label map on the grid of the original image, from logits (K, D, H, W) of the label ids."""
        names = {"background": 0, **{str(i): i for i in range(1, len(ids))}}
        plans, configuration = self.pretrained.plans, self.pretrained.configuration
        index = convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            plans,
            configuration,
            LabelManager(names, None),
            prepared.properties,
            num_threads_torch=torch.get_num_threads(),
        )
        labels = np.asarray(ids, np.uint16 if max(ids) > 255 else np.uint8)[index]
        with replacing(path, ending=self.dataset.file.file_ending()) as temporary:
            self.reader.write_seg(labels, str(temporary), prepared.properties)

    def as_image(self, array: np.ndarray, prepared: Prepared) -> sitk.Image:
        """Return a preprocessed array (D, H, W) with its spacing and, where the reader knows it, its direction."""
        plans, configuration = self.pretrained.plans, self.pretrained.configuration
        original = [prepared.properties["spacing"][i] for i in plans.transpose_forward]
        spacing = [*original[: 3 - len(configuration.spacing)], *configuration.spacing]
        back = plans.transpose_backward
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(back)))
        image.SetSpacing([float(spacing[i]) for i in back][::-1])
        direction = prepared.properties.get("sitk_stuff", {}).get("direction", ())
        if len(direction) == 9:
            image.SetDirection(direction)
        return image
