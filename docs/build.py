"""Make the generated parts of the documentation anew.

    python docs/build.py            write them
    python docs/build.py --check    write nothing; exit code 1 if one differs (the tests check the same)

The site itself: `mkdocs build --strict`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import claims

from nnunet_xlstm.cli.cmd_config import page as configuration_page
from nnunet_xlstm.cli.commands import COMMANDS, STAGES, Command
from nnunet_xlstm.networks.build import build_network
from nnunet_xlstm.networks.cost import count_cost
from nnunet_xlstm.networks.presets import PRESETS

ROOT = Path(__file__).resolve().parents[1]


def replace_block(text: str, name: str, content: str) -> str:
    """Replace what stands between `<!-- NAME: ... -->` and `<!-- end of NAME -->`.

    Raises:
        ValueError: the page has no such block.
    """
    pattern = re.compile(rf"(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"no block <!-- {name}: ... --> to <!-- end of {name} -->: put it where the table belongs.")
    return pattern.sub(lambda match: f"{match[1]}\n{content}\n{match[2]}", text)


# ---- commands


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def sentence(text: str) -> str:
    """With a capital, unless it begins with a name such as nnUNetv2_predict, and with a full stop."""
    first = text if "_" in text.split()[0] else text[0].upper() + text[1:]
    return cell(first.rstrip(".")) + "."


def help_of(action: argparse.Action) -> str:
    """The help of an option, its placeholders filled in as argparse does it."""
    facts = {key: value for key, value in vars(action).items() if value is not argparse.SUPPRESS}
    if facts.get("choices") is not None:
        facts["choices"] = ", ".join(map(str, facts["choices"]))
    return (action.help or "") % facts


def default_of(action: argparse.Action) -> str:
    if action.required:
        return "required"
    shown = action.nargs != 0 and action.default not in (None, argparse.SUPPRESS, [])
    return f"`{json.dumps(action.default, default=str)}`" if shown else ""


def signature(action: argparse.Action) -> str:
    """How an option is written, such as `-d`, `--data` FOLDER."""
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    if action.nargs == 0:
        return names
    if action.metavar is not None:
        value = " ".join(action.metavar) if isinstance(action.metavar, tuple) else action.metavar
    elif action.choices is not None:
        value = "{" + ", ".join(map(str, action.choices)) + "}"
    else:
        value = action.dest.upper()
    more = " ..." if action.nargs in ("+", "*") else ""
    return f"{names} {value}{more}" if names else f"`{value}`{more}"


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A table of the options, then the subcommands."""
    actions = [a for a in parser._actions if not isinstance(a, (argparse._HelpAction, argparse._SubParsersAction))]
    rows = [a for a in actions if a.help is not argparse.SUPPRESS]
    if rows:
        yield from ("", "| option | default | what |", "| --- | --- | --- |")
        for action in rows:
            yield f"| {cell(signature(action))} | {cell(default_of(action))} | {cell(help_of(action))} |"
    for action in (a for a in parser._actions if isinstance(a, argparse._SubParsersAction)):
        summaries = {choice.dest: choice.help for choice in action._choices_actions}
        for name, child in action.choices.items():
            yield from ("", f"### {parser.prog} {name}", "", sentence(summaries.get(name) or child.description))
            yield from options(child)


def command_lines(command: Command) -> Iterator[str]:
    add_arguments, _ = command.load()
    yield from ("", f"## {command.name}", "", sentence(command.summary))
    if command.passthrough:
        yield from ("", "Takes the arguments of the stock command.")
    elif add_arguments:
        parser = argparse.ArgumentParser(prog=command.name)
        add_arguments(parser)
        yield from options(parser)


def commands_page() -> str:
    """docs/reference/commands.md, from the parsers of the commands."""
    lines = [
        "# Commands",
        "",
        "<!-- made by `python docs/build.py`; do not edit -->",
        "",
        "`nnunet_xlstm COMMAND [OPTIONS]`. Every command also takes `-h` and `--debug` (full tracebacks). "
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
        "",
        "| stage | commands |",
        "| --- | --- |",
    ]
    ordered = [(stage, [row for row in COMMANDS if row.stage == stage]) for stage in STAGES]
    for stage, rows in ordered:
        lines.append(f"| {stage} | {', '.join(f'[`{row.name}`](#{row.name})' for row in rows)} |")
    for _, rows in ordered:
        for row in rows:
            lines += command_lines(row)
    return "\n".join(lines) + "\n"


# ---- presets


def counts(preset: str) -> tuple[float, float]:
    """Parameters (millions) and GMAC of a preset, as `nnunet_xlstm cost` counts them for docs/reference/presets.md."""
    own = PRESETS[preset].patch_3d
    patch = own or (128, 128, 128)
    cost = count_cost(lambda: build_network(preset, patch, 1, 30 if own else 8), (1, 1, *patch))
    return cost.params / 1e6, cost.macs / 1e9


def presets_page(page: str) -> str:
    """docs/reference/presets.md with the last two columns of its tables counted anew, with as many decimals."""
    lines = []
    for line in page.splitlines():
        cells = line.split(" | ")
        name = cells[0].strip("| `")
        if line.startswith("| `") and name in PRESETS:
            old = (cells[-2].removesuffix(" M"), cells[-1].removesuffix(" |"))
            new = [f"{value:.{len(text.partition('.')[2])}f}" for value, text in zip(counts(name), old, strict=True)]
            cells[-2:] = [f"{new[0]} M", f"{new[1]} |"]
        lines.append(" | ".join(cells))
    return "\n".join(lines) + "\n"


# file below the root -> function from its present text to what it should be
PAGES: dict[str, Callable[[str], str]] = {
    "docs/claims.md": lambda _: claims.page(),
    "docs/results.md": lambda text: replace_block(text, "index", claims.index()),
    "README.md": lambda text: replace_block(text, "results", claims.readme_rows()),
    "docs/reference/configuration.md": lambda _: configuration_page(),
    "docs/reference/commands.md": lambda _: commands_page(),
    "docs/reference/presets.md": presets_page,
}


def stale(name: str) -> tuple[str, str]:
    """Text of a page, and what it should be."""
    path = ROOT / name
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return text, PAGES[name](text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    args = parser.parse_args()
    changed = []
    for name in PAGES:
        text, wanted = stale(name)
        if text != wanted:
            changed.append(name)
            if not args.check:
                (ROOT / name).write_text(wanted, encoding="utf-8")
    print(f"{'differ' if args.check else 'written'}: {', '.join(changed) or 'none'}")
    return int(args.check and bool(changed))


if __name__ == "__main__":
    raise SystemExit(main())
