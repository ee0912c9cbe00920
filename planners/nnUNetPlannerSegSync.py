"""Planners of 3D-SegSync: one class per preset, because nnU-Net finds planners by class name (`-pl`).

`nnUNetPlannerSegSync` writes `nnUNetSegSyncPlans`.
"""

from nnunet_xlstm.nnunet.planning.planner import PresetPlanner


class nnUNetPlannerSegSync(PresetPlanner):
    preset = "segsync"


class nnUNetPlannerSegSyncNoXLSTM(PresetPlanner):
    preset = "segsync_no_xlstm"


class nnUNetPlannerSegSyncBi(PresetPlanner):
    preset = "segsync_bi"


class nnUNetPlannerSegSyncBiNoXLSTM(PresetPlanner):
    preset = "segsync_bi_no_xlstm"
