"""Planners: one class per preset, because nnU-Net finds planners by class name (`-pl`).

`nnUNetPlannerXLSTMUNetSmall` writes `nnUNetXLSTMUNetSmallPlans`.
"""

from nnunet_xlstm.nnunet.planning.planner import XLSTMPlanner


class nnUNetPlannerXLSTMUNet(XLSTMPlanner):
    preset = "heartseg_30m"


class nnUNetPlannerXLSTMUNetNoXLSTM(XLSTMPlanner):
    preset = "heartseg_30m_no_xlstm"


class nnUNetPlannerXLSTMUNetBi(XLSTMPlanner):
    preset = "heartseg_bi"


class nnUNetPlannerXLSTMUNetBiNoXLSTM(XLSTMPlanner):
    preset = "heartseg_bi_no_xlstm"


class nnUNetPlannerXLSTMUNetEnc(XLSTMPlanner):
    preset = "enc"


class nnUNetPlannerXLSTMUNetEncNoXLSTM(XLSTMPlanner):
    preset = "enc_no_xlstm"


class nnUNetPlannerXLSTMUNetLarge(XLSTMPlanner):
    preset = "large"


class nnUNetPlannerXLSTMUNetLargeNoXLSTM(XLSTMPlanner):
    preset = "large_no_xlstm"


class nnUNetPlannerXLSTMUNetSmall(XLSTMPlanner):
    preset = "small"


class nnUNetPlannerXLSTMUNetSmallNoXLSTM(XLSTMPlanner):
    preset = "small_no_xlstm"


class nnUNetPlannerXLSTMUNetSmallShuffled(XLSTMPlanner):
    preset = "small_shuffled"


class nnUNetPlannerXLSTMUNetSmallPlain(XLSTMPlanner):
    preset = "small_plain"


class nnUNetPlannerXLSTMUNetTiny(XLSTMPlanner):
    preset = "tiny"


class nnUNetPlannerXLSTMUNetTinyNoXLSTM(XLSTMPlanner):
    preset = "tiny_no_xlstm"
