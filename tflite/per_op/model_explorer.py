"""Node data for Model Explorer (https://github.com/google-ai-edge/model-explorer): values over the ops of a file.

Its TFLite adapter names the graph "main" and a node after the index of its op. The JSON is what its
``ModelNodeData.save_to_file`` writes: graph -> {"name", "results": node -> {"value"}, "gradient"}.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .layer_costs import OpReport

GRAPH = "main"
GRADIENT = (
    {"stop": 0, "bgColor": "#ffffff", "textColor": "#1c2431"},
    {"stop": 0.5, "bgColor": "#f3c9b3", "textColor": "#1c2431"},
    {"stop": 1, "bgColor": "#d4602a", "textColor": "#ffffff"},
)
TITLES = {
    "cycles": "NPU cycles",
    "instructions": "instructions",
    "time_us": "time, µs",
    "macs": "multiply-accumulates",
    "live_bytes": "memory, bytes",
}


def node_data(report: OpReport) -> dict[str, dict[str, Any]]:
    """Measure -> content of a JSON file; measures that no op has are missing."""
    found = {}
    for measure, title in TITLES.items():
        values = {str(row.index): getattr(row, measure) for row in report.rows}
        results = {node: {"value": value} for node, value in values.items() if value is not None}
        if any(entry["value"] for entry in results.values()):
            if measure == report.measure == "instructions":
                title = report.measured  # names the core
            found[measure] = {GRAPH: {"name": title, "results": results, "gradient": list(GRADIENT)}}
    return found
