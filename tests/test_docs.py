"""README and docs: their commands name things that exist, their links lead somewhere, CI runs what they say."""

import argparse
import re
import shlex
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from support.doc_tools import build
from support.markdown import anchors

from nnunet_xlstm.cli.commands import COMMANDS
from nnunet_xlstm.networks.presets import PRESETS
from nnunet_xlstm.registry import PLANNERS, TRAINERS

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
STOCK_FLAGS = {
    "nnUNetv2_plan_and_preprocess": {"-d", "-pl", "-c", "--verify_dataset_integrity", "--no_pp", "--clean"},
    "nnUNetv2_train": {"-tr", "-p", "--npz", "--c", "-device", "-pretrained_weights"},
    "nnUNetv2_find_best_configuration": {"-c", "-tr", "-p"},
    "nnUNetv2_predict": {"-i", "-o", "-d", "-c", "-f", "-tr", "-p", "--save_probabilities"},
    "nnUNetv2_export_model_to_zip": {"-d", "-o", "-c", "-tr", "-p"},
}


def bash_lines(page):
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def calls(page):
    """Every simple command of every bash block, as words."""
    for line in bash_lines(page):
        for part in re.split(r"&&|;|\bdo\b|>", line.split(" #")[0]):
            words = [w for w in shlex.split(part) if not re.fullmatch(r"\w+=\S*", w)]
            if words:
                yield words


def own_flags(name):
    """The flags of one of our commands; none for options before the command."""
    row = next((c for c in COMMANDS if c.name == name), None)
    parser = argparse.ArgumentParser()
    add_arguments = row and row.load()[0]
    if add_arguments:
        add_arguments(parser)
    return set(parser._option_string_actions)


def readme_command(ending):
    (line,) = [line for line in bash_lines(ROOT / "README.md") if line.endswith(ending)]
    return line


def test_readme_has_the_two_commands_and_ci_calls_the_second():
    assert readme_command("nnunet_xlstm demo").startswith("python3 -m venv .venv")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    for step in readme_command("loadfile").split(" && ")[2:]:
        assert step in script


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_name_what_exists(page):
    plans = {name.replace("Planner", "", 1) + "Plans" for name in PLANNERS} | {"nnUNetPlans", "nnUNetLikePlans"}
    for words in calls(page):
        if words[0] == "nnunet_xlstm":
            assert words[1].startswith("-") or words[1] in {c.name for c in COMMANDS}, words
            assert {w for w in words[2:] if re.match(r"--?[a-z]", w)} <= own_flags(words[1]), words
        if words[0] in STOCK_FLAGS:
            assert {w for w in words if re.match(r"--?[a-z]", w)} <= STOCK_FLAGS[words[0]], words
        for flag, known in (("-tr", TRAINERS), ("-pl", PLANNERS), ("-p", plans)):
            if words[0].startswith("nnUNetv2_") and flag in words:
                assert words[words.index(flag) + 1] in known, words


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text) + re.findall(r'(src)="([^"]+)"', text):
        if target == "src":
            assert (page.parent / anchor).exists(), anchor
        elif not target.startswith("http"):
            path = page.parent / target if target else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_names_in_the_text_exist(page):
    plans = {name.replace("Planner", "", 1) + "Plans" for name in PLANNERS} | {"nnUNetPlans", "nnUNetLikePlans"}
    for name in re.findall(r"`(nnUNet(?:Trainer|Planner)?XLSTM\w+)`", page.read_text(encoding="utf-8")):
        assert name in TRAINERS or name in PLANNERS or name in plans, name


CHECKED_ELSEWHERE = {
    "docs/reference/presets.md",  # preset by preset, in tests/networks/test_cost.py
    "docs/reference/configuration.md",  # tests/config/test_overrides.py
}


@pytest.mark.parametrize("page", sorted(set(build.PAGES) - CHECKED_ELSEWHERE))
def test_generated_parts_are_up_to_date(page):
    text, wanted = build.stale(page)
    assert text == wanted, "run: python docs/build.py"


def test_ci_builds_the_site_and_takes_a_broken_link_for_an_error():
    assert "mkdocs build --strict" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_preset_is_in_the_reference():
    page = (ROOT / "docs" / "reference" / "presets.md").read_text(encoding="utf-8")
    for name, row in PRESETS.items():
        assert f"`{name}`" in page or row.control_of, name


@pytest.mark.parametrize("command", STOCK_FLAGS)
def test_stock_flags_exist(command, monkeypatch):
    """The flags above against the parser of the installed command itself."""
    (entry,) = entry_points(group="console_scripts", name=command)

    class Reached(Exception):
        pass

    def stop(parser, *args, **kwargs):
        raise Reached(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Reached) as reached:
        entry.load()()
    (parser,) = reached.value.args
    assert STOCK_FLAGS[command] <= set(parser._option_string_actions)
