"""Planners of TSFM: one class per preset, because nnU-Net finds planners by class name (`-pl`).

`nnUNetPlannerTSFM_B` writes `nnUNetTSFM_BPlans`.
"""

from nnunet_xlstm.nnunet.planning.planner import XLSTMPlanner


class nnUNetPlannerTSFM_S(XLSTMPlanner):
    preset = "tsfm_s"


class nnUNetPlannerTSFM_SNoViT(XLSTMPlanner):
    preset = "tsfm_s_novit"


class nnUNetPlannerTSFM_B(XLSTMPlanner):
    preset = "tsfm_b"


class nnUNetPlannerTSFM_BNoViT(XLSTMPlanner):
    preset = "tsfm_b_novit"


class nnUNetPlannerTSFM_L(XLSTMPlanner):
    preset = "tsfm_l"


class nnUNetPlannerTSFM_LNoViT(XLSTMPlanner):
    preset = "tsfm_l_novit"


class nnUNetPlannerTSFM_1p6B(XLSTMPlanner):
    preset = "tsfm_1p6b"


class nnUNetPlannerTSFM_1p6BNoViT(XLSTMPlanner):
    preset = "tsfm_1p6b_novit"
