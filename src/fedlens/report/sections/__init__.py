"""The sections of the page: each gathers its sentences, tables and charts."""

from fedlens.report.sections.clients import clients_section
from fedlens.report.sections.decisions import blind_section, decisions_section
from fedlens.report.sections.privacy import privacy_section
from fedlens.report.sections.results import classes_section, training_section
from fedlens.report.sections.setup import setup_section
from fedlens.report.sections.study import study_section

__all__ = [
    "blind_section",
    "classes_section",
    "clients_section",
    "decisions_section",
    "privacy_section",
    "setup_section",
    "study_section",
    "training_section",
]
