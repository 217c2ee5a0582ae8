"""Measurements of this project, outside the package: `python -m bench COMMAND`.

    speed       training and evaluation rates beside other libraries
    quality     Fréchet distance after minutes of training
    objectives  error and cost of each score-matching objective
    precision   error of bfloat16 beside float32
    held-out    held-out losses of two runs, paired
    shapes      colour images, folders, signals and volumes through the default network
    levels      training loss per noise level, first against last tenth of a run
    posteriors  posterior samplers of libraries against exact posteriors
    kills       runs that are killed at random instants and started again

docs/benchmarks.md gives the results with their protocols.
"""
