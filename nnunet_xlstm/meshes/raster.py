"""Triangles to pixels with a depth buffer, in NumPy: no display, no graphics library, right where surfaces overlap."""

from __future__ import annotations

import numpy as np

CHUNK = 1_000_000  # pixels looked at in one go
OVERSAMPLING = 2  # per axis; averaged away, so that edges are smooth
DEPTHS = 2**31 - 1
EDGE = 1e-6  # shares: a pixel on an edge that two triangles have must not fall out of both by rounding


def rasterize(corners: np.ndarray, colors: np.ndarray, size: tuple[int, int], limit: float = np.inf) -> np.ndarray:
    """Draw opaque triangles; the nearest wins.

    Args:
        corners: (t, 3 corners, 3) in pixels: to the right, up, towards the viewer; (0, 0) is the lower left corner.
        colors: (t, 3 corners, 3) from 0 to 1; linear in between.
        size: (rows, columns).
        limit: what is nearer to the viewer is cut away.

    Returns:
        (rows, columns, 4) RGBA from 0 to 1, the first row on top; transparent where there is nothing.
    """
    rows, columns = (OVERSAMPLING * n for n in size)
    corners = corners * [OVERSAMPLING, OVERSAMPLING, 1]
    planes, seen = _planes(corners)
    corners, colors = corners[seen], colors[seen]
    # The pixels whose centres lie in the box round each triangle.
    flat = corners[..., :2]
    first = np.clip(np.ceil(flat.min(1) - 0.5), 0, [columns, rows]).astype(np.int64)
    last = np.clip(np.floor(flat.max(1) - 0.5) + 1, 0, [columns, rows]).astype(np.int64)
    box = np.maximum(last - first, 0)
    depth = corners[..., 2]
    low, high = (depth.min(), min(depth.max(), limit)) if len(depth) else (0.0, 1.0)
    winner = np.full(rows * columns, -1, np.int64)
    total = np.cumsum(box.prod(1))
    cuts = np.searchsorted(total, np.arange(CHUNK, total[-1] if len(total) else 0, CHUNK))
    for chunk in np.split(np.arange(len(corners)), cuts):
        pixel, triangle, z = _covered(planes, first, box, chunk, columns)
        kept = z <= high
        level = ((z[kept] - low) / max(high - low, 1e-12) * DEPTHS).clip(0, DEPTHS).astype(np.int64)
        np.maximum.at(winner, pixel[kept], level * (DEPTHS + 1) + triangle[kept])
    hit = np.flatnonzero(winner >= 0)
    image = np.zeros((rows * columns, 4))
    image[hit] = 1
    image[hit, :3] = _color(planes, colors, winner[hit] % (DEPTHS + 1), hit, columns)
    image = image.reshape(rows, columns, 4)[::-1]
    image = image.reshape(size[0], OVERSAMPLING, size[1], OVERSAMPLING, 4).mean((1, 3))
    image[..., :3] /= np.maximum(image[..., 3:], 1e-9)  # the colour of what was hit; alpha is the share that was
    return image


def _planes(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (3, 3, t): share of corner b, share of corner c and depth, each as p x + q y + r; and who is seen.

    Triangles that are seen edge on are left out.
    """
    a, b, c = np.moveaxis(corners, 1, 0)
    u, v = b - a, c - a
    area = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    seen = np.abs(area) > 1e-9
    a, u, v, area = a[seen], u[seen], v[seen], area[seen]
    in_b = np.stack([v[:, 1], -v[:, 0], v[:, 0] * a[:, 1] - v[:, 1] * a[:, 0]]) / area
    in_c = np.stack([-u[:, 1], u[:, 0], u[:, 1] * a[:, 0] - u[:, 0] * a[:, 1]]) / area
    depth = in_b * u[:, 2] + in_c * v[:, 2]
    depth[2] += a[:, 2]
    return np.stack([in_b, in_c, depth]), seen


def _covered(planes, first, box, chunk, columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find pixels whose centers lie on some triangles: the pixel's number, the triangle and its depth there."""
    count = box[chunk].prod(1)
    triangle = np.repeat(chunk, count)
    step = np.arange(len(triangle)) - np.repeat(np.cumsum(count) - count, count)
    down, right = np.divmod(step, box[triangle, 0])
    x, y = first[triangle, 0] + right, first[triangle, 1] + down
    in_b, in_c = (_at(planes[i], triangle, x, y) for i in range(2))
    inside = np.flatnonzero((in_b >= -EDGE) & (in_c >= -EDGE) & (in_b + in_c <= 1 + EDGE))
    x, y, triangle = x[inside], y[inside], triangle[inside]
    return y * columns + x, triangle, _at(planes[2], triangle, x, y)


def _at(plane: np.ndarray, triangle: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    p, q, r = plane
    return p[triangle] * (x + 0.5) + q[triangle] * (y + 0.5) + r[triangle]


def _color(planes, colors, triangle, pixel, columns) -> np.ndarray:
    y, x = np.divmod(pixel, columns)
    in_b, in_c = (_at(planes[i], triangle, x, y)[:, None] for i in range(2))
    a, b, c = np.moveaxis(colors[triangle], 1, 0)
    return np.clip(a + in_b * (b - a) + in_c * (c - a), 0, 1)
