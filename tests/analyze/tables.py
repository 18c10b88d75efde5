"""What a section's tables hold."""

from ldm_export.analyze.findings import Findings, Table


def table(findings: Findings, name: str) -> Table:
    return next(each for each in findings.tables if each.name == name)


def number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
