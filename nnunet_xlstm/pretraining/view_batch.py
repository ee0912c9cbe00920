"""What one step of pre-training gets from the loader."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class ViewBatch:
    """Views of B images and where in their parent crops they come from (D axes, 2 or 3; C channels).

    Attributes:
        global_views: (B, 2, C, *patch).
        boxes: (B, 2, D, 2), start and size of each global view as a share of the parent crop's edge.
        flips: (B, 2, D) bool, whether the view was mirrored along the axis after it was cut out.
        local_views: (B, n_local, C, *local_patch), or None.
        subjects: (B,) numbers, the same for images of one subject; None: every image is of somebody else.
    """

    global_views: Tensor
    boxes: Tensor
    flips: Tensor
    local_views: Tensor | None = None
    subjects: Tensor | None = None

    def to(self, device, non_blocking: bool = False) -> ViewBatch:
        """The batch on `device`."""
        moved = [
            None if t is None else t.to(device, non_blocking=non_blocking)
            for t in (self.global_views, self.boxes, self.flips, self.local_views, self.subjects)
        ]
        return ViewBatch(*moved)
