"""Experiments: one configuration in, one run directory out."""

from fedlens.experiment.config import Config, load_config
from fedlens.experiment.opened import Run, load_run
from fedlens.experiment.run import resume_run, start_run

__all__ = ["Config", "Run", "load_config", "load_run", "resume_run", "start_run"]
