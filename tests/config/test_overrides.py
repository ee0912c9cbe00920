import dataclasses
import json
from pathlib import Path

import pytest

from nnunet_xlstm import config as c
from nnunet_xlstm.cli import cmd_config
from nnunet_xlstm.config.page import rows
from nnunet_xlstm.config.pretraining import PretrainingConfig

RECIPE = c.SegmentationConfig()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def write(tmp_path, monkeypatch):
    def _write(text):
        path = tmp_path / "run.json"
        path.write_text(text)
        monkeypatch.setenv(c.ENVIRONMENT, str(path))
        return path

    return _write


def test_no_file_keeps_the_recipe():
    assert c.resolve(RECIPE) == RECIPE


def test_file_overrides_declared_keys_only_those(write):
    write('{"num_epochs": 3, "initial_lr": 1, "patch_size": [8, 16, 16], "seed": null, "mirroring": false}')
    used = c.resolve(RECIPE)
    assert (used.num_epochs, used.initial_lr, used.patch_size, used.seed) == (3, 1, [8, 16, 16], None)
    assert dataclasses.replace(used, num_epochs=1000, initial_lr=1e-2, patch_size=None, mirroring=True) == RECIPE


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"num_epoch": 3}', 'key "num_epoch" is unknown \\(did you mean num_epochs\\?\\); use '),
        ('{"num_epochs": "3"}', 'num_epochs is "3"; give a whole number from 1 on'),
        ('{"num_epochs": 2.5}', "is 2.5; give a whole number"),
        ('{"num_epochs": true}', "is true; give a whole number"),
        ('{"num_epochs": 0}', "num_epochs is 0; give a whole number from 1 on"),
        ('{"patch_size": [8, "x"]}', 'patch_size\\[1\\] is "x"; give a whole number'),
        ('{"optimizer": "lion"}', 'optimizer is "lion"; give one of sgd, adam, adamw'),
        ('{"mirroring": 1}', "mirroring is 1; give true or false"),
        ('{"initial_lr": NaN}', "initial_lr is NaN; give a number from 0 on"),
        (
            '{"gamma_range": [2, 1]}',
            "gamma_range is \\[2, 1\\]; give a range around 1, \\[least, great",
        ),
        ('{"gamma_range": [2, 3]}', "gamma_range is \\[2, 3\\]; give a range around 1"),
        ("[1]", "holds a list; it must hold an object"),
        ("{num", "not valid JSON"),
    ],
)
def test_errors(write, text, message):
    path = write(text)
    with pytest.raises(ValueError, match=message) as error:
        c.resolve(RECIPE)
    assert str(path) in str(error.value)


def test_missing_file(monkeypatch):
    monkeypatch.setenv(c.ENVIRONMENT, "nowhere.json")
    with pytest.raises(ValueError, match="nnUNet_xlstm_config=nowhere.json: no such file"):
        c.resolve(RECIPE)


@pytest.mark.parametrize("family", [c.SegmentationConfig, PretrainingConfig])
def test_every_key_has_a_text_and_a_json_default(family):
    for row in rows(family):
        assert row.text and row.rule
        json.loads(row.default)


@pytest.mark.parametrize("family", [c.SegmentationConfig, PretrainingConfig])
def test_every_key_is_declared_once(family):
    names = [name for group in c.key_groups(family) for name in group.__dict__["__annotations__"]]
    assert len(names) == len(set(names)) == len(dataclasses.fields(family))


def test_reference_page_is_up_to_date():
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert page == cmd_config.page(), "run: nnunet_xlstm config --markdown > docs/reference/configuration.md"
