"""Charts as inline SVG: pure functions of figures, no script, no style attribute.

Colours come from classes of the report's style sheet. Colour never stands
alone: lines differ in their dashes, marks in their shapes, and the same figures
are in tables. ``label`` is the id of the element that names the chart.
"""

from harness.report.charts.depth import depth_chart
from harness.report.charts.errors import error_chart
from harness.report.charts.gauge import gauge, reach_bar
from harness.report.charts.heads import head_chart
from harness.report.charts.heat import HeatMap, heat_map
from harness.report.charts.scatter import Scatter, scatter
from harness.report.charts.survival import survival
from harness.report.charts.trend import trend_chart

__all__ = [
    "HeatMap",
    "Scatter",
    "depth_chart",
    "error_chart",
    "gauge",
    "head_chart",
    "heat_map",
    "reach_bar",
    "scatter",
    "survival",
    "trend_chart",
]
