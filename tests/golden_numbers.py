"""Hard numbers of JSON for the conformance kit."""

import random

from ldm_runtime.errors import FormatError
from ldm_runtime.files import strict_json

NUMBERS = [
    "0", "-0", "7", "-7", "00", "01", "-01", "+1", "1.", ".5", "-.5", "-", "1e", "1e+", "1E5", "1e+05", "1e-0005",
    "1.e5", "0x10", "1_0", "1,5", "1e5.0", "\u0663", "NaN", "Infinity", "-Infinity", "nan", "inf", "-", "--1", "1e5e5",
    "0.1", "-0.0", "5e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "2.2250738585072011e-308",
    "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "1e308", "1e309", "-1e309", "1e-400",
    "-1e-400", "1e9223372036854775807", "1e-9223372036854775808", "1e99999999999999999999", "1e-99999999999999999999",
    "-1e99999999999999999999", "0e99999999999999999999", "-0.00e+99999999999999999999", "9007199254740993",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" + "0" * 400, "1" + "0" * 400 + "e-400",
    "1" + "0" * 400 + ".5e-800", "0." + "0" * 400 + "1", "0." + "0" * 400 + "1e401", "0." + "0" * 400 + "1e800",
    "-0." + "0" * 99 + "1e408", "-0." + "0" * 99 + "1e409", "1e" + "0" * 400 + "5", "1e-" + "0" * 400 + "5",
    "1" * 309, "1" * 310, "1" * 310 + ".5", "1" * 310 + "e-10", "1" * 310 + "e1", "0." + "1" * 5000, "1" * 5000 + ".0",
    "1" * 5000 + "e-4990", "1" * 4300, "1" * 4301, "-" + "1" * 4300, "-" + "1" * 4301, "0." + "0" * 5000 + "7e5001",
    "0." + "0" * 5000 + "7e99999999999999999999", "0." + "0" * 400 + "7e9", "-0." + "0" * 400 + "7e0",
    "1" + "0" * 400 + "e-9", "-1" + "0" * 400 + ".0e-0", "1" + "0" * 400 + "e-5000", "0." + "0" * 400 + "7e5000",
]  # fmt: skip


def number_cases() -> list[list[str]]:
    """Texts, and what strict JSON reads in them: integer or real and its float64, or the code of a refusal."""
    draw = random.Random(24)
    hard = list(NUMBERS)
    for _ in range(300):
        digits = draw.choice(["", "-"]) + str(draw.randrange(10 ** draw.randrange(1, 20))) + "0" * draw.randrange(30)
        fraction = "." + "0" * draw.choice([0, 3, 40, 330]) + str(draw.randrange(10 ** draw.randrange(1, 20)))
        exponent = draw.choice("eE") + draw.choice(["", "+", "-"]) + "0" * draw.randrange(3) + str(draw.randrange(700))
        hard.append(digits + draw.choice(["", fraction]) + draw.choice(["", exponent, exponent]))
    return [[text, number_read(text)] for text in hard]


def number_read(text: str) -> str:
    try:
        value = strict_json.parse(text, "x")
    except FormatError as error:
        return error.code
    try:
        return f"{'integer' if isinstance(value, int) else 'real'} {float(value)!r}"
    except OverflowError:
        return f"integer {'-' if value < 0 else ''}inf"
