"""Figures, tables and the self-contained HTML report."""

from fedlens.report.clients import partition_figure
from fedlens.report.gallery import explanation_figure
from fedlens.report.html import write_report
from fedlens.report.style import save_figure

__all__ = ["explanation_figure", "partition_figure", "save_figure", "write_report"]
