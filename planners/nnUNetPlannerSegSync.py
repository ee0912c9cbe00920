"""Planners of 3D-SegSync: one class per preset, because nnU-Net finds planners by class name (`-pl`).

`nnUNetPlannerSegSync` writes `nnUNetSegSyncPlans`.
"""

from nnunet_xlstm.nnunet.planning.planner import XLSTMPlanner


class nnUNetPlannerSegSync(XLSTMPlanner):
    preset = "segsync"


class nnUNetPlannerSegSyncNoXLSTM(XLSTMPlanner):
    preset = "segsync_no_xlstm"


class nnUNetPlannerSegSyncBi(XLSTMPlanner):
    preset = "segsync_bi"


class nnUNetPlannerSegSyncBiNoXLSTM(XLSTMPlanner):
    preset = "segsync_bi_no_xlstm"
