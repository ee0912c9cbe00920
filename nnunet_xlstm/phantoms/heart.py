"""Beating whole-heart phantoms with known answers: seven structures, CT-like and MR-like contrast, no download.

Anatomy is a set of ellipsoids and tubes in millimetres, in patient axes (x to the left, y to the back, z to the head),
with the proportions of an adult heart: LV long axis about 9 cm, wall 1 cm, ejection fraction about 0.55. Blood of one
side of the heart has about one intensity, and tissue without a label (descending aorta, veins, liver, spine) shares the
intensities of the labelled, so that no rule on intensity alone finds the structures: position and shape must be learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from nnunet_xlstm.errors import DatasetError
from nnunet_xlstm.imaging.grid import Grid

MODALITIES = ("CT", "MR")
PHASES = (0.0, 0.5)  # end diastole and end systole
MYO, LV, RV, LA, RA, AO, PA = range(1, 8)
N_STRUCTURES = 7
# Tissues without a label; their ids follow those of the structures.
LUNG, FAT, MUSCLE, BONE, LIVER, DESCENDING, VEIN, WALL = range(8, 16)
N_TISSUES = 16

APEX = np.array([0.65, -0.50, -0.57])  # from the base of the LV to its apex: left, front, down
# The heart's parts before the LV is split into wall and cavity, and which of them touch: the septum, and the valves.
PARTS = (MYO, RV, LA, RA, AO, PA)
TOUCHING = {frozenset(pair) for pair in ((MYO, RV), (MYO, LA), (MYO, AO), (RV, RA), (RV, PA))}
WALL_MM = 3.0  # between all other parts
HEART_CENTER_MM = np.array([0.0, -4.0, 8.0])
FIELD_OF_VIEW_MM = np.array([154.0, 154.0, 148.0])


@dataclass(frozen=True)
class Scan:
    """How one subject is scanned. Sizes and spacings are in (x, y, z); `levels` has one intensity per tissue id."""

    size: np.ndarray
    spacing_mm: np.ndarray
    direction: np.ndarray  # (3, 3)
    origin_mm: np.ndarray
    levels: np.ndarray
    blur_mm: float
    noise: float  # standard deviation, in the unit of `levels`
    bias: float  # amplitude of the multiplicative bias field


def make_case(seed: int, modality: str, phase: float) -> tuple[sitk.Image, sitk.Image]:
    """Make one image (float32) and its label map (uint8).

    Equal seeds are one subject: the anatomy stays, and for one modality also the voxel grid and the contrast.

    Args:
        seed: the subject, a non-negative integer.
        modality: "CT" (Hounsfield units) or "MR" (arbitrary units).
        phase: time in the cardiac cycle; 0 and 1 are end diastole, 0.5 is end systole.

    Raises:
        DatasetError: unknown modality, or a phase outside the cycle.
    """
    if modality not in MODALITIES:
        raise DatasetError(f"Unknown modality '{modality}'. Valid modalities are {list(MODALITIES)}.")
    if not 0 <= phase <= 1:
        raise DatasetError(f"Phase {phase} is outside the cardiac cycle 0..1; 0 is end diastole, 0.5 end systole.")
    key = MODALITIES.index(modality)
    anatomy_rng, scan_rng, noise_rng = (
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=spawn_key))
        for spawn_key in ((0,), (1, key), (2, key, round(phase * 1000)))
    )
    scan = _draw_scan(scan_rng, modality)
    tissue = _tissues(_voxel_centers(scan), anatomy_rng, contraction=0.5 - 0.5 * np.cos(2 * np.pi * phase))
    image = _render(tissue, scan, scan_rng, noise_rng)
    label = np.where(tissue <= N_STRUCTURES, tissue, 0).astype(np.uint8)
    return _to_sitk(image, scan), _to_sitk(label, scan)


# Scanner ------------------------------------------------------------------------------------------------------------


def _draw_scan(rng: np.random.Generator, modality: str) -> Scan:
    """Draw grid and contrast: some scans are anisotropic, half of them oblique."""
    spacing = np.array([4.3, 4.3, 6.2]) if rng.random() < 0.4 else np.array([4.7, 4.7, 4.7])
    spacing = np.round(spacing * rng.uniform(0.94, 1.06), 3)
    size = np.round(FIELD_OF_VIEW_MM * rng.uniform(0.96, 1.06, 3) / spacing).astype(int)
    oblique = Rotation.from_rotvec(rng.normal(0, np.deg2rad(6), 3)).as_matrix()
    direction = oblique if rng.random() < 0.5 else np.eye(3)
    levels = _ct_levels(rng) if modality == "CT" else _mr_levels(rng)
    contrast = np.ptp(levels[[MYO, LV, RV, FAT, MUSCLE]])
    return Scan(
        size=size,
        spacing_mm=spacing,
        direction=direction,
        origin_mm=HEART_CENTER_MM + rng.uniform(-5, 5, 3) - direction @ (spacing * (size - 1) / 2),
        levels=levels,
        blur_mm=rng.uniform(1.0, 2.4),
        noise=contrast * rng.uniform(0.03, 0.08),
        bias=0.02 if modality == "CT" else rng.uniform(0.1, 0.35),
    )


def _ct_levels(rng: np.random.Generator) -> np.ndarray:
    """Draw Hounsfield units per tissue: contrast agent in the left heart, more or less of it in the right."""
    left, right, muscle = rng.uniform(250, 420), rng.uniform(120, 380), rng.uniform(45, 80)
    level = np.zeros(N_TISSUES)
    level[[LUNG, FAT, MUSCLE, BONE]] = -820, -90, muscle, rng.uniform(180, 420)
    level[[MYO, LIVER]] = muscle + rng.uniform(15, 70, 2)
    _fill_with_blood(level, left, right, rng)
    level[WALL] = -20
    return level + rng.normal(0, 12, N_TISSUES)


def _mr_levels(rng: np.random.Generator) -> np.ndarray:
    """Draw arbitrary units per tissue: bright blood; fat, muscle, bone and liver in random order."""
    level = np.zeros(N_TISSUES)
    level[LUNG] = 0.05
    level[[FAT, MUSCLE, BONE, LIVER]] = rng.uniform((0.2, 0.2, 0.2, 0.2), (0.5, 0.5, 0.9, 0.9))
    level[MYO] = level[MUSCLE] + rng.normal(0.03, 0.04)
    left = rng.uniform(0.65, 1.0)
    _fill_with_blood(level, left, left * rng.uniform(0.85, 1.1), rng)
    level[WALL] = 0.15
    return (level + rng.normal(0, 0.015, N_TISSUES)) * 10 ** rng.uniform(2, 3)


def _fill_with_blood(level: np.ndarray, left: float, right: float, rng: np.random.Generator) -> None:
    """Set the blood of left and right heart: a little darker in the atria, brighter in the vessels (inflow)."""
    atrium, vessel = rng.uniform(0.84, 0.92), rng.uniform(1.10, 1.20)
    level[[LV, LA, AO, DESCENDING]] = left * np.array([1, atrium, vessel, vessel])
    level[[RV, RA, PA, VEIN]] = right * np.array([1, atrium, vessel, atrium])


def _voxel_centers(scan: Scan) -> np.ndarray:
    """Return patient coordinates in mm, (3, z, y, x)."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in scan.size[::-1]), indexing="ij")
    offset = np.stack([x, y, z]) * _column(scan.spacing_mm)
    return np.tensordot(scan.direction, offset, axes=1) + _column(scan.origin_mm)


def _render(
    tissue: np.ndarray, scan: Scan, scan_rng: np.random.Generator, noise_rng: np.random.Generator
) -> np.ndarray:
    """Take levels, blur them, add bias field and noise; (z, y, x) float32."""
    image = gaussian_filter(scan.levels[tissue], scan.blur_mm / scan.spacing_mm[::-1])
    field = gaussian_filter(scan_rng.standard_normal(tissue.shape), 40 / scan.spacing_mm[::-1], mode="reflect")
    image *= np.exp(scan.bias * field / np.abs(field).max())
    return (image + noise_rng.normal(0, scan.noise, tissue.shape)).astype(np.float32)


def _to_sitk(array: np.ndarray, scan: Scan) -> sitk.Image:
    spacing, origin, direction = (v.ravel().tolist() for v in (scan.spacing_mm, scan.origin_mm, scan.direction))
    return Grid(array.shape[::-1], spacing, origin, direction).set_on(sitk.GetImageFromArray(array))


# Anatomy ------------------------------------------------------------------------------------------------------------


def _column(vector: np.ndarray | Sequence[float]) -> np.ndarray:
    """Reshape (3,) to (3, 1, 1, 1), to meet points of shape (3, z, y, x)."""
    return np.asarray(vector, float).reshape(3, 1, 1, 1)


def _ellipsoid(points: np.ndarray, center: np.ndarray, axes: np.ndarray, radii: Sequence[float]) -> np.ndarray:
    """Approximate the signed distance in mm to an ellipsoid, negative inside; axes: (3, 3), directions in rows."""
    local = np.tensordot(axes, points - _column(center), axes=1)
    scaled = np.linalg.norm(local / _column(radii), axis=0)
    gradient = np.linalg.norm(local / _column(radii) ** 2, axis=0)
    return scaled * (scaled - 1) / np.maximum(gradient, 1e-9)


def _tube(points: np.ndarray, line: Sequence[Sequence[float]], radius: float) -> np.ndarray:
    """Return the signed distance in mm to a tube round a quadratic Bezier curve with three control points."""
    start, control, end = (np.asarray(p, float) for p in line)
    t = np.linspace(0, 1, 9)[:, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end
    nearest = np.full(points.shape[1:], np.inf)
    for a, b in zip(curve[:-1], curve[1:], strict=True):
        step, offset = _column(b - a), points - _column(a)
        along = np.clip((offset * step).sum(0) / (step**2).sum(), 0, 1)
        nearest = np.minimum(nearest, ((offset - along * step) ** 2).sum(0))
    return np.sqrt(nearest) - radius


def _tissues(points: np.ndarray, rng: np.random.Generator, contraction: float) -> np.ndarray:
    """Return the tissue id per voxel, (z, y, x) uint8; contraction: 0 at end diastole, 1 at end systole."""
    local = _warp(points, rng)
    distance, cavity = _heart(local, rng, contraction)
    nearest, owner = distance.min(0), distance.argmin(0)
    tissue = _torso(points, local, nearest, rng)
    inside = nearest < 0
    tissue[inside] = np.array(PARTS, np.uint8)[owner[inside]]
    tissue[inside & (owner == 0) & (cavity < 0)] = LV
    for i, part in enumerate(PARTS):
        others = [distance[j] for j, other in enumerate(PARTS) if j != i and frozenset((part, other)) not in TOUCHING]
        tissue[inside & (owner == i) & (np.min(others, axis=0) - nearest < WALL_MM)] = WALL
    return tissue


def _warp(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Map patient coordinates to the standard heart: position, pose, size, and a smooth deformation."""
    rotation = Rotation.from_rotvec(rng.normal(0, np.deg2rad(7), 3)).as_matrix()
    scale = rng.uniform(0.92, 1.08) * rng.uniform(0.95, 1.05, 3)
    local = np.tensordot(rotation, points - _column(rng.uniform(-5, 5, 3)), axes=1) / _column(scale)
    wave = rng.normal(0, 2 * np.pi / 130, (3, 3))
    phase = rng.uniform(0, 2 * np.pi, 3)
    return local + 3.0 * np.sin(np.tensordot(wave, local, axes=1) + _column(phase))


def _heart(p: np.ndarray, rng: np.random.Generator, c: float) -> tuple[np.ndarray, np.ndarray]:
    """Return signed distances in mm of PARTS, (6, z, y, x), and of the LV cavity, (z, y, x).

    Heart axes: `apex` along the LV, `right` from the LV to the RV, `down` completes them. With the contraction c the
    cavities shrink, the wall thickens, the valve plane moves to the apex and the atria fill.
    """
    apex = APEX / np.linalg.norm(APEX)
    right = np.array([-0.75, -0.65, 0.0])
    right -= (right @ apex) * apex
    right /= np.linalg.norm(right)
    down = np.cross(apex, right)
    axes = np.stack([apex, right, down])
    size = rng.uniform(0.92, 1.08, 5)  # LV, RV, LA, RA, vessels
    wall = rng.uniform(10.0, 13.0) * (1 + 0.4 * c)

    center = np.array([20.0, -9.0, -9.0])
    base = 22 - 9 * c  # distance of the valve plane from the LV's centre
    plane = -np.tensordot(apex, p - _column(center), axes=1) - base
    short, long = 23 * size[0] * (1 - 0.28 * c), 48 * (1 - 0.08 * c)
    cavity = _ellipsoid(p, center, axes, (long, short, short))
    outside = _ellipsoid(p, center, axes, (long + 0.8 * wall, short + wall, short + wall))
    rv = _ellipsoid(
        p, center + 33 * right, axes, (46 * (1 - 0.06 * c), 26 * size[1] * (1 - 0.3 * c), 34 * size[1] * (1 - 0.14 * c))
    )
    fill = 1 + 0.08 * c
    la = _ellipsoid(p, center - 10 * right - (base + 22) * apex, axes, np.array([24, 25, 27]) * size[2] * fill)
    ra = _ellipsoid(p, center + 34 * right - (base + 23) * apex, axes, np.array([24, 24, 28]) * size[3] * fill)
    root = center - (base - 2) * apex + 4 * right
    aorta = _tube(p, (root, (-16, -16, 40), (-12, -4, 110)), 15 * size[4])  # its arch is above the image
    outflow = center + 30 * right - 14 * apex - 22 * down
    trunk = _tube(p, (outflow, (14, -34, 40), (13, 2, 46)), 13.5 * size[4])
    branches = np.minimum(
        _tube(p, ((13, 2, 46), (-12, 20, 48), (-36, 24, 40)), 9.5 * size[4]),
        _tube(p, ((13, 2, 46), (24, 14, 50), (38, 22, 46)), 9.5 * size[4]),
    )
    distance = np.stack([np.maximum(outside, plane), np.maximum(rv, plane), la, ra, aorta, np.minimum(trunk, branches)])
    return distance, np.maximum(cavity, plane)


def _torso(points: np.ndarray, local: np.ndarray, heart: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill what is round the heart, (z, y, x) uint8; heart: signed distance in mm to its surface."""
    x, y, z = points - _column(rng.uniform(-4, 4, 3))
    dome = -52 + rng.uniform(-5, 5) - (np.square(x + 45) + np.square(y)) / 260  # diaphragm, highest on the right
    tissue = np.full(x.shape, LUNG, np.uint8)
    tissue[(np.abs(x + 4) < 24) & (y > -30)] = FAT  # mediastinum
    tissue[z < dome] = LIVER
    tissue[(z < dome) & (x > 25)] = MUSCLE  # stomach and spleen
    tissue[heart < 7] = FAT
    tissue[_tube(local, ((-34, 0, 20), (-32, 0, 60), (-30, 0, 100)), 9) < 0] = VEIN
    tissue[_tube(local, ((-30, 4, -6), (-27, 12, -50), (-25, 14, -100)), 10) < 0] = VEIN
    tissue[_tube(points, ((20, 40, 100), (24, 46, 0), (10, 44, -100)), 11) < 0] = DESCENDING
    chest = np.square(x / 118) + np.square(y / 80)
    tissue[chest > 1] = MUSCLE
    tissue[chest > 1.25] = FAT
    rib = np.abs(chest - 1.1) < 0.06
    tissue[rib & ((np.sin(z / 5.5) > 0.2) | (np.abs(x) < 16))] = BONE  # ribs and sternum
    tissue[np.square(x / 20) + np.square((y - 66) / 18) < 1] = BONE  # spine
    return tissue
