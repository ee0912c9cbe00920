"""Every class that nnU-Net finds by name, with its module. Import-free: the shim reads it on each stock look-up."""

TRAINERS = (
    {
        name: f"nnunet_xlstm.trainers.{name}"
        for name in (
            "nnUNetTrainerXLSTMUNet",
            "nnUNetTrainerXLSTMUNetAdam",
            "nnUNetTrainerXLSTMUNetShort",
            "nnUNetTrainerFinetune",
            "nnUNetTrainerFinetuneFrozen",
            "nnUNetTrainerFinetuneBottom",
            "nnUNetTrainerFinetuneStaged",
            "nnUNetTrainerFinetune_SegSync",
            "nnUNetTrainerDINO",
            "nnUNetTrainerDINO_HeartSeg",
            "nnUNetTrainerDINO_SegSync",
            "nnUNetTrainerDINO_SegSync_r1",
            "nnUNetTrainerMasked",
            "nnUNetTrainerPool",
            "nnUNetTrainerSemi",
            "nnUNetTrainerMeanTeacher",
        )
    }
    | {
        f"nnUNetTrainerFinetune{part}_150epochs": f"nnunet_xlstm.trainers.nnUNetTrainerFinetune{part}"
        for part in ("Frozen", "Bottom")
    }
    | {
        f"nnUNetTrainerPool{what}": "nnunet_xlstm.trainers.nnUNetTrainerPoolFinetune"
        for what in ("Finetune", "Frozen", "Staged")
    }
    | {"nnUNetTrainerCopyPaste": "nnunet_xlstm.trainers.nnUNetTrainerSemi"}
    | {
        f"nnUNetTrainerTSFM{length}": "nnunet_xlstm.trainers.nnUNetTrainerTSFM"
        for length in ("", "_10epochs", "_20epochs", "_50epochs", "_100epochs")
    }
)
# Each preset with its ablation; two more controls exist for the preset of the CPU studies.
_PRESETS = [
    f"{preset}{ablation}" for preset in ("", "Bi", "Enc", "Small", "Tiny", "Large") for ablation in ("", "NoXLSTM")
]
PLANNERS = (
    {
        f"nnUNetPlannerXLSTMUNet{preset}": "nnunet_xlstm.planners.nnUNetPlannerXLSTMUNet"
        for preset in (*_PRESETS, "SmallShuffled", "SmallPlain")
    }
    | {
        f"nnUNetPlannerSegSync{reading}{ablation}": "nnunet_xlstm.planners.nnUNetPlannerSegSync"
        for reading in ("", "Bi")
        for ablation in ("", "NoXLSTM")
    }
    | {
        f"nnUNetPlannerTSFM_{size}{ablation}": "nnunet_xlstm.planners.nnUNetPlannerTSFM"
        for size in ("S", "B", "L", "1p6B")
        for ablation in ("", "NoViT")
    }
)
