"""Names, subjects and folds."""

import pytest

from nnunet_xlstm.datasets.subjects import MAX_NAME, CaseNames, folds_by_subject, safe_name, subject_of, subject_pattern


def test_subject_is_the_first_group_or_all():
    assert subject_of(subject_pattern(r"sub-(\d+)"), "site/sub-07/x") == "07"
    assert subject_of(subject_pattern(r"sub-\d+"), "site/sub-07/x") == "sub-07"
    with pytest.raises(ValueError, match="finds no subject in 'other'"):
        subject_of(subject_pattern(r"sub-(\d+)"), "other")
    with pytest.raises(ValueError, match="not a regular expression"):
        subject_pattern("(")


def test_safe_names():
    assert safe_name("a b/Ünter $x.y") == "a_b_nter_x_y"
    assert safe_name("///") == "case"
    long = safe_name("x" * 500), safe_name("x" * 501)
    assert long[0] != long[1] and max(map(len, long)) < MAX_NAME + 10


def test_names_differ_also_from_frames_and_by_case():
    names = CaseNames()
    given = [
        names.give(wanted, key) for key, wanted in enumerate_keys("scan", "Scan", "scan_t03", "b_t01", "b", "c_t1")
    ]
    assert given[0] == "scan" and given[3] == "b_t01" and given[5] == "c_t1"
    assert given[1].startswith("Scan_") and given[2].startswith("scan_t03_") and given[4].startswith("b_")
    assert len({name.casefold() for name in given}) == 6


def enumerate_keys(*wanted):
    return [(f"key {i}", name) for i, name in enumerate(wanted)]


def test_folds_keep_subjects_together_and_sources_even():
    subjects = {f"a{i}_{t}": f"a{i}" for i in range(10) for t in range(3)} | {f"b{i}": f"b{i}" for i in range(5)}
    sources = {case: case[0] for case in subjects}
    folds = folds_by_subject(subjects, sources)
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(subjects)
    for fold in folds:
        assert not {subjects[c] for c in fold["train"]} & {subjects[c] for c in fold["val"]}
        assert sorted(fold["train"] + fold["val"]) == sorted(subjects)
        assert len({s for s in map(subjects.get, fold["val"]) if s[0] == "a"}) == 2
        assert len({s for s in map(subjects.get, fold["val"]) if s[0] == "b"}) == 1


def test_new_subjects_move_nobody():
    first = {f"c{i:02d}": f"s{i:02d}" for i in range(7)}
    before = folds_by_subject(first, dict.fromkeys(first, "x"))
    more = {f"a{i}": f"r{i}" for i in range(8)} | first | {"c00_late": "s00"}
    after = folds_by_subject(more, dict.fromkeys(more, "x"), before)
    for old, new in zip(before, after, strict=True):
        assert set(old["val"]) <= set(new["val"]) and len(new["val"]) in (3, 4)
    assert sum("c00" in f["val"] and "c00_late" in f["val"] for f in after) == 1


def test_fewer_than_five_subjects_have_no_folds():
    assert folds_by_subject({f"c{i}": f"s{i % 4}" for i in range(20)}, {f"c{i}": "x" for i in range(20)}) == []
