import pytest


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch):
    """Empty folders that nnU-Net's variables name; returns their parent."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / "nnunet" / name).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / "nnunet" / name))
    return tmp_path / "nnunet"
