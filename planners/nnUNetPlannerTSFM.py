"""Planners of TSFM: one class per preset, because nnU-Net finds planners by class name (`-pl`).

`nnUNetPlannerTSFM_B` writes `nnUNetTSFM_BPlans`.
"""

from nnunet_xlstm.nnunet.planning.planner import PresetPlanner


class nnUNetPlannerTSFM_S(PresetPlanner):
    preset = "tsfm_s"


class nnUNetPlannerTSFM_SNoViT(PresetPlanner):
    preset = "tsfm_s_novit"


class nnUNetPlannerTSFM_B(PresetPlanner):
    preset = "tsfm_b"


class nnUNetPlannerTSFM_BNoViT(PresetPlanner):
    preset = "tsfm_b_novit"


class nnUNetPlannerTSFM_L(PresetPlanner):
    preset = "tsfm_l"


class nnUNetPlannerTSFM_LNoViT(PresetPlanner):
    preset = "tsfm_l_novit"


class nnUNetPlannerTSFM_1p6B(PresetPlanner):
    preset = "tsfm_1p6b"


class nnUNetPlannerTSFM_1p6BNoViT(PresetPlanner):
    preset = "tsfm_1p6b_novit"
