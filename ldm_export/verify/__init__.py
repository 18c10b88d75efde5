"""The parity gate: references, metrics, the comparison, its report and page."""
