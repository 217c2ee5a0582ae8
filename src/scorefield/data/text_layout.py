"""How a text table is laid out: its delimiter, the lines above it, and its names."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import InputError
from .headers import FirstLines, counts, has_header, is_datum, is_number
from .options import ReadOptions

DELIMITERS = (",", ";", "\t", "|")
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space"}
LOOKED_AT = 1000  # lines from which delimiter and header are read off
CHARACTERS = 1 << 20  # of those lines, at most, where there are more than TEN
TEN = 10


@dataclass(frozen=True)
class Layout:
    """How a text table is laid out.

    Attributes:
        delimiter: The character between cells; " " for runs of spaces and tabs.
        names: The names of the columns; "" for a column without one; None without names.
        width: The number of columns.
        skipped: The number of lines above the first row of data.
        notes: Sentences for the report.
    """

    delimiter: str
    names: tuple[str, ...] | None
    width: int
    skipped: int
    notes: tuple[str, ...] = ()


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text with their ends, without a list of all of them."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def rows_of(
    lines: Iterable[str], delimiter: str, blank: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a text table.

    Args:
        lines: The lines with their ends.
        delimiter: The character between cells.
        blank: Whether blank lines are rows, as they are in a table of one column.

    Yields:
        (number of the row's last line, from 1; its cells without surrounding spaces).

    Raises:
        csv.Error: A cell is longer than 128 kB.
    """
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    for row in reader:
        if len(row) > 1 or blank or (row and row[0].strip()):
            yield reader.line_num, [cell.strip() for cell in row] or [""]


def collapse(text: str) -> str:
    """Text in which runs of spaces and tabs outside quotes are one space; no line begins so."""
    found = re.sub(r'("[^"]*")|[ \t]+', lambda m: m.group(1) or " ", text)
    return re.sub(r"^ | $", "", found, flags=re.MULTILINE)


def parse_delimiter(value: str, name: str) -> str:
    r"""The character that `delimiter` gives: itself, or one of the words tab, \t, space, comma.

    Raises:
        InputError: It is no single character, or one that numbers and quotes are made of.
    """
    words = {"\\t": "\t"} | {word: mark for mark, word in NAMES.items()}
    found = words.get(value.lower(), value)
    if len(found) != 1 or found.isalnum() or found in "\n\r\"'.+-":
        raise InputError(
            f"{name}: the delimiter must be one character such as ; or | or the word tab or space; "
            f"got {value!r}"
        )
    return found


def read_layout(
    text: str,
    name: str,
    options: ReadOptions,
    known: Sequence[str] | None = None,
    usual: str | None = None,
) -> Layout:
    """Read off how a table is laid out.

    Args:
        text: The text of the file, which is not blank.
        name: The source, for messages.
        options: Reading options.
        known: Names of columns that are looked for in the first line, as of a model's data.
        usual: The delimiter of the model's data, which is taken where others fit no better.

    Returns:
        The layout.

    Raises:
        InputError: Delimiter or names are not clear, or there is no row of data.
    """
    lines = _first_lines(text)
    separator = re.fullmatch(r'"?sep=(.)"?\s*', lines[0])  # a line that Excel reads and writes
    skipped = 1 if separator else 0
    comments = []
    while skipped < len(lines):
        line = lines[skipped].strip()
        if line and (not line.startswith("#") or re.match(r"#\s*[,;\t|]", line)):
            break
        comments += [line] if line else []
        skipped += 1
    rest = lines[skipped:]
    if not rest:
        raise InputError(f"{name}: the file holds comments (#) and no table below them")
    if options.delimiter is not None:
        delimiter = parse_delimiter(options.delimiter, name)
    elif separator:
        delimiter = separator.group(1)
    else:
        delimiter = _sniff(rest, name, usual, known)
    if delimiter == " ":
        rest = [collapse(line) for line in rest]
    rows = list(rows_of(rest, delimiter))
    top = _top(rows, rest, delimiter)
    names = None if options.header is False else _names_in(comments, delimiter, top, known)
    if names is not None:
        notes = _comment_notes(len(comments) - 1, "the names are in a line that begins with #")
        return Layout(delimiter, names, len(rows[0][1]), skipped, notes)
    notes = _comment_notes(len(comments))
    named = options.header
    if named is None:
        named = has_header(top, name, known)
    if not named:
        return Layout(delimiter, None, len(rows[0][1]), skipped, notes)
    if len(rows) < 2:
        raise InputError(
            f"{name}: holds a line of names but no line of numbers or words. Where that line is "
            "data, give --no-header (header=False)"
        )
    names, note = _complete(rows[0][1], [row for _, row in rows[1:]], delimiter)
    return Layout(delimiter, names, len(names), skipped + rows[0][0], notes + note)


def _first_lines(text: str) -> list[str]:
    """The first lines, from which the layout is read off."""
    found, size = list[str](), 0
    for line in lines_of(text):
        if len(found) >= LOOKED_AT or (size > CHARACTERS and len(found) >= TEN):
            break
        found.append(line)
        size += len(line)
    return found


def _comment_notes(count: int, note: str = "") -> tuple[str, ...]:
    left = f"{count} lines at the top that begin with # are left out as comments"
    return ((note,) if note else ()) + ((left,) if count else ())


def _top(rows: list[tuple[int, list[str]]], lines: list[str], delimiter: str) -> FirstLines:
    """What `has_header` looks at."""
    starts = [
        all(cell.strip().startswith('"') for cell in line.strip().split(delimiter))
        for line in [line for line in lines if line.strip()][:2]
    ]
    only_names = len(starts) == 2 and starts[0] and not starts[1]
    return FirstLines(rows[0][1], [row for _, row in rows[1:]], only_names)


def _names_in(
    comments: list[str], delimiter: str, top: FirstLines, known: Sequence[str] | None
) -> tuple[str, ...] | None:
    """The names in the last comment, where it has a word for each cell of the first row.

    numpy.savetxt, gnuplot and the formats of genomics (#chrom) keep names so. Words in the first
    row may be names themselves, and words separated by spaces a sentence: see `_is_first_datum`.
    """
    if not comments:
        return None
    line = comments[-1].lstrip("# ")
    line = collapse(line) if delimiter == " " else line
    cells = next((row for _, row in rows_of([line], delimiter)), [])
    words = all(cells) and not any(map(is_datum, cells))
    if len(cells) != len(top.first) or not words:
        return None
    if all(map(is_datum, top.first)):
        return tuple(cells)
    sentence = delimiter == " " and comments[-1].startswith("# ")
    return None if sentence or not _is_first_datum(top, known) else tuple(cells)


def _is_first_datum(top: FirstLines, known: Sequence[str] | None) -> bool:
    """Whether the first row holds numbers or dates and cannot be a line of names."""
    if not any(map(is_datum, top.first)):
        return False
    try:
        return not has_header(top, "", known)
    except InputError:  # a row of data or names, by itself
        return True


def _complete(
    first: list[str], body: list[list[str]], delimiter: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names for every column, and a note, where all rows have one cell more than the names.

    That is a delimiter at the end of every row, or a column of row names, as R's write.table makes.
    """
    if any(len(row) != len(first) + 1 for row in body):
        return tuple(first), ()
    if not any(row[-1] for row in body):
        return (*first, ""), ()
    heads = [row[0] for row in body]
    if len(first) == 1 and delimiter == ",":  # could be one column with decimal commas
        return tuple(first), ()
    if counts(heads) or not any(map(is_datum, heads)):
        note = "the line of names is one short: its first column has none, as R's write.table does"
        return ("", *first), (note,)
    return tuple(first), ()


@dataclass(frozen=True)
class _Fit:
    """How well a delimiter fits some lines.

    Attributes:
        delimiter: The delimiter.
        cells: The most frequent number of cells.
        rows: The fraction of rows that have it.
        data: The fraction of cells that are numbers or dates (numbers alone for spaces, since
            dates with times hold one).
    """

    delimiter: str
    cells: int
    rows: float
    data: float


def _fit(lines: list[str], delimiter: str, counted: Callable[[str], bool] = is_datum) -> _Fit:
    try:
        rows = [row for _, row in rows_of(lines, delimiter)]
    except csv.Error:
        rows = []
    rows = rows[:-1] if len(rows) >= TEN else rows  # the last one may be cut
    if not rows:
        return _Fit(delimiter, 0, 0.0, 0.0)
    width, often = Counter(map(len, rows)).most_common(1)[0]
    cells = [cell for row in rows for cell in row if cell]
    return _Fit(delimiter, width, often / len(rows), sum(map(counted, cells)) / max(len(cells), 1))


def _sniff(
    lines: list[str], name: str, usual: str | None = None, known: Sequence[str] | None = None
) -> str:
    """The delimiter that gives every line the same number of cells, two or more.

    The one under which the first line has the known names wins; `usual` decides between equals.
    """
    first = next(line for line in lines if line.strip())
    marks = DELIMITERS if usual in (None, " ", *DELIMITERS) else (*DELIMITERS, usual)
    named = [d for d in marks if known and len(known) > 1 and _has_names(first, d, known)]
    if len(named) == 1:
        return named[0]
    fits = [f for f in (_fit(lines, d) for d in marks) if f.cells > 1 and f.rows >= 0.5]
    fits = [f for f in fits if f.rows == 1.0] or fits
    if not fits:
        if usual is not None and _fit(lines, usual).cells > 1:
            return usual
        spaced = _fit([collapse(line) for line in lines], " ", is_number)
        return " " if spaced.cells > 1 and spaced.rows >= 0.5 and spaced.data > 0.5 else ","
    best = max(fits, key=lambda f: (f.data, f.rows))
    rivals = [f.delimiter for f in fits if (f.data, f.rows) == (best.data, best.rows)]
    if usual in rivals:
        return usual
    if len(rivals) > 1:
        words = " or by ".join(NAMES.get(d, d) for d in rivals)
        raise InputError(
            f"{name}: the cells may be separated by {words}. Give --delimiter "
            f"{NAMES.get(rivals[0], rivals[0])} (delimiter={rivals[0]!r}) or the other one"
        )
    return best.delimiter


def _has_names(line: str, delimiter: str, known: Sequence[str]) -> bool:
    """Whether all known names are cells of a line."""
    cells = next((row for _, row in rows_of([line], delimiter)), [])
    return set(known) <= set(cells)
