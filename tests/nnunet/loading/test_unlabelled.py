"""Unlabelled cases as nnU-Net's loader sees them."""

import numpy as np
import torch

from nnunet_xlstm.nnunet.loading.unlabelled import MaskFromImage, UnlabelledCases


class Stored:
    identifiers = ["a"]

    def load_case(self, identifier):
        return np.ones((2, 3, 4, 5)), np.full((1, 3, 4, 5), 7), "previous", {"class_locations": {7: [1]}}


def test_the_label_is_gone():
    data, seg, previous, properties = UnlabelledCases(Stored()).load_case("a")
    assert data.shape == (2, 3, 4, 5) and seg.shape == (1, 3, 4, 5) and not seg.any()
    assert previous is None and properties == {"class_locations": {}}


def test_the_outside_is_where_all_channels_are_zero():
    image = torch.tensor([[[0.0, 1.0, 0.0]], [[0.0, 0.0, 2.0]]])
    seen = MaskFromImage(lambda **data: data)(image=image, segmentation=torch.zeros(1, 1, 3, dtype=torch.int16))
    assert seen["segmentation"].tolist() == [[[-1, 0, 0]]] and seen["image"] is image
