"""Files outside of docs/ as parts of the site: the README, the changelog, results of benchmarks.

Links in Markdown name files of the repository, as a code host wants them. Whatever a page links to
outside of docs/ becomes part of the site, under ``repository/``: Markdown as a page, which is
followed in turn, anything else as a file. Links are turned into paths of the site; MkDocs then
checks them as it does all others, so that a link to nothing fails the build.
"""

import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

PREFIX = "repository"
LINK = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds what pages link to outside of docs/, and what those link to."""
    waiting = list(files.documentation_pages())
    while waiting:
        page = waiting.pop()
        for target in LINK.findall(page.content_string):
            found = resolve(target.partition("#")[0], page.abs_src_path, config)
            if found is None or files.get_file_from_path(uri(found, config)) is not None:
                continue
            added = File.generated(
                config,
                uri(found, config),
                abs_src_path=str(found),
                inclusion=InclusionLevel.NOT_IN_NAV,
            )
            files.append(added)
            if added.is_documentation_page():
                waiting.append(added)
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository as links to the site's copies."""

    def moved(link: re.Match[str]) -> str:
        name, mark, anchor = link[0].partition("#")
        found = resolve(name, page.file.abs_src_path, config)
        if found is None or files.get_file_from_path(uri(found, config)) is None:
            return link[0]
        folder = posixpath.dirname(page.file.src_uri)
        return posixpath.relpath(uri(found, config), folder or ".") + mark + anchor

    return LINK.sub(moved, markdown)


def resolve(name: str, page: str | None, config: MkDocsConfig) -> Path | None:
    """The file of the repository that a link means; of a folder its README or index."""
    if not name or "://" in name or page is None:
        return None
    path = Path(os.path.normpath(Path(page).parent / name))
    if not path.is_relative_to(root(config)):
        return None
    candidates = (path, path / "README.md", path / "index.md")
    return next((p for p in candidates if p.is_file()), None)


def uri(path: Path, config: MkDocsConfig) -> str:
    """Where a file of the repository stands in the site's sources."""
    docs = Path(config.docs_dir)
    if path.is_relative_to(docs):
        return path.relative_to(docs).as_posix()
    return f"{PREFIX}/{path.relative_to(root(config)).as_posix()}"


def root(config: MkDocsConfig) -> Path:
    """The folder of the repository: where mkdocs.yml is."""
    return Path(config.config_file_path).parent
