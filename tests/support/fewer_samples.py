"""nnU-Net's fingerprint, from thousands of intensities: it draws 100 million, however few voxels there are."""

from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor


class FewerSamples(DatasetFingerprintExtractor):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_foreground_voxels_for_intensitystats = 10_000
