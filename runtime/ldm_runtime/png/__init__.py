"""PNG files, looked at before Pillow reads them; the twin of runtime/cpp/src/png. Specification: PNG, third edition.

Pillow takes files without an end, with too few rows, or with a wrong checksum behind the first pixels. It refuses
others for damaged notes on their colours, which nobody reads, and takes texts for facts of its own by their names.
"""
