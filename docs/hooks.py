"""Makes the site's pages of the repository's Markdown and notebooks, as mkdocs.yml tells MkDocs: `make docs`.

In the repository a link is a path, which GitHub follows. Here it is mended where a page reads it: to the site's own
page of that file, or else to the file at the repository's address.
"""

import json
import logging
import pathlib
import posixpath
import re

from markdown_it import MarkdownIt
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parent.parent
LOG = logging.getLogger("mkdocs.hooks")
LINK = re.compile(r"(\]\(\s*|\b(?:src|href)=\")([^)\"\s#]+)")
"""What stands before a link's path, and the path."""


def pages() -> dict[str, str]:
    """The site's page of each file that has one, by paths from the repository's top and from the site's."""
    docs = (path.name for path in (ROOT / "docs").iterdir() if path.suffix in (".md", ".png", ".svg"))
    inside = {f"docs/{name}": name for name in docs}
    readmes = ("jaxasr/configs", "benchmarks", "examples")
    beside = {f"{place}/README.md": f"{place.split('/')[-1]}/README.md" for place in readmes}
    notebooks = {f"notebooks/{path.name}": f"notebooks/{path.stem}.md" for path in ROOT.glob("notebooks/*.ipynb")}
    top = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
    return {path: page for path, page in (top | inside | beside | notebooks).items() if (ROOT / path).exists()}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """With each notebook in the navigation."""
    (tutorials,) = (entry["Tutorials"] for entry in config.nav or () if "Tutorials" in entry)
    tutorials += sorted(page for page in pages().values() if page.startswith("notebooks/"))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The files of docs/, and those elsewhere that are pages."""
    for path, page in pages().items():
        if not path.startswith("docs/"):
            text = (ROOT / path).read_text(encoding="utf-8")
            files.append(File.generated(config, page, content=of_notebook(text) if path.endswith("ipynb") else text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text with its links mended."""
    return mended(markdown, page.file.src_uri, config.repo_url or "")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> None:
    """Warns where MkDocs reads a page otherwise than GitHub, as lists without a blank line before them."""
    if ":::" not in (page.markdown or ""):  # where docstrings are put in
        by_github = MarkdownIt("commonmark").enable("table").render(page.markdown or "")
        for tag in ("<li>", "<tr>", "<pre>", "<h2", "<h3"):
            if (here := html.count(tag)) != (there := by_github.count(tag)):
                LOG.warning(f"{page.file.src_uri}: {here} times {tag} here and {there} times on GitHub.")


def mended(markdown: str, page: str, repository: str) -> str:
    """The text of a page with links that lead somewhere in the site, or to the repository's address."""
    there = pages()
    path = next((path for path, name in there.items() if name == page), page)

    def target(match: re.Match[str]) -> str:
        to = posixpath.normpath(posixpath.join(posixpath.dirname(path), match[2]))
        if ":" in match[2] or not (ROOT / to).exists():
            return match[0]
        kind = "tree" if (ROOT / to).is_dir() else "blob"
        known = to in there and posixpath.relpath(there[to], posixpath.dirname(page) or ".")
        return match[1] + (known or f"{repository}/{kind}/main/{to}")

    return LINK.sub(target, markdown)


def of_notebook(text: str) -> str:
    """A notebook's cells as Markdown, without what they print."""
    cells = ((cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"])
    return "\n\n".join(f"```python\n{source}\n```" if kind == "code" else source for kind, source in cells) + "\n"
