"""Pages to read in a browser or on paper: data in, one self-contained HTML file out."""

from tenfold.report.html.file import check_page, write_page
from tenfold.report.html.pages import compared_page, compressed_page, inspected_page, planned_page

__all__ = ["check_page", "compared_page", "compressed_page", "inspected_page", "planned_page", "write_page"]
