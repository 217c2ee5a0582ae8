"""How objects show themselves: paragraphs of text, tables of facts, and pictures in notebooks.

`Picture` is a picture that a notebook shows by itself and that `save` writes as a file.
"""

import base64
import html
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import InputError
from .files import PathLike

Write = Callable[[Path], Path]
WIDTH = 88  # characters of a line of text


def paragraph(text: str) -> str:
    """Break a text into the lines of one paragraph."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def facts_table(title: str, facts: Mapping[str, str]) -> str:
    """Facts as HTML, a row each, for notebooks."""
    cell = "<td style='text-align:left'>"
    rows = "".join(
        f"<tr>{cell}{html.escape(name)}</td>{cell}{html.escape(value)}</td></tr>"
        for name, value in facts.items()
    )
    return f"<b>{html.escape(title)}</b><table>{rows}</table>"


class Picture:
    """A picture that is drawn when it is shown or saved.

    Args:
        write: Draws the picture into the file of a path, by whose ending it chooses the format.
        text: What the picture shows, in a few words.

    Example:
        picture = sf.show(model, sf.sample(model, 16))
        picture.save("samples.png")
    """

    def __init__(self, write: Write, text: str) -> None:
        self._write, self.text = write, text

    def save(self, path: PathLike) -> Path:
        """Write the picture.

        Args:
            path: A file name: .png, or for figures with axes also .pdf or .svg.

        Returns:
            The path.

        Raises:
            InputError: If no picture fits the values, or the ending is another one.
        """
        return self._write(Path(path))

    def png(self) -> bytes:
        """The picture as the bytes of a PNG file; raises InputError as `save` does."""
        with TemporaryDirectory() as folder:
            return self._write(Path(folder) / "picture.png").read_bytes()

    def __repr__(self) -> str:
        return f"Picture of {self.text}. A notebook shows it; .save(path) writes it."

    def _repr_png_(self) -> bytes | None:
        try:
            return self.png()
        except InputError:  # a notebook then shows the text
            return None


def with_picture(text: str, picture: Picture | None) -> str:
    """A paragraph with a picture below it, as HTML for notebooks; one that fails is left out."""
    content = None if picture is None else picture._repr_png_()
    paragraph = f"<p>{html.escape(text)}</p>"
    if content is None:
        return paragraph
    data = base64.b64encode(content).decode()
    return f"{paragraph}<img src='data:image/png;base64,{data}'/>"
