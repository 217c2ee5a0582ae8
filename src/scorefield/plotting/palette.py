"""The colours of all pictures.

    lines and points   BLUE, VERMILLION, GREEN, PURPLE, BLACK of Okabe and Ito (2008), and VIOLET
    data beside samples   GREY areas under BLUE lines
    values             viridis and cividis; RdBu for values of both signs

Okabe and Ito's orange, yellow and sky blue are left out: they are too light for lines on white.
`tests/test_plotting.py` computes, for normal vision and for simulated protanopia, deuteranopia and
tritanopia (Machado et al. 2009), that every two of the six colours differ by at least 15 in CIELAB
and that each has a contrast of at least 3 with white. Lines differ by dashes and markers too.
"""

BLUE, VERMILLION, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, BLACK, VIOLET = "#CC79A7", "#000000", "#7733CC"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, BLACK, VIOLET)
GREY = "#BDBDBD"  # areas of the data, under lines of the samples
SEQUENTIAL, MAPS, DIVERGING = "viridis", "cividis", "RdBu_r"
