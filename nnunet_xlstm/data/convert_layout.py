"""The files of a public data set as it is downloaded, found by the patterns of its catalogue entry."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xlstm.data.catalogue import DataSet
from nnunet_xlstm.data.image_files import absolute, files_below
from nnunet_xlstm.data.inputs import Reasons
from nnunet_xlstm.errors import DatasetError

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
        return f"{self.case}_{self.phase}" if self.phase else self.case


@dataclass(frozen=True)
class NativeFiles:
    """All cases of a folder, and what was left out with the reason."""

    train: tuple[NativeCase, ...]
    test: tuple[NativeCase, ...]
    left_out: Reasons


def find_native(entry: DataSet, root: Path, test: bool = False) -> NativeFiles:
    """The cases of a data set below `root`. A training case has a label.

    Args:
        test: also the test cases: those of the entry's `test_image`, else the images without a label.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no case is found; or two files fit one case.
    """
    if not root.is_dir():
        raise DatasetError(f"--input {root}: no such folder")
    top = absolute(root)
    files = sorted(relative for path in files_below(top) if "__MACOSX" not in (relative := _below(path, top)))
    patterns = entry.layout
    labels = _match(files, patterns["label"], top)
    images = {channel["name"]: _match(files, patterns["image"][channel["name"]], top) for channel in entry.channels}
    left_out: Reasons = []
    train = _join(labels, images, labels, left_out)
    if not train:
        raise DatasetError(_nothing_found(entry, root, files, (patterns["label"], *patterns["image"].values())))
    tests: tuple[NativeCase, ...] = ()
    if test:
        own = patterns.get("test_image")
        hidden = {name: _match(files, own[name], top) for name in images} if own else images
        answers = _match(files, patterns["test_label"], top) if "test_label" in patterns else {}
        keys = {key for found in hidden.values() for key in found} - labels.keys()
        tests = _join(keys, hidden, answers, left_out)
        if not tests:
            wanted = own.values() if own else patterns["image"].values()
            raise DatasetError("--test: " + _nothing_found(entry, root, files, wanted, "test case"))
    return NativeFiles(train, tests, left_out)


def compile_pattern(pattern: str) -> re.Pattern:
    """A layout's pattern as a regular expression for whole paths below the root, with / as separator."""
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


def _below(path: Path, top: Path) -> str:
    return path.relative_to(top).as_posix()


def _match(files: Iterable[str], pattern: str, top: Path) -> Matches:
    expression = compile_pattern(pattern)
    found: Matches = {}
    for file in files:
        if hit := expression.fullmatch(file):
            groups = hit.groupdict(default="")
            labels = found.setdefault((groups["case"], groups.get("phase", "")), {})
            first = labels.setdefault(groups.get("label", ""), os.path.join(top, file))
            if first != os.path.join(top, file):
                raise DatasetError(f"{first} and {top / file} both fit the pattern {pattern} of one case; keep one")
    return found


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
        return f"{text}. The pattern fits below {place}: give that as --input"
    if entry.verified["layout"] == "no":
        return f"{text}. The layout is not verified: correct a copy of {entry.name}.json and convert that"
    return f"{text}. Give the folder that the official download unpacks to"


def _better_root(root: Path, files: Sequence[str], pattern: str) -> Path | None:
    """A folder below or above `root` from where the pattern fits."""
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
