"""Pseudo-labels of logits that can be written down."""

import numpy as np
import pytest
import torch

from nnunet_xlstm.semi.pseudo_labels import (
    PseudoLabelMonitor,
    TargetCoding,
    keep_largest_components,
    largest_component,
    pseudo_labels,
)


def logits_of(probabilities):
    """(voxels, classes) -> (1, C, 1, voxels)."""
    return torch.tensor(probabilities).T[None, :, None].log()


def test_the_most_likely_class_where_it_is_sure():
    logits = logits_of([[0.9, 0.05, 0.05], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
    labels, sure = pseudo_labels(logits, regions=False, confidence=0.6)
    assert labels.flatten().tolist() == [0, 1, 2] and sure.flatten().tolist() == [True, False, True]
    coding = TargetCoding(regions=False, ignore_label=None)
    assert coding.encode(labels, sure).flatten().tolist() == [0, -1, 2]
    assert TargetCoding(regions=False, ignore_label=3).encode(labels, sure).flatten().tolist() == [0, 3, 2]


def test_of_regions_every_answer_must_be_sure():
    p = torch.tensor([[0.9, 0.9], [0.9, 0.5], [0.1, 0.2]])
    logits = (p / (1 - p)).log().T[None, :, None]
    labels, sure = pseudo_labels(logits, regions=True, confidence=0.8)
    assert labels[0, :, 0].tolist() == [[True, True, False], [True, False, False]]
    assert sure.flatten().tolist() == [True, False, True]
    target = TargetCoding(regions=True, ignore_label=None).encode(labels, sure)
    assert target[0, 2, 0].tolist() == [False, True, False] and target.dtype == torch.bool


def test_without_a_threshold_all_voxels_count():
    assert pseudo_labels(torch.randn(2, 3, 4, 4), regions=False)[1].all()


@pytest.mark.parametrize("regions, ignore, channels", [(True, None, 3), (True, 4, 2), (False, None, 2)])
def test_targets_of_the_data_set_get_a_channel_for_ignored_voxels_where_they_lack_it(regions, ignore, channels):
    target = torch.ones(1, 2, 3, 3, dtype=torch.bool)
    assert TargetCoding(regions, ignore).with_ignore(target).shape[1] == channels


def test_the_largest_component_of_each_class():
    row = torch.tensor([1, 1, 0, 1, 2, 0, 2, 2, 2, 0])
    kept = keep_largest_components(row[None, None, None], regions=False)
    assert kept.flatten().tolist() == [1, 1, 0, 0, 0, 0, 2, 2, 2, 0]
    regions = torch.stack([row == 1, row == 2])[None, :, None]
    kept = keep_largest_components(regions, regions=True)
    assert kept[0, :, 0].int().tolist() == [[1, 1, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1, 0]]


def test_corners_connect_and_nothing_stays_nothing():
    assert largest_component(np.eye(4, dtype=bool)).sum() == 4
    assert not largest_component(np.zeros((2, 3, 4), bool)).any()


def step(labels, sure, labelled):
    return torch.tensor(labels)[None, None], torch.tensor(sure)[None, None], torch.tensor(labelled)


def test_the_monitor_counts_and_names_a_collapse():
    monitor = PseudoLabelMonitor()
    assert monitor.line() == ""
    monitor.add(*step([0, 0], [True, False], True))
    assert monitor.line().startswith("WARNING: pseudo-labels: 0.0000 of the voxels foreground, 0.5000 confident; ")
    monitor.add(*step([0, 2], [True, True], True))
    assert monitor.line() == "pseudo-labels: 0.2500 of the voxels foreground, 0.7500 confident"
    empty = PseudoLabelMonitor()
    empty.add(*step([0, 0], [True, True], False))
    assert "WARNING" not in empty.line()  # the labelled images show none either
