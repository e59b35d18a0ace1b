"""The report of a run: one page that needs nothing else, and its figures."""

from twinlens.report.page import write_report as write_report
from twinlens.report.pictures import draw_samples as draw_samples
