"""The key `pool` of dataset.json: round trip, and every fault told."""

import copy
import json

import numpy as np
import pytest
from support.pool_predictions import make_dataset_json

from nnunet_xlstm.catalogue.entries import PoolTarget
from nnunet_xlstm.pools.manifest_json import header_of, read_manifest
from nnunet_xlstm.pools.mapping import SourceMapping

DATASET = make_dataset_json(
    {"liver": ("organ", ["CT", "MR"], ["abdomen"]), "liver_tumor": "lesion"},
    {"A": ({"liver": [1, 2], "liver_tumor": [2]}, "CT", ["thorax", "abdomen"]), "B": {"liver": [6]}},
    [["liver", "liver_tumor"]],
)


def test_round_trip():
    pool = read_manifest(json.loads(json.dumps(DATASET)))
    assert json.loads(json.dumps(header_of(pool)["pool"])) == DATASET["pool"]
    assert pool.targets[0] == PoolTarget("liver", "organ", ("CT", "MR"), ("abdomen",))
    assert pool.source("A") == SourceMapping(
        modality="CT",
        field_of_view=("thorax", "abdomen"),
        labels={"label 1": 1, "label 2": 2},
        targets={"liver": (1, 2), "liver_tumor": (2,)},
    )
    assert pool.representative == {"liver": 1, "liver_tumor": 2}
    later = DATASET | {"pool": DATASET["pool"] | {"of a later version": 1}}
    assert read_manifest(later) == pool


def changed(path, value):
    content = copy.deepcopy(DATASET)
    *keys, last = path
    place = content
    for key in keys:
        place = place[key]
    place[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["pool"], None, "pool is null; give an object with targets"),
        (["pool", "targets", 0, "name"], "../liver", 'name is "../liver"; give the name of a file'),
        (["pool", "targets", 0, "name"], "liver_tumor", '"liver_tumor" is listed twice'),
        (["pool", "targets", 0, "name"], "spleen", 'codes: target "liver" is unknown'),
        (["pool", "targets", 0, "group"], "bone", 'targets[0].group is "bone"; give one of organ, vessel, lesion'),
        (["pool", "targets", 0, "region"], [], "pool.targets[0].region is []"),
        (["pool", "codes", "1"], ["spleen"], 'codes: target "spleen" is unknown'),
        (["pool", "codes"], {"one": ["liver"]}, 'pool.codes has the key "one"; give a code in quotation marks'),
        (["pool", "codes", "9"], ["liver"], "`labels` says [1, 2, 3]"),
        (["pool", "hierarchy"], [["liver"]], 'pool.hierarchy[0] is ["liver"]; give a list of at least 2'),
        (["pool", "sources"], {}, "pool.sources is {}; give an object name -> source"),
        (["pool", "sources", "A", "modality"], "US", "pool.sources.A.modality is"),
        (["pool", "sources", "A", "targets", "liver"], [1, 9], "name the id 9, which no label has"),
        (["labels"], {"background": 0, "liver_tumor": [2], "liver": [1, 2]}, "in their order"),
        (["labels"], None, "in their order"),
        (["regions_class_order"], [1], "one code for each of the 2 targets"),
        (["regions_class_order"], [1, 1], 'has 1 for "liver_tumor"'),
        (["regions_class_order"], None, "regions_class_order is null"),
    ],
)
def test_faults(path, value, message):
    with pytest.raises(ValueError) as error:
        read_manifest(changed(path, value), "there/dataset.json")
    assert message in str(error.value) and str(error.value).startswith("there/dataset.json")


@pytest.mark.parametrize("content", [None, [], {}, {"labels": {}}, "pool"])
def test_no_pool(content):
    with pytest.raises(ValueError, match="not a pool with labels; make one with `nnunet_xlstm pool build`"):
        read_manifest(content)


def places(value, path=()):
    yield path
    rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in rows:
        yield from places(item, (*path, key))


def test_fuzz():
    """Any value in any place is read or ends in a ValueError."""
    rng = np.random.default_rng(0)
    junk = [None, True, -1, 2**70, 1.5, "", "liver", [], [[]], [None], {}, {"": 0}, {"1": [["liver"]]}, [{}]]
    told = 0
    for path in [p for p in places(DATASET) if p]:
        for i in rng.permutation(len(junk))[:8]:
            try:
                read_manifest(changed(path, junk[i]))
            except ValueError:
                told += 1
    assert told > 200
