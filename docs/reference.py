"""The API reference: pages made from the package, and docstrings prepared for Sphinx.

Docstrings of this project are plain text with Google sections. Two rules turn them into
reStructuredText: an indented block is an equation or code and is shown as it is; elsewhere no
character is markup except the backticks around names.
"""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

import scorefield

FOLDER = Path(__file__).parent / "api"
HIDDEN = {"cli", "__main__"}  # the commands have a page of their own
SECTIONS = re.compile(
    r"(Args|Attributes|Returns|Raises|Yields|Example|Examples|Note|Warning|Warns|References):$"
)
CODE = re.compile(r"^\s*(import |from |@|def |class |with |\w[\w, ]* = |sf\.|>>> |print\()")

COLON = "\ufdd0"  # a colon in a result's description, which napoleon would take for a type's end

# The order in which a reader needs them; packages that are not listed follow.
ORDER = (
    "data",
    "training",
    "checkpoint",
    "sampling",
    "inverse",
    "likelihood",
    "plotting",
    "models",
    "conditions",
    "units",
    "exact",
    "noise",
    "rng",
    "networks",
    "objectives",
    "diagnostics",
    "interop",
    "config",
    "execution",
    "errors",
)


def rooms() -> list[str]:
    """The packages and modules of scorefield, in the order of the reference."""
    found = {info.name for info in pkgutil.iter_modules(scorefield.__path__)} - HIDDEN
    return [name for name in ORDER if name in found] + sorted(found - {*ORDER})


def public_names(module: ModuleType) -> list[str]:
    """Names in `__all__`, or the module's own functions, classes and documented constants."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    constants = {name for _, name in ModuleAnalyzer.for_module(module.__name__).find_attr_docs()}
    own = {
        name
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
    }
    return sorted(name for name in own | constants if not name.startswith("_"))


def constant_text(module: ModuleType, name: str) -> list[str]:
    """The `#:` comment of a constant, from the module that defines it."""
    places = [module.__name__]
    if hasattr(module, "__path__"):
        places += [f"{module.__name__}.{i.name}" for i in pkgutil.iter_modules(module.__path__)]
    for place in places:
        texts = {n: t for (c, n), t in ModuleAnalyzer.for_module(place).find_attr_docs().items()}
        if name in texts:
            return list(texts[name])
    return []


def summary(value: Any) -> str:
    """The first sentence of a docstring, as reStructuredText."""
    first = (inspect.getdoc(value) or "").split("\n\n")[0].replace("\n", " ")
    return escape(first)


def title(text: str, mark: str = "=") -> list[str]:
    """A heading."""
    return [text, mark * len(text), ""]


def entry(module: ModuleType, name: str) -> list[str]:
    """The directives that document one public name."""
    full, value = f"{module.__name__}.{name}", getattr(module, name)
    if inspect.ismodule(value):
        lines = [f".. py:module:: {full}", ""]
        for line in prepared(inspect.getdoc(value) or ""):
            lines.append(line)
        for inner in public_names(value):
            lines += ["", *entry(value, inner)]
        return lines
    if inspect.isclass(value):
        bases = [] if value.__bases__ == (object,) else ["   :show-inheritance:"]
        return [f".. autoclass:: {full}", "   :members:", *bases, ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {full}", ""]
    text = constant_text(module, name)
    head = [f".. py:data:: {name}", f"   :module: {module.__name__}", ""]
    return [*head, *("   " + line for line in prepared("\n".join(text))), ""]


def room_page(name: str) -> str:
    """The page of one package or module."""
    module = importlib.import_module(f"scorefield.{name}")
    lines = [*title(f"scorefield.{name}"), f".. py:module:: scorefield.{name}", ""]
    lines += [*prepared(inspect.getdoc(module) or ""), ""]
    extra = networks() if name == "networks" else []
    for member in public_names(module):
        lines += entry(module, member)
    return "\n".join([*lines, *extra, ""])


def networks() -> list[str]:
    """Entries of the networks, which the package imports when they are asked for."""
    from scorefield.networks import NETWORKS, builder

    return [
        line
        for name in NETWORKS
        for line in (
            f".. autoclass:: {builder(name).__module__}.{builder(name).__name__}",
            "   :members:",
            "",
        )
    ]


def first_names() -> list[str]:
    """A table of what `import scorefield as sf` offers, each linked to its entry."""
    lines = [".. list-table::", "   :widths: 25 75", ""]
    for name, room in scorefield._NAMES.items():
        value = getattr(scorefield, name)
        target = f"scorefield.{room}.{name}"
        role = "mod" if inspect.ismodule(value) else "obj"
        lines += [f"   * - :py:{role}:`sf.{name} <{target}>`", f"     - {summary(value)}"]
    return [*lines, ""]


def index_page() -> str:
    """The first page of the reference."""
    lines = [*title("API reference"), *prepared(inspect.getdoc(scorefield) or ""), ""]
    lines += [*title("The names of sf", "-"), *first_names()]
    lines += [*title("Packages", "-"), ".. list-table::", "   :widths: 25 75", ""]
    for name in rooms():
        module = importlib.import_module(f"scorefield.{name}")
        lines += [f"   * - :doc:`scorefield.{name}`", f"     - {summary(module)}"]
    lines += ["", ".. toctree::", "   :hidden:", ""]
    lines += [f"   scorefield.{name}" for name in rooms()]
    return "\n".join([*lines, ""])


def write_pages(app: Any = None) -> None:
    """Write the reference's pages; a page that has not changed is left alone."""
    import manual

    FOLDER.mkdir(exist_ok=True)
    pages = {"index": index_page(), **{f"scorefield.{name}": room_page(name) for name in rooms()}}
    pages |= manual.pages()
    for old in FOLDER.glob("*.rst"):
        if old.stem not in pages:
            old.unlink()
    for name, text in pages.items():
        path = FOLDER / f"{name}.rst"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


@functools.cache
def targets() -> dict[str, str]:
    """Names that docstrings may link to: "ScoreModel", "rng.keys", "sf.sample" -> full names.

    A name that two packages have is linked only with its package before it.
    """
    found: dict[str, str] = {}
    doubtful = set()
    for room in rooms():
        module = importlib.import_module(f"scorefield.{room}")
        for name in public_names(module):
            full = f"scorefield.{room}.{name}"
            if name in found:
                doubtful.add(name)
            found[name] = found[f"{room}.{name}"] = full
    for name, room in scorefield._NAMES.items():
        found[f"sf.{name}"] = f"scorefield.{room}.{name}"
    return {
        name: full
        for name, full in found.items()
        if name not in doubtful and re.search(r"[A-Z._]", name)  # `run` may be an argument
    }


def escape(line: str) -> str:
    """`line` without markup: names in backticks become links or code, all else is plain."""
    parts = re.split(r"`([^`]*)`", line)
    for k in range(0, len(parts), 2):
        parts[k] = re.sub(r"(?<!\\)([*|`])", r"\\\1", parts[k])
        parts[k] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", parts[k])
    for k in range(1, len(parts), 2):
        name = parts[k]
        known = targets().get(name)
        parts[k] = f":py:obj:`{name} <{known}>`" if known else f"``{name}``"
        # Inline markup must end where a word ends.
        if k + 1 < len(parts) and re.match(r"\w", parts[k + 1]):
            parts[k] += "\\ "
    return "".join(parts)


def is_python(block: list[str]) -> bool:
    """Whether an indented block is Python: it begins like code and can be parsed."""
    text = textwrap.dedent("\n".join(block)).strip()
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return bool(CODE.match(text))


def mark_blocks(lines: list[str]) -> list[str]:
    """Put a code-block directive before each indented block outside the sections."""
    out: list[str] = []
    section, k = "", 0
    while k < len(lines):
        line = lines[k]
        if line.strip() and not line[0].isspace():
            section = line.removesuffix(":") if SECTIONS.match(line) else ""
        if section in ("Returns", "Yields"):
            line = line.replace(":", COLON) if line[:1].isspace() else line
        if not line.startswith("    ") or (section and not section.startswith("Example")):
            out.append(line)
            k += 1
            continue
        end = k
        while end < len(lines) and (not lines[end].strip() or lines[end][0].isspace()):
            end += 1
        block = lines[k:end]
        pad = "    " if section else ""
        language = "python" if is_python(block) else "text"
        out += ["", f"{pad}.. code-block:: {language}", ""]
        out += [pad + inner if inner.strip() else "" for inner in block]
        if out[-1].strip():
            out.append("")
        k = end
    return out


def escape_lines(lines: list[str]) -> list[str]:
    """Escape every line outside code blocks."""
    out: list[str] = []
    inside = -1  # indentation of the directive whose content is being passed
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if inside >= 0 and line.strip() and indent <= inside:
            inside = -1
        if inside < 0 and line.lstrip().startswith(".. "):
            inside = indent
            out.append(line)
        else:
            out.append(line if inside >= 0 else escape(line).replace(COLON, ":"))
    return out


def prepared(text: str) -> list[str]:
    """Plain text without sections as reStructuredText."""
    return escape_lines(mark_blocks(text.splitlines()))


def before(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Mark blocks, before napoleon reads the sections."""
    lines[:] = mark_blocks(lines)


def after(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape what napoleon has left."""
    lines[:] = escape_lines(lines)


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leave out the fields of named tuples, which the class docstring describes."""
    return True if (inspect.getdoc(obj) or "").startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """Connect the hooks."""
    app.connect("autodoc-skip-member", skip)
    app.connect("builder-inited", write_pages)
    app.connect("autodoc-process-docstring", before, priority=400)
    app.connect("autodoc-process-docstring", after, priority=600)
