"""What options may be, and their defaults: one table for the command line and the library. It imports nothing.

Where a default has no name of its own, the first choice is the default.
"""

DEVICES = ("auto", "cpu", "cuda", "mps")

# evaluate
HD95 = ("max", "pooled")
ONE_EMPTY = ("diagonal", "inf", "nan")
BOTH_EMPTY = ("nan", "perfect")
NSD_TOLERANCE_MM = 2.0

# cardiac
DENSITY_G_PER_ML = 1.05
PHASE_SUFFIXES = ("_ED", "_ES")

# compare
MISSING_VALUES = ("worst", "drop")
UNITS = ("case", "case_class")
ALPHA = 0.05
RESAMPLES = 1000

# view
STYLES = ("outline", "filled", "errors")
FOCUSES = ("structure", "errors")
PLANES = ("axial", "coronal", "sagittal")

# mesh
MESH_FORMATS = ("stl", "ply", "vtp")
SPACES = ("LPS", "RAS")
MESH_BACKENDS = ("numpy", "vtk")
RENDERERS = ("auto", "pyvista", "numpy")
SMOOTHING_STEPS = 20

# data sets
MODALITIES = ("CT", "MR", "PET")
REGIONS = ("head", "neck", "thorax", "abdomen", "pelvis", "limbs")
TIME_MODES = ("frames", "axis", "channels")

# transfer and features
SCOPES = ("encoder", "bottleneck", "all")
BRANCHES = ("teacher", "student")
MIN_LOADED = 0.9
SPACING_MODES = ("like_pretrained", "default", "fixed", "no_resample")
ENCODERS = {
    "trained": "the encoder of the checkpoint",
    "untrained": "the same architecture, freshly initialised with the seed",
    "permuted": "the weights of the checkpoint, shuffled within each tensor with the seed",
}

# study
STUDIES = ("few_label", "cross_validation", "transfer", "pool")
SCHEDULERS = ("slurm", "lsf")
