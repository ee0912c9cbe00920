"""Files: whole, or not there at all."""

import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nnunet_xlstm.io import write
from nnunet_xlstm.io.read import read_json
from nnunet_xlstm.io.write import (
    WriteError,
    remove_leftovers,
    replacing,
    staging,
    try_writing,
    write_json,
    write_text,
    write_together,
)


def test_writers_of_one_file_do_not_meet(tmp_path):
    """The jobs of an array write what they share at the same time."""
    path = tmp_path / "shared.json"
    texts = [str(number) * 1000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda turn: write_text(path, texts[turn % 8]), range(400)))
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "taken"
    path.mkdir()  # a folder, which no file can replace
    with pytest.raises(WriteError, match="taken: cannot be written .*folder of that name"):
        write_text(path, "text")
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_when_the_body_fails(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    with pytest.raises(WriteError, match=r"a.json: cannot be written \(No space left on device\); make room"):
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError(28, "No space left on device")
    with pytest.raises(FileNotFoundError), replacing(path):  # of another file: not about writing
        open(tmp_path / "input")
    assert read_json(path) == {"old": 1} and os.listdir(tmp_path) == ["a.json"]


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "target").read_text() == "precious" and not (tmp_path / "link").is_symlink()


def test_several_files_are_replaced_together_or_not(tmp_path, monkeypatch):
    one, two, three = (tmp_path / name for name in "abc")
    write_together({one: "1", two: "2", three: "3"})
    real = write._flush
    monkeypatch.setattr(
        write, "_flush", lambda path: (_ for _ in ()).throw(OSError(28, "full")) if ".a." in path.name else real(path)
    )
    with pytest.raises(WriteError, match="a: cannot be written"):
        write_together({one: "x", two: "y", three: "z"})
    assert [path.read_text() for path in (one, two, three)] == ["1", "2", "3"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]


def test_leftovers_of_a_killed_process_go_and_those_of_a_running_one_stay(tmp_path):
    code = (
        "import os, sys, signal; from pathlib import Path; from nnunet_xlstm.io.write import replacing\n"
        "with replacing(Path(sys.argv[1])) as t: t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], check=False)
    (left,) = tmp_path.iterdir()
    foreign = tmp_path / ".b.otherhost-1.12345678.tmp"
    foreign.write_text("")
    with replacing(tmp_path / "c") as own:
        own.write_text("")
        remove_leftovers(tmp_path)
        assert not left.exists() and own.exists() and foreign.exists()
    os.utime(foreign, (0, 0))  # nobody has written for years
    remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ["c"]


@pytest.mark.skipif(not os.path.isfile("/proc/self/stat"), reason="only Linux says what a process has come to")
def test_leftovers_of_a_process_that_nobody_has_waited_for_go(tmp_path):
    """As in a container whose first process waits for none: its number stays taken after kill -9."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    process = subprocess.Popen([sys.executable, "-c", code])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    left = tmp_path / f".a.{write._owner().rpartition('-')[0]}-{process.pid}.12345678.tmp"
    left.touch()
    remove_leftovers(tmp_path)
    process.wait()
    assert not left.exists()


def test_a_result_of_several_files_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    write_text(tmp_path / "out" / "a", "old")
    with pytest.raises(ZeroDivisionError), staging(tmp_path / "out") as fresh:
        write_text(fresh / "a", "new")
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError, match="input"), staging(tmp_path / "out"):
        open(tmp_path / "input")
    assert os.listdir(tmp_path / "out") == ["a"] and (tmp_path / "out" / "a").read_text() == "old"
    order = []
    real = os.replace
    monkeypatch.setattr(write.os, "replace", lambda a, b: (order.append(os.path.basename(b)), real(a, b)))
    with staging(tmp_path / "out", last=["a"]) as fresh:
        for name in ("a", "b/c", "d"):
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_text("new")
    assert order == ["c", "d", "a"] and (tmp_path / "out" / "b" / "c").read_text() == "new"
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "b", "d"]


def test_what_cannot_be_staged_is_named_as_it_is_called(tmp_path):
    (tmp_path / "out" / "b").mkdir(parents=True)
    write_text(tmp_path / "out" / "a", "old")
    with pytest.raises(WriteError, match="out/b: cannot be written .*folder of that name"):
        with staging(tmp_path / "out") as fresh:
            write_text(fresh / "a", "new")
            write_text(fresh / "b", "new")
    assert (tmp_path / "out" / "a").read_text() == "old"
    with pytest.raises(WriteError, match=r"out/x/y: cannot be written \(No space"), staging(tmp_path / "out") as fresh:
        with replacing(fresh / "x" / "y"):
            raise OSError(28, "No space left on device")
    with pytest.raises(WriteError, match=r"out/a/b: cannot be written \(Not a directory"):
        with staging(tmp_path / "out" / "a" / "b"):
            pass
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "b"]


def test_leftovers_of_a_killed_staging_go(tmp_path):
    code = (
        "import os, sys, signal; from pathlib import Path; from nnunet_xlstm.io.write import staging\n"
        "with staging(Path(sys.argv[1])) as t: (t / 'half').write_text(''); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert len(os.listdir(tmp_path)) == 1
    with staging(tmp_path) as fresh:
        assert os.listdir(tmp_path) == [fresh.name]
    assert os.listdir(tmp_path) == []


def test_a_target_is_tried_before_the_work(tmp_path):
    write_text(tmp_path / "a.json", "old")
    try_writing([tmp_path / "a.json", tmp_path / "new" / "b.csv"], nbytes=1000)
    assert (tmp_path / "a.json").read_text() == "old" and os.listdir(tmp_path / "new") == []
    for paths, nbytes, words in (
        ([tmp_path / "a.json" / "b"], 0, "a.json/b: .*a file stands where a folder is needed"),
        ([tmp_path / "new"], 0, "new: .*a folder of that name"),
        ([tmp_path / ("c" * 300)], 0, "name is too long"),
        ([tmp_path / "a.json"], 1 << 60, "a.json: .*make room on that disk"),
    ):
        with pytest.raises(WriteError, match=words):
            try_writing(paths, nbytes)


def test_an_error_of_another_process_arrives(tmp_path):
    error = pickle.loads(pickle.dumps(WriteError(tmp_path, OSError(28, "full"))))
    assert (error.path, error.error.errno) == (tmp_path, 28) and "make room" in str(error)


WRITING = (
    r"\.(write_text|write_bytes|savefig)\(|open\([^)\n]*[\"'][wax]b?[\"']|WriteImage\(|torch\.save\(|copyfile\("
    r"|os\.(replace|rename)\("
)


WRITERS = {  # module -> why it may call what writes
    "io/write.py": "the one way of writing",
    "evaluation/journal.py": "adds lines, of which a half one counts nothing",
    "subprocesses.py": "adds lines to a log",
    "figures/style.py": "to the temporary file",
    "imaging/write.py": "to the temporary file",
    "catalogue/convert_case.py": "to the temporary file",
    "pools/restrict/folder.py": "to the temporary file",
    "nnunet/transfer/adapt.py": "to the temporary file",
    "nnunet/training/student_teacher.py": "to the temporary file",
}  # fmt: skip


def test_every_file_is_written_in_one_way():
    package = Path(write.__file__).parents[1]
    sources = {path.relative_to(package).as_posix(): path.read_text("utf-8") for path in package.rglob("*.py")}
    found = {name for name, text in sources.items() if re.search(WRITING, text)}
    assert found == set(WRITERS), "write through io.files (replacing, write_json, staging ...)"
