"""Networks, their presets and their costs. Classes load on first use, so that listing presets needs no torch."""

import importlib

_CLASSES = {
    "XLSTMUNet": "nnunet_xlstm.networks.xlstm_unet",
    "XLSTMResidualEncoderUNet": "nnunet_xlstm.networks.xlstm_unet",
    "TSFM": "nnunet_xlstm.networks.tsfm",
    "Primus": "nnunet_xlstm.networks.primus",
}
__all__ = ["TSFM", "Primus", "XLSTMResidualEncoderUNet", "XLSTMUNet"]


def __getattr__(name: str):
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'nnunet_xlstm.networks' has no attribute '{name}'")
