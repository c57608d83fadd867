"""One line of output per measurement, and what falls short of its bound."""

import operator

OPERATORS = {"<": operator.lt, "<=": operator.le, ">=": operator.ge}
short: list[str] = []  # what fell short so far


def print_measurement(what: str, value: float, bound: str, detail: str) -> None:
    """Prints what was measured, its value, the bound on it such as ">= 0.8" ("~ 1": only shown, "": none), and a detail."""
    print(f"{what:64} {value:8.2f}   {bound:8} {detail}", flush=True)
    sign, _, limit = bound.partition(" ")
    if sign in OPERATORS and not OPERATORS[sign](value, float(limit)):
        short.append(f"{what}: got {value:.3g}, expected {bound}")
