"""The study of frozen features on a raw data set: what the encoder of a pre-training checkpoint has learnt."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from nnunet_xlstm.errors import ConfigError
from nnunet_xlstm.figures.feature_maps import draw_feature_maps
from nnunet_xlstm.io.write import staging, write_json
from nnunet_xlstm.nnunet.probing.cases import Cases
from nnunet_xlstm.nnunet.probing.frozen_encoder import CaseFeatures, FrozenEncoder
from nnunet_xlstm.nnunet.probing.request import Plan
from nnunet_xlstm.pretraining import probe
from nnunet_xlstm.pretraining.collapse.metrics import effective_rank, knn_accuracy, spread

PCA_POINTS = 2000  # per shown case
HISTOGRAM = "histogram"  # the encoder without a network, for nearest neighbours
DEFINITIONS = {
    "effective_rank": "RankMe of the pooled last map, a vector of unit length per case",
    "feature_sd": "SD over cases of these vectors, mean over dimensions, times sqrt(dimensions); 1 for random ones",
    "effective_rank_tokens": "RankMe of single tokens of the last map (at most 64 per case)",
    "feature_sd_tokens": "likewise",
    "knn": "share of cases whose nearest cases (cosine) of other subjects name their label by majority",
    "knn bottleneck": "on the pooled last map", "knn all": "on the pooled maps of all stages, each of unit length",
    "knn histogram": "on square roots of intensity histograms of the preprocessed images, no network",
    "probe": "Dice of test cases; multinomial logistic regression on hypercolumns of voxels of the training cases; "
    "penalty and prior (0: class shares of the sample, 1: of the images) chosen on every second training subject",
    "stages": "one probe per stage; mean over classes of the share found of a class-balanced sample of test voxels",
}  # fmt: skip

logger = logging.getLogger(__name__)


class Study:
    """The run of a Plan: label maps and pictures go to its folder; `numbers` of each encoder are plain JSON."""

    def __init__(self, cases: Cases, plan: Plan):
        self.cases, self.plan, self.out = cases, plan, plan.asked.out
        self.ids: list[int] = []
        self.numbers: dict[str, dict[str, Any]] = {}

    def run(self) -> dict[str, dict[str, Any]]:
        """Run the plan: name of the encoder -> numbers. The label maps of an encoder are in out/<encoder>."""
        plan, pretrained = self.plan, self.cases.pretrained
        drawn = self._draw()
        pictures: dict[str, dict[str, np.ndarray]] = {case: {} for case in plan.shown}
        for encoder_name in plan.encoders:
            encoder = FrozenEncoder(
                pretrained.encoder(encoder_name, plan.asked.seed),
                pretrained.divisors(),
                pretrained.configuration.patch_size,
                plan.stages,
                plan.asked.device,
            )
            # one stream of random numbers per encoder: all encoders draw the same
            rng = np.random.default_rng([plan.asked.seed, 1])
            seen = {
                case: encoder.extract(self.cases.load(case).image, np.concatenate(drawn.points(case)), rng)
                for case in self._bar(plan.cases, f"{encoder_name}: features")
            }
            self.numbers[encoder_name] = self._numbers(seen)
            if plan.train:
                self._probe(encoder_name, encoder, seen, drawn)
            if plan.shown:
                for case, colors in self._colors(encoder, seen, drawn).items():
                    pictures[case][encoder_name] = colors
        if plan.labels:
            vectors = torch.stack([probe.intensity_histogram(self.cases.load(case).image) for case in plan.cases])
            self.numbers[HISTOGRAM] = {"knn": self._neighbors({HISTOGRAM: vectors})}
        for case, of_encoders in pictures.items():
            self._draw_picture(case, of_encoders)
        return self.numbers

    # ---- what is drawn once for all encoders

    def _draw(self) -> Drawn:
        """Draw voxels of the probe and of the picture."""
        plan = self.plan
        drawn = Drawn()
        if plan.train:
            present = self._present(plan.train)
            declared = sorted(self.cases.dataset.file.labels().known - {self.cases.dataset.file.labels().ignore})
            if unknown := sorted(self._present(plan.test) - present - {0}):
                raise ConfigError(
                    f"label {unknown[0]} is in the test cases but in none of the {len(plan.train)} training cases; "
                    "fit the probe on more cases (--cases), or choose other test subjects"
                )
            if unused := [label for label in declared if label not in present | {0}]:
                logger.warning("labels %s are in no case and are not predicted", unused)
            self.ids = sorted(present | {0})
            if len(self.ids) < 2:
                raise ConfigError("the training cases hold no label besides the background; there is nothing to probe")
            drawn.counts = np.zeros(len(self.ids))
        for number, case in enumerate(self._bar(plan.cases, "preprocess")):
            # of its own: what other cases draw changes nothing
            rng = np.random.default_rng([plan.asked.seed, 0, number])
            in_probe = case in {*plan.train, *plan.test}
            prepared = self.cases.load(case, in_probe)
            if in_probe:
                classes = self._classes(prepared.labels)
                share = max(1, round(plan.asked.voxels / len(self.ids) / len(plan.train)))
                if case in plan.train or plan.asked.each_layer:
                    drawn.voxels[case] = probe.draw_voxels(classes, share, rng)
                    drawn.classes[case] = classes[tuple(drawn.voxels[case].T)]
                if case in plan.train:
                    drawn.counts += np.bincount(classes[classes >= 0], minlength=len(self.ids))
            if case in plan.shown:
                size = prepared.image.shape[1:]
                drawn.shown[case] = np.stack([rng.integers(0, n, PCA_POINTS) for n in size], 1)
        return drawn

    def _present(self, cases: Sequence[str]) -> set[int]:
        ignore = self.cases.dataset.file.labels().ignore
        found: set[int] = set()
        for case in cases:
            found |= {int(v) for v in np.unique(self.cases.load(case, True).labels)}
        return found - {ignore}

    def _classes(self, labels: np.ndarray) -> np.ndarray:
        """Map label ids to class indices; -1 where a voxel does not count."""
        classes = np.full(labels.shape, -1, np.int64)
        for index, label in enumerate(self.ids):
            classes[labels == label] = index
        return classes

    # ---- numbers of one encoder

    def _numbers(self, seen: Mapping[str, CaseFeatures]) -> dict[str, Any]:
        rows = list(seen.values())
        pooled = [
            F.normalize(torch.stack(stage).double(), dim=1) for stage in zip(*(r.pooled for r in rows), strict=True)
        ]
        tokens = F.normalize(torch.cat([row.tokens for row in rows]).double(), dim=1)
        numbers: dict[str, Any] = {
            "effective_rank": effective_rank(pooled[-1]),
            "feature_sd": spread(pooled[-1]),
            "effective_rank_tokens": effective_rank(tokens),
            "feature_sd_tokens": spread(tokens),
            "dimensions": pooled[-1].shape[1],
        }
        if self.plan.labels:
            numbers["knn"] = self._neighbors({"bottleneck": pooled[-1], "all": torch.cat(pooled, 1)})
        return numbers

    def _neighbors(self, vectors: Mapping[str, Tensor]) -> dict[str, dict[str, float | None]]:
        """Return label -> kind of vector -> accuracy; vectors are in the order of the plan's cases."""
        cases = self.plan.cases
        groups = [self.plan.subjects[case] for case in cases]
        return {
            name: {
                kind: knn_accuracy(x, [table[case] for case in cases], groups, self.plan.asked.neighbors)
                for kind, x in vectors.items()
            }
            for name, table in self.plan.labels.items()
        }

    # ---- the probe

    def _probe(self, encoder_name: str, encoder: FrozenEncoder, seen: Mapping[str, CaseFeatures], drawn: Drawn) -> None:
        plan = self.plan
        x, y = self._sample(plan.train, seen, drawn)
        owners = np.array([plan.subjects[case] for case in plan.train for _ in drawn.classes[case]])
        model, penalty, prior = probe.fit_probe(x, y, drawn.counts, owners)
        self.numbers[encoder_name]["probe"] = {
            "penalty": penalty,
            "prior": prior,
            "voxels": len(y),
            "features": x.shape[1],
        }
        if plan.asked.each_layer:
            self.numbers[encoder_name]["stages"] = self._each_stage(x, y, penalty, seen, drawn)
        content = {key: value for key, value in self.cases.dataset.file.content.items() if key != "dataset"}
        with staging(self.out / encoder_name) as folder:
            write_json(folder / "dataset.json", content)
            for case in self._bar(plan.test, f"{encoder_name}: probe"):
                prepared = self.cases.load(case, True)
                path = folder / f"{case}{content['file_ending']}"
                self.cases.write_labels(encoder.project(prepared.image, model), self.ids, prepared, path)

    def _sample(
        self, cases: Sequence[str], seen: Mapping[str, CaseFeatures], drawn: Drawn
    ) -> tuple[Tensor, np.ndarray]:
        x = torch.cat([seen[case].points[: len(drawn.voxels[case])] for case in cases])
        return x, np.concatenate([drawn.classes[case] for case in cases])

    def _each_stage(
        self, x: Tensor, y: np.ndarray, penalty: float, seen: Mapping[str, CaseFeatures], drawn: Drawn
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

    def _colors(self, encoder: FrozenEncoder, seen: Mapping[str, CaseFeatures], drawn: Drawn) -> dict[str, np.ndarray]:
        """Return three channels in [0, 1] of each shown case, (3, D, H, W): one fit and one scale for all of them."""
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

    def _draw_picture(self, case: str, colors: Mapping[str, np.ndarray]) -> None:
        prepared = self.cases.load(case)
        maps = {
            encoder_name: [self.cases.as_image(channel, prepared) for channel in rgb]
            for encoder_name, rgb in colors.items()
        }
        image = self.cases.as_image(prepared.image[0], prepared)
        draw_feature_maps(self.out / f"pca_{case}.png", image, maps, title=case, n_slices=self.plan.asked.slices)

    def _bar(self, cases: Sequence[str], text: str) -> Iterable[str]:
        return tqdm(cases, unit="case", desc=text, disable=None)


@dataclass
class Drawn:
    """Voxels (N, 3) of cases: of the probe with their classes, and of the picture; and all voxels of each class."""

    voxels: dict[str, np.ndarray] = field(default_factory=dict)
    classes: dict[str, np.ndarray] = field(default_factory=dict)
    shown: dict[str, np.ndarray] = field(default_factory=dict)
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def points(self, case: str) -> list[np.ndarray]:
        """Return the voxels of a case: of the probe, then of the picture."""
        nothing = np.zeros((0, 3), np.int64)
        return [self.voxels.get(case, nothing), self.shown.get(case, nothing)]
