"""The code keeps its rules: sizes, docstrings and prose, capabilities, one stream a purpose."""

import ast
import importlib
import inspect
import io
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src" / "scorefield"
MOST_LINES, MOST_PARAMETERS = 80, 10
Function = ast.FunctionDef | ast.AsyncFunctionDef
FSTRING_MIDDLE = getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)  # Python 3.12 and newer

# A file may write by itself only where atomic replacement is not what is wanted.
OWN_WRITERS = {
    "files.py",  # the atomic writer
    "runs.py",  # the lock, and the log that grows a line at a time
}


def parsed(*roots: Path) -> Iterator[tuple[str, ast.Module]]:
    """(name relative to its root, syntax tree) of every Python file."""
    for root in roots:
        for path in sorted(root.rglob("*.py")):
            yield str(path.relative_to(root)), ast.parse(path.read_text())


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function and method."""
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def parameters(function: Function) -> list[str]:
    """Names of the parameters without self and cls; *args and **kwargs count."""
    a = function.args
    found = [p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if p]
    return [name for name in found if name not in ("self", "cls")]


def too_long(tree: ast.AST) -> list[str]:
    """Functions of more than MOST_LINES lines."""
    return [
        f"{f.name}: {f.end_lineno - f.lineno + 1} lines"
        for f in functions(tree)
        if f.end_lineno is not None and f.end_lineno - f.lineno + 1 > MOST_LINES
    ]


def too_many_parameters(tree: ast.AST) -> list[str]:
    """Public functions and constructors with more than MOST_PARAMETERS parameters."""
    return [
        f"{f.name}: {len(parameters(f))} parameters"
        for f in functions(tree)
        if (f.name == "__init__" or not f.name.startswith("_"))
        and len(parameters(f)) > MOST_PARAMETERS
    ]


def probes(tree: ast.AST) -> list[str]:
    """getattr and hasattr on something that is called a model, a network or an objective."""
    found = []
    for call in ast.walk(tree):
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Name)
            and call.func.id in ("getattr", "hasattr")
            and call.args
            and re.search(r"model|network|inner|module\b", ast.unparse(call.args[0]))
            and "import_module" not in ast.unparse(call.args[0])
        ):
            found.append(f"line {call.lineno}: {ast.unparse(call)}")
    return found


def streams(tree: ast.AST) -> list[str]:
    """Members of rng.Stream that are used, with repetitions."""
    return [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).split(".")[-1] == "Stream"
    ]


def has_sections(function: Callable[..., Any]) -> bool:
    """Whether a docstring has Args, and Returns where there is a result.

    One line is enough for up to two parameters; "those of `name`" refers to another docstring.
    """
    doc = function.__doc__ or ""
    if not doc:
        return False
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    if len(names) < 3 or "those of `" in doc:
        return True
    result = function.__annotations__.get("return")
    returns = result not in (None, "None", type(None), NoReturn)
    return "Args:" in doc and (not returns or bool(re.search("Returns:|Yields:", doc)))


def api(room: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name, function) of a room's public functions and of the new methods of its public classes.

    A package's public names are those of __all__; a module's are its own without an underscore.
    Methods that a base class of the package has are described there.
    """
    module = importlib.import_module(f"scorefield.{room}")
    own = [n for n, v in vars(module).items() if vars_module(v) == module.__name__]
    for name in getattr(module, "__all__", [n for n in own if not n.startswith("_")]):
        value = getattr(module, name)
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            bases = [base for base in value.__mro__[1:] if base.__module__.startswith("scorefield")]
            options = getattr(value, "__dataclass_fields__", {})
            for method, function in vars(value).items():
                function = getattr(function, "__func__", function)
                if (
                    inspect.isfunction(function)
                    and not method.startswith("_")
                    and method not in options
                    and not any(method in vars(base) for base in bases)
                ):
                    yield f"{name}.{method}", function


def vars_module(value: Any) -> str | None:
    """The module that defines a function or class; None for anything else."""
    return value.__module__ if inspect.isfunction(value) or inspect.isclass(value) else None


def own_writes(tree: ast.AST) -> list[str]:
    """Calls that write files without the atomic writer."""
    found = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
        text = ast.unparse(call)
        if name in ("write_text", "savez", "savez_compressed") or (
            name == "open" and re.search(r"""['"][wax]b?\+?['"]""", text)
        ):
            found.append(f"line {call.lineno}: {text}")
    return found


# Words that personify code, or replace the field's term. Whole sentences are a reader's task.
RIDDLES = re.compile(
    r"\b(hears?|heard|convicts?|says|said|everybody|mends?|by heart|asked for|"
    r"(?:is|are|was|were|be|been) (?:told|asked))\b",
    re.IGNORECASE,
)


def riddles(text: str) -> list[str]:
    """Lines of docstrings, comments and messages with a word of RIDDLES."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT, FSTRING_MIDDLE):
            for number, line in enumerate(token.string.splitlines(), token.start[0]):
                found += [f"line {number}: {m.group()}" for m in RIDDLES.finditer(line)]
    return found


ROOMS = {p.stem for p in SRC.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
ROOMS -= {"__init__", "__main__", "cli"}
FILES = {
    f"{root.name}/{name}": tree for root in (SRC, ROOT / "bench") for name, tree in parsed(root)
}
PACKAGE = {name: tree for name, tree in FILES.items() if name.startswith("scorefield/")}


@pytest.mark.parametrize("name", FILES)
def test_functions_have_at_most_80_lines(name: str) -> None:
    assert not too_long(FILES[name]), f"{name}: split {too_long(FILES[name])}"


@pytest.mark.parametrize("name", [n for n in FILES if "/cli/" not in n and n != "bench/app.py"])
def test_public_functions_have_at_most_ten_parameters(name: str) -> None:
    """Commands are left out: their options are their parameters."""
    found = too_many_parameters(FILES[name])
    assert not found, f"{name}: group or drop parameters of {found}"


@pytest.mark.parametrize("name", PACKAGE)
def test_models_are_not_probed(name: str) -> None:
    found = probes(PACKAGE[name])
    assert not found, f"{name}: declare the capability on the base class instead of {found}"


@pytest.mark.parametrize(
    "name", [n for n in PACKAGE if n.removeprefix("scorefield/") not in OWN_WRITERS]
)
def test_files_are_written_atomically(name: str) -> None:
    found = own_writes(PACKAGE[name])
    assert not found, f"{name}: write through scorefield.files instead of {found}"


@pytest.mark.parametrize("name", PACKAGE)
def test_prose_has_no_personified_code(name: str) -> None:
    found = riddles((SRC / name.removeprefix("scorefield/")).read_text())
    assert not found, f"{name}: write a plain sentence instead of {found}"


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_public_docstrings_have_sections(room: str) -> None:
    found = [name for name, function in api(room) if not has_sections(function)]
    assert not found, f"{room}: docstrings need Args and Returns: {found}"


def test_each_stream_has_one_call_site() -> None:
    from scorefield.rng import Stream

    used = {name: streams(tree) for name, tree in PACKAGE.items() if name != "scorefield/rng.py"}
    for stream in Stream:
        sites = [name for name, members in used.items() for m in members if m == stream.name]
        assert len(sites) == 1, f"Stream.{stream.name} is used in {sites or 'no file'}"


def test_the_wheel_holds_the_package_alone() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/scorefield"]
    assert not (SRC / "bench").exists() and not (SRC / "benchmarks").exists()


def test_declared_packages_are_imported() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [settings["dependencies"], *settings["optional-dependencies"].values()]
    names = {re.split(r"[<>=\[]", entry)[0] for group in groups for entry in group}
    modules = {"Pillow": "PIL", "scikit-learn": "sklearn", "POT": "ot"}
    tools = {"scorefield", "ruff", "mypy", "import-linter", "pre-commit", "pytest-xdist"}
    tools |= {"sphinx", "furo", "myst-parser"}  # `make docs`
    imported = set()
    for _, tree in parsed(ROOT / "src", ROOT / "tests", ROOT / "bench"):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                imported.add(node.module.split(".")[0])
    unused = {n for n in names - tools if modules.get(n, n) not in imported}
    assert not unused, f"pyproject.toml declares {unused}, which nothing imports"


WRONG = (
    '''
def long(model, a, b, c, d, e, f, g, h, i, j):
    """Do something."""
    getattr(model, "moments", None)
    rng.normal(keys, rng.Stream.START, 0)
    Path("x").write_text("y")
    open("x", "wb")
'''
    + "    pass\n" * 80
)


def test_the_checks_find_what_is_wrong() -> None:
    tree = ast.parse(WRONG)
    assert too_long(tree) == ["long: 86 lines"]
    assert too_many_parameters(tree) == ["long: 11 parameters"]
    assert len(probes(tree)) == 1
    assert streams(tree) == ["START"]
    assert len(own_writes(tree)) == 2

    assert riddles('''
def f(told, said):
    """The sampler is told
    what everybody hears."""
    raise ValueError(f"{told} says no")  # as asked for
''') == [
        "line 3: is told",
        "line 4: everybody",
        "line 4: hears",
        "line 5: says",
        "line 5: asked for",
    ]

    def bare(a: int, b: int, c: int) -> int:
        """Add."""
        return a + b + c

    def half(a: int, b: int, c: int) -> int:
        """Add.

        Args:
            a, b, c: numbers.
        """
        return a + b + c

    def nothing(a: int, b: int, c: int) -> None:
        """Args: three numbers."""

    assert [has_sections(f) for f in (bare, half, nothing)] == [False, False, True]
