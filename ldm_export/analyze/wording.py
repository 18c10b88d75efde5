"""Numbers in sentences: one of a thing or several, and how many times as much."""


def counted(count: int, thing: str) -> str:
    """Return the count with the thing in its number: "1 step", "20 steps"."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def times_as(factor: float, what: str) -> str:
    """Return a factor as words, such as "12 times as long"; one that rounds to 1 is "as long"."""
    shown = f"{factor:.3g}"
    return f"as {what}" if shown == "1" else f"{shown} times as {what}"
