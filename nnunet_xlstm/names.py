"""Every class that nnU-Net finds by name, with its module. Import-free: the shim reads it on each stock look-up."""

TRAINERS = {
    name: f"nnunet_xlstm.trainers.{name}"
    for name in (
        "nnUNetTrainerXLSTMUNet",
        "nnUNetTrainerXLSTMUNetAdam",
        "nnUNetTrainerXLSTMUNetShort",
        "nnUNetTrainerFinetune",
        "nnUNetTrainerFinetuneFrozen",
        "nnUNetTrainerFinetuneBottom",
        "nnUNetTrainerFinetuneStaged",
        "nnUNetTrainerDINO",
        "nnUNetTrainerDINO_HeartSeg",
        "nnUNetTrainerDINO_SegSync",
        "nnUNetTrainerDINO_SegSync_r1",
        "nnUNetTrainerMasked",
        "nnUNetTrainerPool",
    )
}
# Each preset with its twin; two more controls exist for the preset of the CPU studies.
_PRESETS = [f"{preset}{twin}" for preset in ("", "Bi", "Enc", "Small", "Tiny", "Large") for twin in ("", "NoXLSTM")]
PLANNERS = {
    f"nnUNetPlannerXLSTMUNet{preset}": "nnunet_xlstm.planners.nnUNetPlannerXLSTMUNet"
    for preset in (*_PRESETS, "SmallShuffled", "SmallPlain")
}
