"""Planners: one class per preset, because nnU-Net finds planners by class name (`-pl`).

`nnUNetPlannerXLSTMUNetSmall` writes `nnUNetXLSTMUNetSmallPlans`.
"""

from nnunet_xlstm.nnunet.planning.planner import PresetPlanner


class nnUNetPlannerXLSTMUNet(PresetPlanner):
    preset = "heartseg_30m"


class nnUNetPlannerXLSTMUNetNoXLSTM(PresetPlanner):
    preset = "heartseg_30m_no_xlstm"


class nnUNetPlannerXLSTMUNetBi(PresetPlanner):
    preset = "heartseg_bi"


class nnUNetPlannerXLSTMUNetBiNoXLSTM(PresetPlanner):
    preset = "heartseg_bi_no_xlstm"


class nnUNetPlannerXLSTMUNetEnc(PresetPlanner):
    preset = "enc"


class nnUNetPlannerXLSTMUNetEncNoXLSTM(PresetPlanner):
    preset = "enc_no_xlstm"


class nnUNetPlannerXLSTMUNetLarge(PresetPlanner):
    preset = "large"


class nnUNetPlannerXLSTMUNetLargeNoXLSTM(PresetPlanner):
    preset = "large_no_xlstm"


class nnUNetPlannerXLSTMUNetSmall(PresetPlanner):
    preset = "small"


class nnUNetPlannerXLSTMUNetSmallNoXLSTM(PresetPlanner):
    preset = "small_no_xlstm"


class nnUNetPlannerXLSTMUNetSmallShuffled(PresetPlanner):
    preset = "small_shuffled"


class nnUNetPlannerXLSTMUNetSmallPlain(PresetPlanner):
    preset = "small_plain"


class nnUNetPlannerXLSTMUNetTiny(PresetPlanner):
    preset = "tiny"


class nnUNetPlannerXLSTMUNetTinyNoXLSTM(PresetPlanner):
    preset = "tiny_no_xlstm"
