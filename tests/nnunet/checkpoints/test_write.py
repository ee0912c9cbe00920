"""The checkpoints of a run: whole or not at all, and the one that is kept for a stop."""

import pytest

from nnunet_xlstm.nnunet.checkpoints.write import LATEST, RunCheckpoints


@pytest.fixture
def checkpoints():
    """Of a run whose state is the number of its calls."""
    calls = []

    def write(file):
        calls.append(file)
        content = str(len(calls)).encode()
        if isinstance(file, str):
            with open(file, "wb") as opened:
                opened.write(content)
        else:
            file.write(content)

    checkpoints = RunCheckpoints(write)
    checkpoints.calls = calls
    return checkpoints


def test_a_write_that_fails_leaves_the_file_of_before(tmp_path):
    def fail(file):
        with open(file, "wb") as opened:
            opened.write(b"half")
        raise RuntimeError

    path = tmp_path / LATEST
    path.write_bytes(b"before")
    with pytest.raises(RuntimeError):
        RunCheckpoints(fail).save(path, 1, to_disk=True)
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_ranks_that_do_not_write_take_part(checkpoints, tmp_path):
    checkpoints.save(tmp_path / LATEST, 1, to_disk=False)
    assert checkpoints.calls == [str(tmp_path / LATEST)]


def test_a_kept_checkpoint_becomes_the_latest(checkpoints, tmp_path):
    checkpoints.keep(0)
    assert checkpoints.kept
    checkpoints.write_kept(tmp_path)
    assert (tmp_path / LATEST).read_bytes() == b"1"


def test_nothing_is_kept_where_the_disk_holds_it(checkpoints, tmp_path):
    checkpoints.save(tmp_path / "checkpoint_best.pth", 2, to_disk=True)
    checkpoints.keep(2)
    assert checkpoints.kept  # the best one is not what a run goes on from
    checkpoints.save(tmp_path / LATEST, 3, to_disk=True)
    checkpoints.keep(3)
    assert not checkpoints.kept
    before = (tmp_path / LATEST).read_bytes()
    checkpoints.write_kept(tmp_path)
    assert (tmp_path / LATEST).read_bytes() == before
