"""Options of `restore`: what was measured, with what noise, and how it is restored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import InputError
from .. import completion
from .sampling import parse_ladder, parse_numbers, parse_options

MEASURED, SOLVED = "What was measured", "How it is restored"

#: The tasks by name, with what is measured.
TASKS = {
    "inpaint": "the pixels or elements where --mask is white or 1",
    "deblur": "the example blurred by --kernel",
    "superres": "the example on a grid coarser by --factor",
    "denoise": "the example with noise",
    "colorize": "the luminance of a picture in colour",
    "compressed": "--fraction as many random projections as the example has elements",
    "mri": "1 / --acceleration of the lines of the Fourier transform, or --mask",
}
#: The options of each task, by parameter; the others are refused.
OPTIONS = {
    "inpaint": ("mask",),
    "deblur": ("kernel", "padding"),
    "superres": ("factor", "kernel", "padding"),
    "denoise": (),
    "colorize": (),
    "compressed": ("fraction",),
    "mri": ("acceleration", "fraction", "mask"),
}
PADDINGS = ("reflect", "circular", "zeros", "replicate", "valid")

Input = Annotated[
    Path | None,
    typer.Option(
        "--input",
        help="The measurement: a picture, a folder of pictures, or an .npy, one or a batch. "
        "Without --task, NaN in an .npy or --mask states what is unknown. Tables: a table of the "
        "model's columns, whose blank cells are unknown. With --simulate: clean examples.",
    ),
]
Simulate = Annotated[
    bool,
    typer.Option(
        "--simulate",
        help="Measure clean examples, with noise by --seed, and compare the restorations with "
        "them: those of --input, else held-out examples of the run's data.",
        rich_help_panel=MEASURED,
    ),
]
Count = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of inputs that are restored, evenly spaced among all of them.",
        show_default="all of --input; 6 held-out ones",
    ),
]
Given = Annotated[
    list[str] | None,
    typer.Option(
        "--given",
        metavar="NAME=VALUE",
        help="Tables, in place of --input: a known column, such as age=30 (repeatable); all other "
        "columns are unknown.",
    ),
]
TaskName = Annotated[
    str | None,
    typer.Option(
        help="What was measured: " + "; ".join(f"{k}: {v}" for k, v in TASKS.items()) + ".",
        show_default="inpaint",
        autocompletion=completion.words(tuple(TASKS)),
        rich_help_panel=MEASURED,
    ),
]
OperatorFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.py",
        help="In place of --task: a Python file of your own, which is executed. It defines "
        "`operator`, an operator (an object with A and A_adjoint, a matrix) or a function of the "
        "event's shape that makes one; and `noise_std` or `noise`, if there is noise.",
        rich_help_panel=MEASURED,
    ),
]
MaskFile = Annotated[
    Path | None,
    typer.Option(
        "--mask",
        help="A picture or an .npy of the example's size, white or 1 = known; or half (the left "
        "half is known), centre (the middle is unknown), random:SHARE (this share is unknown). "
        "mri: of the grid of frequencies, zero frequency in the centre, 1 = sampled.",
        rich_help_panel=MEASURED,
    ),
]
Kernel = Annotated[
    str | None,
    typer.Option(
        metavar="KERNEL",
        help="deblur: gaussian:SIGMA or motion:LENGTH,ANGLE in pixels and degrees, or FILE, an "
        ".npy or a picture of the kernel, which is scaled to sum to one. superres: one of these, "
        "bicubic, or mean.",
        show_default="mean, for superres",
        rich_help_panel=MEASURED,
    ),
]
Padding = Annotated[
    str | None,
    typer.Option(
        help=f"Kernels: what lies beyond the border, {', '.join(PADDINGS)}. Only circular has a "
        "singular value decomposition, which ddrm and ddnm with noise need.",
        show_default="reflect",
        autocompletion=completion.words(PADDINGS),
        rich_help_panel=MEASURED,
    ),
]
Factor = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="superres: elements of a side that one element of the measurement stands for.",
        show_default="4",
        rich_help_panel=MEASURED,
    ),
]
Fraction = Annotated[
    float | None,
    typer.Option(
        help="compressed: number of random projections over the number of elements of an example, "
        "above 0, at most 1. mri: 1 / --acceleration.",
        show_default="0.25",
        rich_help_panel=MEASURED,
    ),
]
Acceleration = Annotated[
    float | None,
    typer.Option(
        help="mri: lines of the Fourier transform per sampled line, 1 or more.",
        show_default="4",
        rich_help_panel=MEASURED,
    ),
]
NoiseStd = Annotated[
    float | None,
    typer.Option(
        help="Standard deviation of the measurement's Gaussian noise, in data units ([0, 1] for "
        "images).",
        show_default="0 (exact); for whole numbers other than known pixels that of their rounding",
        rich_help_panel=MEASURED,
    ),
]
Poisson = Annotated[
    float | None,
    typer.Option(
        metavar="GAIN",
        help="The measurement is counts, with the Poisson distribution of mean GAIN times A(x).",
        rich_help_panel=MEASURED,
    ),
]
Rician = Annotated[
    float | None,
    typer.Option(
        metavar="STD",
        help="The measurement is magnitudes of complex numbers whose parts have noise of STD.",
        rich_help_panel=MEASURED,
    ),
]
MethodName = Annotated[
    str,
    typer.Option(help="auto, or a method of the list below.", rich_help_panel=SOLVED),
]
Draws = Annotated[
    int,
    typer.Option(min=1, help="Number of restorations of each input.", rich_help_panel=SOLVED),
]
Nfe = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Network evaluations per draw (NFE), the final denoising step included.",
        show_default="at most 100",
        rich_help_panel=SOLVED,
    ),
]
Levels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Number of noise levels.",
        show_default="the method's",
        rich_help_panel=SOLVED,
    ),
]
LadderText = Annotated[
    str | None,
    typer.Option(
        "--ladder",
        metavar="SIGMAS",
        help="The noise levels (sigmas) with commas, largest first, in model units (data scaled to "
        "standard deviation 0.5); or a rule over the model's range: geometric, karras or "
        "few-step.",
        show_default="the method's",
        rich_help_panel=SOLVED,
    ),
]
StepsPerLevel = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Steps at each noise level.",
        show_default="the method's",
        rich_help_panel=SOLVED,
    ),
]
Redraw = Annotated[
    str | None,
    typer.Option(
        help="level or step: how often the observation's noise is drawn anew. Implies --method "
        "inpainting.",
        show_default="level",
        rich_help_panel=SOLVED,
    ),
]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="An option of the method, such as iterations=5 (repeatable); the list below has them. "
        "batch=N: draws computed at a time.",
        rich_help_panel=SOLVED,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Print the method, the reason for it, evaluations and expected seconds; write "
        "nothing.",
        rich_help_panel=SOLVED,
    ),
]


def _flag(name: str) -> str:
    """The option of a parameter."""
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Task:
    """What was measured, and with what noise: a group of options.

    Raises InputError where options do not belong together.
    """

    task: TaskName = None
    operator: OperatorFile = None
    simulate: Simulate = False
    mask: MaskFile = None
    kernel: Kernel = None
    padding: Padding = None
    factor: Factor = None
    fraction: Fraction = None
    acceleration: Acceleration = None
    noise_std: NoiseStd = None
    poisson: Poisson = None
    rician: Rician = None

    def __post_init__(self) -> None:
        if self.task is not None and self.task not in TASKS:
            raise InputError(f"--task must be one of {', '.join(TASKS)}; got {self.task!r}")
        if self.task is not None and self.operator is not None:
            raise InputError("give --task or --operator, not both")
        own = () if self.operator is not None else OPTIONS[self.name]
        for name in sorted({name for names in OPTIONS.values() for name in names}):
            if getattr(self, name) is not None and name not in own:
                those = [task for task, names in OPTIONS.items() if name in names]
                given = "--operator" if self.operator is not None else f"--task {self.name}"
                raise InputError(
                    f"{_flag(name)} is for --task {' and '.join(those)}, and {given} is given"
                )
        noises = [n for n in ("noise_std", "poisson", "rician") if getattr(self, n) is not None]
        if len(noises) > 1:
            raise InputError(
                f"give one law of the noise; got {' and '.join(map(_flag, noises))}. A file of "
                "--operator can define other laws"
            )
        if self.task == "deblur" and self.kernel is None:
            raise InputError("--task deblur needs --kernel, such as gaussian:1.5 or motion:9,30")
        if self.task == "denoise" and not noises:
            raise InputError(
                "--task denoise needs the noise: --noise-std with its standard deviation, "
                "--poisson or --rician"
            )

    @property
    def name(self) -> str:
        """The task; inpaint where none was given."""
        return self.task or "inpaint"

    @property
    def noise_given(self) -> bool:
        """Whether an option states the noise."""
        return any(value is not None for value in (self.noise_std, self.poisson, self.rician))

    @property
    def plain(self) -> bool:
        """Whether nothing but known elements is measured, without noise."""
        measured = self.operator is None and self.name == "inpaint" and not self.simulate
        return measured and not self.noise_given

    def facts(self) -> dict[str, Any]:
        """The options that were given, for restore.json."""
        found: dict[str, Any] = {"task": None if self.operator is not None else self.name}
        for name, value in vars(self).items():
            if name != "task" and value not in (None, False):
                found[name] = str(value) if isinstance(value, Path) else value
        return found


@dataclass(frozen=True)
class Method:
    """How it is restored: a group of options. Raises InputError where one cannot be read."""

    method: MethodName = "auto"
    draws: Draws = 8
    nfe: Nfe = None
    levels: Levels = None
    ladder: LadderText = None
    steps_per_level: StepsPerLevel = None
    redraw: Redraw = None
    option: MethodOptions = None

    def __post_init__(self) -> None:
        parse_ladder(self.ladder)
        parse_options(self.option)

    @property
    def name(self) -> str:
        """The method, or auto."""
        implied = self.redraw is not None and self.method == "auto"
        return "inpainting" if implied else self.method

    def options(self) -> dict[str, Any]:
        """The options as `inverse.restore` takes them."""
        given = {
            "nfe": self.nfe,
            "levels": self.levels,
            "ladder": parse_ladder(self.ladder),
            "steps_per_level": self.steps_per_level,
            "redraw": self.redraw,
        }
        named = {name: value for name, value in given.items() if value is not None}
        return named | (parse_options(self.option) or {})


def parse_kernel(text: str) -> tuple[str, list[float]]:
    """Read --kernel.

    Returns:
        ("gaussian", [sigma]), ("motion", [length, angle]), ("bicubic", []), ("mean", []) or
        ("file", []).

    Raises:
        InputError: the numbers are missing.
    """
    name, colon, rest = text.partition(":")
    if not colon and name in ("bicubic", "mean"):
        return name, []
    if name not in ("gaussian", "motion"):
        return "file", []
    example = "gaussian:1.5" if name == "gaussian" else "motion:9,30"
    numbers = parse_numbers(rest, f"--kernel {name}:") if rest else []
    if name == "motion" and len(numbers) == 1:
        numbers.append(0.0)
    if len(numbers) != (1 if name == "gaussian" else 2):
        raise InputError(f"--kernel {name} takes numbers such as {example}; got {text!r}")
    return name, numbers


def method_table() -> str:
    """List the methods of restoration with their options, read from the registry."""
    from ...inverse import METHODS

    lines = [
        "Methods (and their options). auto takes the first that suits, and states why; docs/"
        "restore.md states why each is approximate."
    ]
    for name, method in METHODS.items():
        exact = f" Exact for {method.exact_for}." if method.exact_for else ""
        shown = [f"{option}: {text}" for option, text in method.options.items()]
        options = f" ({'; '.join(shown)})" if shown else ""
        lines.append(f"{name}: {method.help}{exact}{options}")
    return "\n\n".join(lines)
