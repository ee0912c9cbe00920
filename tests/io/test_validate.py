"""The vocabulary of constraints: what holds, the sentence for what does not, and an end to both."""

import math

import pytest

from nnunet_xlstm.errors import ConfigError, DatasetError
from nnunet_xlstm.io import validate as v

SCHEMA = v.Record(
    {
        "name": v.Key(v.PLAIN_NAME, example="liver"),
        "group": v.optional(v.one_of(("organ", "lesion"))),
        "ids": v.optional(
            v.TableOf(v.ListOf(v.number(1, whole=True), least=1, distinct=True), "an object name -> ids")
        ),
        "size": v.optional(v.null_or(v.ListOf(v.number(0, 1), lengths=(2, 3)))),
    }
)
# constraint -> (values that hold, values that do not)
VALUES = {
    "text": (v.TEXT, ["a", " a"], ["", " ", 1, None, ["a"]]),
    "any text": (v.ANY_TEXT, ["", "a"], [1, None]),
    "flag": (v.FLAG, [True, False], [0, 1, "true", None]),
    "object": (v.OBJECT, [{}, {"a": 1}], [[], None, {1: 2}]),
    "whole": (v.number(1, 9, whole=True), [1, 9], [0, 10, 1.0, True, "1", math.nan, 10**400]),
    "number": (v.number(0), [0, 1.5, 10**400], [-1, math.nan, math.inf, True, "1"]),
    "choice": (v.one_of(("a", "b")), ["a"], ["c", "", None, ["a"], 1]),
    "name": (v.PLAIN_NAME, ["a-b_1"], ["a b", "", "a\n", None, 3]),
    "null": (v.null_or(v.FLAG), [None, True], [0, "", []]),
    "either": (v.Either(v.FLAG, v.ListOf(v.FLAG, least=1)), [True, [False]], [1, [], [1]]),
    "list": (v.ListOf(v.FLAG, lengths=(2,)), [[True, False], (True, True)], [[], [True], True, "ab", [1, 2]]),
    "distinct": (v.ListOf(v.ANY_TEXT, distinct=True), [[], ["a", "b"]], [["a", "a"], [["a"]]]),
    "table": (v.TableOf(v.FLAG, "an object", key=v.TEXT, least=1), [{"a": True}], [{}, {"": True}, {"a": 1}, []]),
    "each its own": (v.TableOf(v.number(), "an object", distinct=True), [{"a": 1, "b": 2}], [{"a": 1, "b": 1}]),
    "record": (SCHEMA, [{"name": "a"}, {"name": "a", "size": None}], [{}, [], {"name": "a", "b": 1}, {"name": 1}]),
    "open record": (v.Record({"a": v.Key(v.FLAG)}, open=True), [{"a": True, "b": 1}], [{"b": 1}]),
}


@pytest.mark.parametrize("name", VALUES)
def test_values(name):
    constraint, good, bad = VALUES[name]
    assert not [value for value in good if v.breaks(constraint, value)]
    assert not [value for value in bad if not v.breaks(constraint, value)]
    for value in bad:
        assert all(text.strip() and "; give " in text or "; use " in text for text in constraint.faults(value, "key"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "here: it is null; give an object with name, group, ids, size"),
        ({}, 'here: key "name" is missing; give a name of letters, digits, - and _ alone, such as "liver"'),
        ({"name": "a b"}, 'here: name is "a b"; give a name of letters, digits, - and _ alone'),
        ({"name": "a", "gruop": 1}, 'here: key "gruop" is unknown (did you mean group?); use name, group, ids, size'),
        ({"name": "a", "group": "bone"}, 'here: group is "bone"; give one of organ, lesion'),
        ({"name": "a", "ids": {"liver": [1, "x"]}}, 'here: ids.liver[1] is "x"; give a whole number from 1 on'),
        ({"name": "a", "ids": {"liver": [1, 1]}}, "here: ids.liver is [1, 1]; give a list of at least 1 different "
         "entries, each entry a whole number from 1 on"),
        ({"name": "a", "size": 3}, "here: size is 3; give null, or a list of 2 or 3 entries, each entry a number from "
         "0 to 1"),
        ({"name": "a", "size": [0, 2]}, "here: size[1] is 2; give a number from 0 to 1"),
    ],
)  # fmt: skip
def test_sentences(value, said):
    with pytest.raises(ConfigError) as error:
        v.check(value, SCHEMA, "here", ConfigError)
    assert str(error.value) == said


def test_two_names_of_one_value():
    table = v.TableOf(v.number(), "an object label -> id", distinct=True)
    assert list(table.faults({"a": 1, "b": 2, "c": 1}, "labels")) == [
        'labels: "a" and "c" are both 1; give each its own'
    ]


def test_all_faults_are_told_but_not_without_end():
    with pytest.raises(DatasetError, match=r"^here: 2 faults\n- a\n- b$"):
        v.refuse(["a", "b"], "here")
    with pytest.raises(DatasetError, match="here: 20 faults or more") as error:
        v.check({str(i): None for i in range(100_000)}, SCHEMA, "here")
    assert len(str(error.value)) < 20_000
    v.refuse([], "here")


def test_what_is_shown_has_an_end():
    assert v.excerpt("x" * 1000) == f'"{"x" * 76}...' and v.excerpt({"a": [None]}) == '{"a": [null]}'
    assert v.did_you_mean("x" * 100_000, ["x" * 99_999]) == "" and v.did_you_mean(3, ["a"]) == ""
