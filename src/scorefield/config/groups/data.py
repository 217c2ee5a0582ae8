"""Settings of the data and of the condition."""

from typing import Annotated, Literal

from pydantic import Field

from ..base import Group, chosen


class DataRequest(Group):
    """Where the data come from and how they reach model units."""

    group = "data"

    source: Annotated[
        str,
        Field(
            min_length=1,
            description="A name (digits, mnist5k, mixture, moons, ring, spiral, checkerboard), a "
            "folder of images, an array (.npy, .npz) or a table (.csv, .tsv, .txt, .parquet).",
        ),
    ] = "mnist5k"
    size: Annotated[
        int | None,
        Field(
            ge=1,
            description="Side of the images of a folder in pixels: the shorter side is resized, "
            "the centre is cut out.",
            json_schema_extra=chosen("as stored"),
        ),
    ] = None
    channels: Annotated[
        int | None,
        Field(
            ge=1,
            description="Number of channels: 1 grey, 3 RGB for the images of a folder; for an "
            "array the length of its channel axis.",
            json_schema_extra=chosen("as stored"),
        ),
    ] = None
    key: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Name of the array in an .npz.",
            json_schema_extra=chosen("found in the file", names=True),
        ),
    ] = None
    image: Annotated[
        bool | None,
        Field(
            description="Whether the examples of an array are images with values in [0, 1].",
            json_schema_extra=chosen("decided by type, shape and range"),
        ),
    ] = None
    channels_last: Annotated[
        bool | None,
        Field(
            description="Whether the last axis of an array holds the channels (false: the first "
            "one after the examples).",
            json_schema_extra=chosen("read off the shape where it is clear"),
        ),
    ] = None
    range: Annotated[
        tuple[float, ...] | None,
        Field(
            min_length=2,
            max_length=2,
            description="Smallest and largest value that images can take, such as 0,4095; it maps "
            "to [0, 1].",
            json_schema_extra=chosen("read off the type and the values"),
        ),
    ] = None
    alpha: Annotated[
        Literal["keep", "drop", "white", "black"] | None,
        Field(
            description="Transparency of images: keep it as a channel, drop it, or lay the images "
            "on a white or black background.",
            json_schema_extra=chosen("dropped where every pixel is opaque, else refused"),
        ),
    ] = None
    skip_unreadable: Annotated[
        bool,
        Field(description="Leave out files that cannot be read; they are counted and named."),
    ] = False
    header: Annotated[
        bool | None,
        Field(
            description="Whether the first line of a table holds the names of its columns.",
            json_schema_extra=chosen("read off the first line where it is clear"),
        ),
    ] = None
    delimiter: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=3,
            description="Character between the cells of a text table; tab and \\t mean a tab.",
            json_schema_extra=chosen("comma, semicolon, tab or |, read off the first lines"),
        ),
    ] = None
    decimal: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1,
            description="Decimal mark of a text table: a point or a comma.",
            json_schema_extra=chosen("a point; a comma where that is clear"),
        ),
    ] = None
    thousands: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=1,
            description="Mark between groups of three digits in a text table, such as 1,234.",
            json_schema_extra=chosen("none; numbers that have one are refused"),
        ),
    ] = None
    columns: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="Columns of a table to take, with commas; -name leaves one out.",
            json_schema_extra=chosen("all but a nameless row number", names=True),
        ),
    ] = None
    missing: Annotated[
        Literal["drop", "median"] | None,
        Field(
            description="Rows with blank cells: drop them, or fill in the column's median (most "
            "frequent word).",
            json_schema_extra=chosen("refused"),
        ),
    ] = None
    discrete: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="Columns whose samples take only values that occur in the data; none for "
            "no column.",
            json_schema_extra=chosen(
                "columns in which a value occurs five times on average", names=True
            ),
        ),
    ] = None
    bounds: Annotated[
        Literal["data", "none"],
        Field(
            description="Samples of a table's columns beyond the range of the training data: data "
            "reflects them at the bound, none keeps them."
        ),
    ] = "data"
    held_out: Annotated[
        float,
        Field(
            gt=0,
            lt=0.5,
            description="Fraction of the examples kept out of training, stratified by label.",
        ),
    ] = 0.1
    units: Annotated[
        Literal["standardise", "unit", "none", "logit"],
        Field(
            description="Model units: standardise (mean 0, standard deviation noise.sigma_data), "
            "unit (images as they are, in [0, 1]), logit (logits of images), none (as they are)."
        ),
    ] = "standardise"
    dequantise: Annotated[
        Literal["uniform", "none"],
        Field(
            description="Noise added to quantised data: uniform over one quantisation step, or "
            "none."
        ),
    ] = "uniform"
    flip: Annotated[
        bool, Field(description="Mirror images left to right at random, each with chance 1/2.")
    ] = False


class DataConfig(DataRequest):
    """Resolved data settings."""


class ConditionRequest(Group):
    """What the model is conditioned on while it trains."""

    group = "condition"

    kind: Annotated[
        Literal["none", "class", "vector"],
        Field(
            description="none: unconditional; class: one of several classes; vector: numbers, such "
            "as other columns of a table."
        ),
    ] = "none"
    source: Annotated[
        tuple[str, ...] | None,
        Field(
            min_length=1,
            description="Where the condition comes from: columns of a table with commas, the name "
            "of an array in an .npz, or a file (.npy, .npz, a table) with one row an example.",
            json_schema_extra=chosen("the class labels that the data bring", names=True),
        ),
    ] = None
    dropout: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Fraction of training examples whose condition is dropped, so that the "
            "model also learns the unconditional score, which guidance needs.",
        ),
    ] = 0.1


class ConditionConfig(ConditionRequest):
    """Resolved condition settings."""
