"""A full disk: a study says it, and goes on when there is room."""

from pathlib import Path

from support.fake_study import TRAINER
from support.small_disk import DISKS, LARGE, empty, resize, used

from nnunet_xlstm.cli.main import main


def tables(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "results.csv", out / "table.csv", out / "table.md")}


def test_a_study_says_it_and_goes_on(tree, fake, no_drawing, disk, capsys):
    out = disk / "out"
    words = ["study", "few_label", "-o", str(out), "--device", "cpu", "-d", "321", "--subject", r"patient\d+"]
    words += ["--iterations", "100", "--variants", f"scratch:{TRAINER}", "--labels", "1", "4", "--seeds", "1"]
    assert main(words) == 0
    wanted, full = tables(out), used(disk)
    for i in range(DISKS):
        resize(disk, LARGE)
        empty(disk)
        resize(disk, full * (i + 1) // (DISKS + 1))
        capsys.readouterr()
        assert main(words) == 1
        error = capsys.readouterr().err
        assert "No space left" in error or "make room on that disk" in error, error
        resize(disk, LARGE)
        assert main(words) == 0
        assert tables(out) == wanted
