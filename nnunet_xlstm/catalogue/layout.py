"""The files of a public data set as it is downloaded, found by the patterns of its catalogue entry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.catalogue.entries import DataSet
from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.dicom.series import Reasons
from nnunet_xlstm.imaging.image_files import absolute, files_below

PARTS = {"case": "[^/]+", "phase": "ED|ES", "label": "[^/]+"}
WILD = {"**/": "(?:[^/]+/)*", "*": "[^/]*"}
ZIPPED = ".nii.gz"  # also found unzipped
MAX_SHOWN = 5

CasePhase = tuple[str, str]  # name of the case; ED, ES, or empty
Matches = dict[CasePhase, dict[str, str]]  # case -> name of a label, or empty -> file


@dataclass(frozen=True)
class NativeCase:
    """One image with its label maps; absolute paths.

    Attributes:
        case: as the authors call it: the patient where there are phases.
        phase: ED, ES, or empty.
        images: one for every channel.
        labels: name of a label -> its mask; or an empty name -> the map of all labels. Empty for a test case.
    """

    case: str
    phase: str
    images: tuple[str, ...]
    labels: Mapping[str, str]

    @property
    def name(self) -> str:
        """The case's name in the raw data set."""
        return f"{self.case}_{self.phase}" if self.phase else self.case


@dataclass(frozen=True)
class NativeFiles:
    """All cases of a folder, and what was left out with the reason."""

    train: tuple[NativeCase, ...]
    test: tuple[NativeCase, ...]
    left_out: Reasons


def find_native(entry: DataSet, root: Path, test: bool = False) -> NativeFiles:
    """Find the cases of a data set below `root`. A training case has a label.

    Args:
        entry: with a layout.
        root: folder that the official download unpacks to.
        test: also the test cases: those of the entry's `test_image`, else the images without a label.

    Raises:
        DatasetError: there is no such folder, or no case in it; or two files fit one case equally well.
    """
    if not root.is_dir():
        raise DatasetError(f"-i {root}: no such folder")
    top = absolute(root)
    files = sorted(file for path in files_below(top) if "__MACOSX" not in (file := path.relative_to(top).as_posix()))
    patterns = entry.layout or {}
    left_out: Reasons = []

    def match(pattern: str) -> Matches:
        return _match(files, pattern, top, left_out)

    def by_channel(key: str) -> dict[str, Matches]:
        return {channel["name"]: match(patterns[key][channel["name"]]) for channel in entry.channels}

    labels, images = match(patterns["label"]), by_channel("image")
    train = _join(labels, images, labels, left_out)
    if not train:
        raise DatasetError(_nothing_found(entry, root, files, (patterns["label"], *patterns["image"].values())))
    tests: tuple[NativeCase, ...] = ()
    if test:
        answers = match(patterns["test_label"]) if "test_label" in patterns else {}
        keys = {key for found in images.values() for key in found} - labels.keys()
        if "test_image" in patterns:  # none of them is a training image again
            used = {path for case in train for path in (*case.images, *case.labels.values())}
            images = {name: _without(found, used) for name, found in by_channel("test_image").items()}
            answers = _without(answers, used)
            keys = {key for found in (*images.values(), answers) for key in found}
        tests = _join(keys, images, answers, left_out)
        if not tests:
            wanted = patterns.get("test_image", patterns["image"]).values()
            raise DatasetError("--test: " + _nothing_found(entry, root, files, wanted, "test case"))
    return NativeFiles(train, tests, list(dict.fromkeys(left_out)))


def _without(matches: Matches, used: set[str]) -> Matches:
    """Return the matches that are not used: the patterns of two parts of a data set may fit the same files."""
    return {key: found for key, found in matches.items() if not used & set(found.values())}


def compile_pattern(pattern: str) -> re.Pattern:
    """Return a layout's pattern as a regular expression for whole paths below the root, with / as separator."""
    parts, seen = [], set()
    ending = ZIPPED if pattern.endswith(ZIPPED) else ""
    for token in re.split(r"(\{\w+\}|\*\*/|\*)", pattern.removesuffix(ending)):
        name = token[1:-1]
        if token.startswith("{"):
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{PARTS[name]})")
            seen.add(name)
        else:
            parts.append(WILD.get(token) or re.escape(token))
    return re.compile("".join(parts) + (r"\.nii(?:\.gz)?" if ending else ""))


def _match(files: Iterable[str], pattern: str, top: Path, left_out: Reasons) -> Matches:
    """Find the files that a pattern fits. Of two for one case the more exact fit counts, in which `*` stands for less.

    Raises:
        DatasetError: two fit equally well, or lie in different folders, where they may be two people.
    """
    expression = compile_pattern(pattern)
    found: dict[CasePhase, dict[str, list[str]]] = {}
    for file in files:
        if hit := expression.fullmatch(file):
            groups = hit.groupdict(default="")
            of_case = found.setdefault((groups["case"], groups.get("phase", "")), {})
            of_case.setdefault(groups.get("label", ""), []).append(file)
    return {
        key: {label: _most_exact(fits, pattern, top, left_out) for label, fits in of_case.items()}
        for key, of_case in found.items()
    }


def _most_exact(fits: Sequence[str], pattern: str, top: Path, left_out: Reasons) -> str:
    """Return the file with the shortest name, since all but what `*` stands for is equal in them."""
    by_length = sorted(fits, key=_length)
    best, *others = (os.path.join(top, file) for file in by_length)
    for file, path in zip(by_length[1:], others, strict=True):
        if _length(file) == _length(by_length[0]) or os.path.dirname(path) != os.path.dirname(best):
            raise DatasetError(f"{best} and {path} both fit the pattern {pattern} of one case; keep one")
        left_out.append((path, f"fits the pattern {pattern} less exactly than {os.path.basename(best)}"))
    return best


def _length(file: str) -> int:
    return len(file.removesuffix(".gz").removesuffix(".nii"))


def _join(
    keys: Iterable[CasePhase], images: Mapping[str, Matches], labels: Matches, left_out: Reasons
) -> tuple[NativeCase, ...]:
    cases = []
    for key in sorted(keys):
        of_case = {channel: found[key][""] for channel, found in images.items() if key in found}
        if missing := images.keys() - of_case.keys():
            path = min((*of_case.values(), *labels.get(key, {}).values()))
            left_out.append((path, f"case {' '.join(key).strip()} has no image of {', '.join(sorted(missing))}"))
        else:
            cases.append(NativeCase(*key, tuple(of_case.values()), labels.get(key, {})))
    return tuple(cases)


def _nothing_found(
    entry: DataSet, root: Path, files: Sequence[str], patterns: Iterable[str], what: str = "training case"
) -> str:
    patterns = list(dict.fromkeys(patterns))
    counts = ", ".join(f"{p} fits {sum(bool(compile_pattern(p).fullmatch(f)) for f in files)} files" for p in patterns)
    shown = ", ".join(files[:MAX_SHOWN]) + (", ..." if len(files) > MAX_SHOWN else "")
    text = f"{root} holds no {what} of {entry.name}: {counts}; there are {len(files)} files"
    text += f", such as {shown}" if files else ""
    if place := _better_root(root, files, patterns[0]):
        return f"{text}. The pattern fits below {place}: give that as -i"
    if entry.verified["layout"] == "no":
        return f"{text}. The layout is not verified: correct a copy of {entry.name}.json and convert that"
    return f"{text}. Give the folder that the official download unpacks to"


def _better_root(root: Path, files: Sequence[str], pattern: str) -> Path | None:
    """Find a folder below or above `root` from where the pattern fits."""
    inner = re.compile(f"((?:[^/]+/)+?){compile_pattern(pattern).pattern}")
    for file in files:
        if hit := inner.fullmatch(file):
            return root / hit.group(1).rstrip("/")
    above, prefix, expression = absolute(root), "", compile_pattern(pattern)
    while len(prefix.split("/")) <= pattern.count("/") and above.name:
        prefix, above = f"{above.name}/{prefix}", above.parent
        if any(expression.fullmatch(prefix + file) for file in files):
            return above
    return None
