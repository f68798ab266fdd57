"""Grids of runs: which cells there are, who runs them, and the page that compares them."""

from fedlens.experiment.study.grid import Cell, Study, load_study, studies
from fedlens.experiment.study.runner import run_study

__all__ = ["Cell", "Study", "load_study", "run_study", "studies"]
