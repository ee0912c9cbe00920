"""The study of frozen features on a raw data set: what the encoder of a pre-training checkpoint has learnt.

Images are preprocessed with the plans of the checkpoint, so that the encoder sees what it was trained on.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from nnunet_xlstm.figures.feature_maps import draw_feature_maps
from nnunet_xlstm.nnunet.frozen_encoder import FrozenEncoder, Observation, Pretrained
from nnunet_xlstm.pretraining import probe
from nnunet_xlstm.pretraining.monitor import effective_rank, knn_accuracy, spread

CACHE_BYTES = 2 << 30  # of preprocessed images that are needed more than once
PCA_POINTS = 2000  # per shown case
HISTOGRAM = "histogram"  # the arm without a network, for nearest neighbours
DEFINITIONS = {
    "effective_rank": "RankMe of the pooled last map, a vector of unit length per case",
    "feature_sd": "SD over cases of these vectors, mean over dimensions, times sqrt(dimensions); 1 for random ones",
    "effective_rank_cells": "RankMe of single cells of the last map (at most 64 per case)",
    "feature_sd_cells": "likewise",
    "knn": "share of cases whose nearest cases (cosine) of other subjects name their label by majority",
    "knn bottom": "on the pooled last map", "knn all": "on the pooled maps of all stages, each of unit length",
    "knn histogram": "on square roots of intensity histograms of the preprocessed images, no network",
    "probe": "Dice of test cases; multinomial logistic regression on hypercolumns of voxels of the training cases; "
    "penalty and prior (0: class shares of the sample, 1: of the images) chosen on every second training subject",
    "stages": "one probe per stage; mean over classes of the share found of a class-balanced sample of test voxels",
}  # fmt: skip

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawDataset:
    """A raw nnU-Net data set: its folder, its dataset.json, and of each case its images and its label map."""

    folder: Path
    content: dict[str, Any]
    images: dict[str, list[str]]
    labels: dict[str, Path]

    @classmethod
    def find(cls, name: str) -> RawDataset:
        """By id or name in nnUNet_raw, or by its folder.

        Raises:
            ValueError: there is none, or it holds no images.
        """
        folder = Path(name)
        if not (folder / "dataset.json").is_file():
            try:
                folder = Path(str(nnUNet_raw)) / maybe_convert_to_dataset_name(int(name) if name.isdigit() else name)
            except (RuntimeError, ValueError) as error:
                raise ValueError(
                    f"-d {name}: no data set of this id or name in nnUNet_raw ({nnUNet_raw!r}), and no folder with a "
                    "dataset.json"
                ) from error
        try:
            content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
            files = get_filenames_of_train_images_and_targets(str(folder), dict(content))
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"-d {name}: {folder} is not a raw data set of nnU-Net ({error})") from error
        if not files:
            raise ValueError(f"-d {name}: {folder}/imagesTr holds no *_0000{content.get('file_ending')}")
        return cls(
            folder,
            content,
            {case: list(row["images"]) for case, row in sorted(files.items())},
            {case: Path(row["label"]) for case, row in files.items()},
        )

    @property
    def channel_names(self) -> tuple[str, ...]:
        return tuple((self.content.get("channel_names") or self.content.get("modality") or {}).values())

    def label_ids(self) -> list[int]:
        """All ids of dataset.json without the ignore label; 0 is the first."""
        rows = {name: ids for name, ids in self.content["labels"].items() if name != "ignore"}
        return sorted({0}.union(*(ids if isinstance(ids, (list, tuple)) else [ids] for ids in rows.values())))

    def ignore_label(self) -> int | None:
        return self.content["labels"].get("ignore")


@dataclass
class Prepared:
    """A preprocessed case: image (C, D, H, W), label ids (D, H, W) or None, and what the way back needs."""

    image: np.ndarray
    labels: np.ndarray | None
    properties: dict[str, Any]


class Cases:
    """Reads cases of a data set and preprocesses them with the plans of the checkpoint.

    Args:
        channel: of the data set, for an encoder of one channel; None takes all.

    Raises:
        ValueError: the channels of data set and encoder do not fit.
    """

    def __init__(self, dataset: RawDataset, pretrained: Pretrained, channel: int | None = None):
        self.dataset, self.pretrained, self.channel = dataset, pretrained, channel
        self._check_channels()
        first = next(iter(dataset.images.values()))[0]
        try:
            self.reader = determine_reader_writer_from_dataset_json(dataset.content, first, verbose=False)()
        except RuntimeError as error:
            raise ValueError(f"{first}: nnU-Net has no reader for it; check file_ending in dataset.json") from error
        self.preprocessor = pretrained.configuration.preprocessor_class(verbose=False)
        self._cache: dict[str, Prepared] = {}
        self._room = CACHE_BYTES

    def _check_channels(self) -> None:
        names, wanted = self.dataset.channel_names, self.pretrained.channel_names
        where = self.dataset.folder.name
        if self.channel is not None and not 0 <= self.channel < len(names):
            raise ValueError(f"--channel {self.channel}: {where} has the channels 0 to {len(names) - 1} ({names})")
        given = names if self.channel is None else (names[self.channel],)
        if len(given) != len(wanted):
            fix = "; choose one of them with --channel N" if len(wanted) == 1 else ""
            raise ValueError(
                f"{where} gives {len(given)} channel(s) {given}, the encoder was trained on {len(wanted)} {wanted}{fix}"
            )
        if [n.lower() for n in given] != [n.lower() for n in wanted]:
            logger.warning("the encoder was trained on %s, these images are %s", ", ".join(wanted), ", ".join(given))

    def load(self, case: str, with_labels: bool = False) -> Prepared:
        """The case, preprocessed.

        Raises:
            ValueError: it cannot be read, has no label map, or one of another size.
        """
        held = self._cache.get(case)
        if held is not None and (held.labels is not None or not with_labels):
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
            raise ValueError(f"case '{case}' has no label map {label}; --probe needs the labels of all cases")
        try:
            data, properties = self.reader.read_images(images if self.channel is None else [images[self.channel]])
            seg = self.reader.read_seg(str(label))[0] if with_labels else None
        except (RuntimeError, OSError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"case '{case}' cannot be read ({reason}); mend its files or take it out") from error
        if seg is not None and seg.shape[1:] != data.shape[1:]:
            raise ValueError(f"case '{case}': image {data.shape[1:]} and label map {seg.shape[1:]} differ in size")
        # ids alone: regions are unions of them
        ids = {0} if seg is None else {int(v) for v in np.unique(seg)} - {0}
        plain = {"labels": {"background": 0, **{str(i): i for i in sorted(ids) if i}}}
        image, labels, properties = self.preprocessor.run_case_npy(
            data, seg, properties, self.pretrained.plans, self.pretrained.configuration, plain
        )
        labels = None if seg is None else np.maximum(labels[0], 0)  # -1 is background outside the body
        return Prepared(np.ascontiguousarray(image, np.float32), labels, properties)

    def write_labels(self, logits: Tensor, ids: Sequence[int], prepared: Prepared, path: Path) -> None:
        """A label map on the grid of the original image, from logits (K, D, H, W) of the label ids."""
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
        self.reader.write_seg(
            np.asarray(ids, np.uint16 if max(ids) > 255 else np.uint8)[index], str(path), prepared.properties
        )

    def as_image(self, array: np.ndarray, prepared: Prepared) -> sitk.Image:
        """A preprocessed array (D, H, W) with its spacing and, where the reader knows it, its direction."""
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


@dataclass(frozen=True)
class Plan:
    """What the study does.

    Attributes:
        arms: of frozen_encoder.ARMS. train, test: cases that fit the probe and that score it; empty without a probe.
        others: further cases for neighbours and ranks. subjects: of every case.
        labels: name -> case -> what the neighbours are asked for. shown: cases in the picture.
        stages: of a hypercolumn; None for all. each_stage: also probe every stage alone.
        voxels: in the sample that the probe is fitted on.
    """

    arms: Sequence[str]
    train: Sequence[str] = ()
    test: Sequence[str] = ()
    others: Sequence[str] = ()
    subjects: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    shown: Sequence[str] = ()
    slices: int = 5
    stages: Sequence[int] | None = None
    each_stage: bool = False
    voxels: int = 20_000
    neighbours: int = 5
    seed: int = 0
    device: str = "cpu"

    @property
    def cases(self) -> list[str]:
        return sorted({*self.train, *self.test, *self.others, *self.shown})


def spread_over_subjects(cases: Iterable[str], subjects: Mapping[str, str], n: int, seed: int) -> list[str]:
    """At most n cases, drawn with a seed: one of each subject before a second one of any."""
    rng = np.random.default_rng(seed)
    cases = sorted(cases)
    order = [cases[i] for i in rng.permutation(len(cases))]
    seen: Counter = Counter()
    turn = {}
    for case in order:
        turn[case] = seen[subjects[case]]
        seen[subjects[case]] += 1
    return sorted(sorted(order, key=turn.__getitem__)[:n])


class Study:
    """Runs a Plan and writes label maps and pictures to a folder; `numbers` of each arm are plain JSON."""

    def __init__(self, cases: Cases, plan: Plan, out: Path, progress: bool = False):
        self.cases, self.plan, self.out, self.progress = cases, plan, Path(out), progress
        self.ids: list[int] = []
        self.numbers: dict[str, dict[str, Any]] = {}

    def run(self) -> dict[str, dict[str, Any]]:
        """Everything that the plan asks for: arm -> numbers. The label maps of an arm are in out/<arm>."""
        plan, pretrained = self.plan, self.cases.pretrained
        drawn = self._draw()
        pictures: dict[str, dict[str, np.ndarray]] = {case: {} for case in plan.shown}
        for arm in plan.arms:
            encoder = FrozenEncoder(
                pretrained.encoder(arm, plan.seed),
                pretrained.divisors(),
                pretrained.configuration.patch_size,
                plan.stages,
                plan.device,
            )
            # one stream of random numbers per arm: all arms draw the same
            rng = np.random.default_rng([plan.seed, 1])
            seen = {
                case: encoder.observe(self.cases.load(case).image, np.concatenate(drawn.points(case)), rng)
                for case in self._bar(plan.cases, f"{arm}: features")
            }
            self.numbers[arm] = self._numbers(seen)
            if plan.train:
                self._probe(arm, encoder, seen, drawn)
            if plan.shown:
                for case, colours in self._colours(encoder, seen, drawn).items():
                    pictures[case][arm] = colours
        if plan.labels:
            vectors = torch.stack([probe.intensity_histogram(self.cases.load(case).image) for case in plan.cases])
            self.numbers[HISTOGRAM] = {"knn": self._neighbours({HISTOGRAM: vectors})}
        for case, colours in pictures.items():
            self._draw_picture(case, colours)
        return self.numbers

    # ---- what is drawn once for all arms

    def _draw(self) -> Drawn:
        """Voxels of the probe and of the picture."""
        plan = self.plan
        drawn = Drawn()
        if plan.train:
            present = self._present(plan.train)
            declared = self.cases.dataset.label_ids()
            if unknown := sorted(self._present(plan.test) - present - {0}):
                raise ValueError(
                    f"label {unknown[0]} is in the test cases but in none of the {len(plan.train)} training cases; "
                    "fit the probe on more cases (--cases), or choose other test subjects"
                )
            if unused := [label for label in declared if label not in present | {0}]:
                logger.warning("labels %s are in no case and are not predicted", unused)
            self.ids = sorted(present | {0})
            if len(self.ids) < 2:
                raise ValueError("the training cases hold no label besides the background; there is nothing to probe")
            drawn.counts = np.zeros(len(self.ids))
        for number, case in enumerate(self._bar(plan.cases, "preprocess")):
            rng = np.random.default_rng([plan.seed, 0, number])  # of its own: what other cases draw changes nothing
            in_probe = case in {*plan.train, *plan.test}
            prepared = self.cases.load(case, in_probe)
            if in_probe:
                classes = self._classes(prepared.labels)
                share = max(1, round(plan.voxels / len(self.ids) / len(plan.train)))
                if case in plan.train or plan.each_stage:
                    drawn.voxels[case] = probe.draw_voxels(classes, share, rng)
                    drawn.classes[case] = classes[tuple(drawn.voxels[case].T)]
                if case in plan.train:
                    drawn.counts += np.bincount(classes[classes >= 0], minlength=len(self.ids))
            if case in plan.shown:
                size = prepared.image.shape[1:]
                drawn.shown[case] = np.stack([rng.integers(0, n, PCA_POINTS) for n in size], 1)
        return drawn

    def _present(self, cases: Sequence[str]) -> set[int]:
        ignore = self.cases.dataset.ignore_label()
        found: set[int] = set()
        for case in cases:
            found |= {int(v) for v in np.unique(self.cases.load(case, True).labels)}
        return found - {ignore}

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        """Label ids -> class indices; -1 where a voxel does not count."""
        classes = np.full(labels.shape, -1, np.int64)
        for index, label in enumerate(self.ids):
            classes[labels == label] = index
        return classes

    # ---- numbers of one arm

    def _numbers(self, seen: Mapping[str, Observation]) -> dict[str, Any]:
        rows = list(seen.values())
        pooled = [
            F.normalize(torch.stack(stage).double(), dim=1) for stage in zip(*(r.pooled for r in rows), strict=True)
        ]
        cells = F.normalize(torch.cat([row.cells for row in rows]).double(), dim=1)
        numbers = {
            "effective_rank": effective_rank(pooled[-1]),
            "feature_sd": spread(pooled[-1]),
            "effective_rank_cells": effective_rank(cells),
            "feature_sd_cells": spread(cells),
            "dimensions": pooled[-1].shape[1],
        }
        if self.plan.labels:
            numbers["knn"] = self._neighbours({"bottom": pooled[-1], "all": torch.cat(pooled, 1)})
        return numbers

    def _neighbours(self, vectors: Mapping[str, Tensor]) -> dict[str, dict[str, float | None]]:
        """Label -> kind of vector -> accuracy; vectors are in the order of the plan's cases."""
        cases = self.plan.cases
        groups = [self.plan.subjects[case] for case in cases]
        return {
            name: {
                kind: knn_accuracy(x, [table[case] for case in cases], groups, self.plan.neighbours)
                for kind, x in vectors.items()
            }
            for name, table in self.plan.labels.items()
        }

    # ---- the probe

    def _probe(self, arm: str, encoder: FrozenEncoder, seen: Mapping[str, Observation], drawn: Drawn) -> None:
        plan = self.plan
        x, y = self._sample(plan.train, seen, drawn)
        owners = np.array([plan.subjects[case] for case in plan.train for _ in drawn.classes[case]])
        model, penalty, prior = probe.fit_probe(x, y, drawn.counts, owners)
        self.numbers[arm]["probe"] = {"penalty": penalty, "prior": prior, "voxels": len(y), "features": x.shape[1]}
        if plan.each_stage:
            self.numbers[arm]["stages"] = self._each_stage(x, y, penalty, seen, drawn)
        folder = self.out / arm
        folder.mkdir(parents=True, exist_ok=True)
        content = {key: value for key, value in self.cases.dataset.content.items() if key != "dataset"}
        (folder / "dataset.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        for case in self._bar(plan.test, f"{arm}: probe"):
            prepared = self.cases.load(case, True)
            logits = encoder.project(prepared.image, model)
            self.cases.write_labels(logits, self.ids, prepared, folder / f"{case}{content['file_ending']}")

    def _sample(self, cases: Sequence[str], seen: Mapping[str, Observation], drawn: Drawn) -> tuple[Tensor, np.ndarray]:
        x = torch.cat([seen[case].points[: len(drawn.voxels[case])] for case in cases])
        return x, np.concatenate([drawn.classes[case] for case in cases])

    def _each_stage(
        self, x: Tensor, y: np.ndarray, penalty: float, seen: Mapping[str, Observation], drawn: Drawn
    ) -> list[dict]:
        test_x, test_y = self._sample(self.plan.test, seen, drawn)
        widths = [len(v) for v in next(iter(seen.values())).pooled]
        chosen = range(len(widths)) if self.plan.stages is None else [s % len(widths) for s in self.plan.stages]
        parts = (m.split([widths[s] for s in chosen], 1) for m in (x, test_x))
        rows = []
        for stage, a, b in zip(chosen, *parts, strict=True):
            found = probe.fit_logistic(a, y, penalty)(b).argmax(1).numpy()
            rows.append({"stage": stage, "channels": widths[stage], "score": probe.balanced_accuracy(found, test_y)})
        return rows

    # ---- the picture

    def _colours(self, encoder: FrozenEncoder, seen: Mapping[str, Observation], drawn: Drawn) -> dict[str, np.ndarray]:
        """Of each shown case three channels in [0, 1], (3, D, H, W): one fit and one scale for all of them."""
        shown = self.plan.shown
        x = torch.cat([seen[case].points[len(drawn.voxels.get(case, ())) :] for case in shown])
        images = [self.cases.load(case).image[0][tuple(drawn.shown[case].T)] for case in shown]
        model = probe.principal_components(x, torch.from_numpy(np.concatenate(images)))
        low, high = np.percentile(model(x).numpy(), (1, 99), axis=0)[:, :, None, None, None]
        return {
            case: ((encoder.project(self.cases.load(case).image, model).numpy() - low) / (high - low + 1e-12)).clip(
                0, 1
            )
            for case in shown
        }

    def _draw_picture(self, case: str, colours: Mapping[str, np.ndarray]) -> None:
        prepared = self.cases.load(case)
        maps = {arm: [self.cases.as_image(channel, prepared) for channel in rgb] for arm, rgb in colours.items()}
        image = self.cases.as_image(prepared.image[0], prepared)
        draw_feature_maps(self.out / f"pca_{case}.png", image, maps, title=case, n_slices=self.plan.slices)

    def _bar(self, cases: Sequence[str], text: str) -> Iterable[str]:
        return tqdm(cases, unit="case", desc=text, disable=None if self.progress else True)


@dataclass
class Drawn:
    """Voxels (N, 3) of cases: of the probe with their classes, and of the picture; and all voxels of each class."""

    voxels: dict[str, np.ndarray] = field(default_factory=dict)
    classes: dict[str, np.ndarray] = field(default_factory=dict)
    shown: dict[str, np.ndarray] = field(default_factory=dict)
    counts: np.ndarray | None = None

    def points(self, case: str) -> list[np.ndarray]:
        nothing = np.zeros((0, 3), np.int64)
        return [self.voxels.get(case, nothing), self.shown.get(case, nothing)]
