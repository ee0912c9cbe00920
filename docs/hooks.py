"""Hooks of MkDocs: what the site shows beside the Markdown files below docs/.

- README.md is the home page; other Markdown files of the root, and sources that a page links to, become pages too, so
  that links which work on GitHub also work here.
- A page of the API for each package of nnunet_xlstm, from the source tree (nothing is imported).
- The navigation: sections in the order of the links of their README.md, results in that of results.md.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])|(?<=src=\")([^\"]+)(?=\")")
ROOT_PAGES = {
    "README.md": "index.md",
    **{name: name.lower() for name in ("CONTRIBUTING.md", "AGENTS.md", "CHANGELOG.md")},
}
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}
SECTIONS = (("How to", "how-to"), ("Reference", "reference"), ("Explanation", "explanation"))


def site_path(path: str) -> str:
    """Where a file of the repository lies in the site's sources: below docs/ as it is, else as a generated page."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return ROOT_PAGES.get(path) or f"source/{path}.md"


def relink(markdown: str, path: str, page: str) -> tuple[str, set[str]]:
    """Turn links between files of the repository into links between sources of the site.

    Args:
        markdown: text of a page.
        path: where the text lies in the repository, and `page` where it lies in the site's sources.

    Returns:
        The text, and the files outside docs/ that it links to.
    """
    outside: set[str] = set()

    def new_link(match: re.Match) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(path), match[0]))
        if match[0].startswith(("http:", "https:", "mailto:")) or not (ROOT / target).is_file():
            return match[0]
        if not target.startswith("docs/"):
            outside.add(target)
        return os.path.relpath(site_path(target), os.path.dirname(page) or ".")

    # Code is left as it is: a link in it is an example.
    parts = re.split(r"(```.*?```|`[^`\n]+`)", markdown, flags=re.DOTALL)
    return "".join(part if i % 2 else LINK.sub(new_link, part) for i, part in enumerate(parts)), outside


def modules(package: Path) -> Iterator[str]:
    """Dotted names of the public modules of a package, or of a module by itself."""
    for path in sorted(package.rglob("*.py")) if package.is_dir() else [package]:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if not any(part.startswith("_") for part in parts[:-1]) and (parts[-1] == "__init__" or parts[-1][0] != "_"):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def api_pages() -> dict[str, str]:
    """File in the site's sources -> Markdown: one page for each package or module of nnunet_xlstm, and their index."""
    pages = {}
    rows = []
    for package in sorted((ROOT / "nnunet_xlstm").iterdir()):
        is_package = package.is_dir() and (package / "__init__.py").exists()
        if package.name.startswith("_") or not (is_package or package.suffix == ".py"):
            continue
        names = list(modules(package))
        title = f"nnunet_xlstm.{package.stem}"
        pages[f"api/{package.stem}.md"] = f"# {title}\n\n" + "\n\n".join(f"::: {name}" for name in names) + "\n"
        source = package / "__init__.py" if is_package else package
        summary = (ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or "").partition("\n\n")[0]
        rows.append(f"| [`{title}`]({package.stem}.md) | {len(names)} | {' '.join(summary.split())} |")
    table = "\n".join(["| package | modules | what |", "| --- | --- | --- |", *rows])
    text = "Made from the sources. What may import what: [architecture](../explanation/architecture.md)."
    return {"api/index.md": f"# API\n\n{text}\n\n{table}\n", **pages}


def listed(index: str) -> list[str]:
    """Pages below docs/ that a page links to, in its order."""
    path = DOCS / index
    links = [match[0] for match in LINK.finditer(path.read_text(encoding="utf-8"))]
    pages = [os.path.relpath(path.parent / link, DOCS) for link in links if link.endswith(".md")]
    return [page for page in dict.fromkeys(pages) if (DOCS / page).is_file()]


def section(folder: str, index: str) -> list[str]:
    """Pages of a folder: its index, those that it lists, then the others."""
    found = [page for page in listed(index) if page.startswith(f"{folder}/")]
    others = sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / folder).glob("*.md"))
    hidden = {index, "results/recipes.md"} if "results/recipes.md" not in found else {index}
    return [index, *found, *(page for page in others if page not in {*found, *hidden})]


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation."""
    config.nav = [
        {"Home": "index.md"},
        {"Getting started": "getting-started/first-model.md"},
        *({title: section(folder, f"{folder}/README.md")} for title, folder in SECTIONS),
        {"Results": [*section("results", "results.md"), "claims.md"]},
        {"API": list(api_pages())},
        {"Contributing": [name.lower() for name in ROOT_PAGES if name != "README.md" and (ROOT / name).exists()]},
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made: those of the root, of the API, and of linked sources."""
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ROOT_PAGES if (ROOT / name).exists()}
    linked: set[str] = set()
    for path in DOCS.rglob("*.md"):
        name = path.relative_to(ROOT).as_posix()
        linked |= relink(path.read_text(encoding="utf-8"), name, site_path(name))[1]
    made = api_pages()
    for name, text in texts.items():
        made[ROOT_PAGES[name]], outside = relink(text, name, ROOT_PAGES[name])
        linked |= outside
    for name in linked - set(ROOT_PAGES):
        language = LANGUAGES.get(Path(name).suffix, "text")
        text = (ROOT / name).read_text(encoding="utf-8")
        made[site_path(name)] = f"# {name}\n\n````{language}\n{text}\n````\n"
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Links of pages below docs/ that lead out of it."""
    if page.file.generated_by:
        return markdown
    path = f"docs/{page.file.src_uri}"
    return relink(markdown, path, page.file.src_uri)[0]
