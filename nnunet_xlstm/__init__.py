"""xLSTM-UNet and foundation-model training as a plugin for stock nnU-Net v2."""

__version__ = "0.1.0"
