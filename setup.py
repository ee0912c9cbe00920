"""Installation of nnunet_xlstm: the top-level folders `trainers` and `planners` become sub-packages of it."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "nnunet_xlstm" / "__init__.py").read_text().splitlines()
    if "__version__" in line
)
# Installed under the package, so that no generic top-level name (`trainers`) lands in site-packages.
MAPPED = {f"nnunet_xlstm.{folder}": folder for folder in ("trainers", "planners", "dataset_json")}

if __name__ == "__main__":
    setup(
        name="nnunet_xlstm",
        version=VERSION,
        description="xLSTM-UNet and foundation-model training as a plugin for stock nnU-Net v2",
        long_description=(HERE / "README.md").read_text(encoding="utf-8"),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        python_requires=">=3.10",
        packages=find_packages(include=["nnunet_xlstm", "nnunet_xlstm.*"]) + list(MAPPED),
        package_dir=MAPPED,
        package_data={"nnunet_xlstm": ["shim/*.py"], "nnunet_xlstm.dataset_json": ["*.json"]},
        install_requires=[
            # Every package that is imported, and no other (tests/test_dependencies.py); .ci/lowest tries the lowest.
            "torch>=2.6",  # below: no safe_globals, no DDP with torch.compile and an autograd.Function
            "nnunetv2>=2.8.1,<2.9",
            "dynamic-network-architectures>=0.4.4,<0.5",
            "batchgenerators>=0.25.1",
            "batchgeneratorsv2>=0.3.2",
            "acvl-utils>=0.2.6,<0.3",
            "numpy>=1.26",  # nnunetv2 says 1.24, its blosc2 needs 1.26
            "scipy>=1.10",
            "scikit-learn>=1.2.1",
            "matplotlib>=3.7",
            "einops>=0.7",
            "SimpleITK>=2.2.1",
            "nibabel>=5.0",
            "pydicom>=3.0",
            "tifffile>=2023.2.2",
            "pillow>=9.4",
            "tqdm>=4.65",
            "threadpoolctl>=3.1",
            # nnU-Net's preprocessing imports distutils, which Python 3.12 dropped and setuptools still ships.
            'setuptools; python_version >= "3.12"',
        ],
        extras_require={
            "test": [
                *("pytest>=8", "pytest-xdist>=3.7", "hypothesis>=6.100"),
                *("ruff>=0.6", "mypy>=1.11"),
                *("monai>=1.4", "statsmodels>=0.14", "trimesh>=4"),
                *("onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18"),
                "PyYAML>=6",  # docs/claims.yaml
            ],
            # The site: mkdocs build --strict. Nothing of the package is imported for it.
            "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.27"],
            # SimpleITK and pydicom read DICOM: nothing more is needed, the name is kept for those who ask for it.
            "dicom": [],
            # vtkSurfaceNets3D (VTK 9.3 or later) and rendering for `nnunet_xlstm mesh`, which works without.
            "mesh": ["pyvista>=0.44", "vtk>=9.3"],
            # NXAI Community Licence: an optional backend on CUDA and an oracle in the tests, never required.
            "kernels": ["mlstm_kernels>=2.0.2"],
        },
        entry_points={"console_scripts": ["nnunet_xlstm = nnunet_xlstm.cli.main:main"]},
        classifiers=[
            "Intended Audience :: Science/Research",
            "Topic :: Scientific/Engineering :: Medical Science Apps.",
            *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)),
        ],
    )
