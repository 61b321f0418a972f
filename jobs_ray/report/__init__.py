"""What people look at: an experiment read from its folder, as tables in a terminal and as one HTML page.

`collect` gathers plain data; everything else here only shows it.
"""

from typing import TYPE_CHECKING

from jobs_ray._lazy import lazy

if TYPE_CHECKING:
    from jobs_ray.report.experiment import Report, Row
    from jobs_ray.report.gather import collect
    from jobs_ray.report.page import write_html
    from jobs_ray.report.tables import sections, text

__all__ = [
    "Report",
    "Row",
    "collect",
    "sections",
    "text",
    "write_html",
]

__getattr__, __dir__ = lazy(
    "jobs_ray.report",
    {
        "Report": "experiment",
        "Row": "experiment",
        "collect": "gather",
        "write_html": "page",
        "sections": "tables",
        "text": "tables",
    },
)
