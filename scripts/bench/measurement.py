"""One line of output per measurement."""


def print_measurement(what: str, value: float, bound: str, detail: str) -> None:
    """Prints what was measured, its value, the bound on it, and a detail."""
    print(f"{what:64} {value:8.2f}   {bound:8} {detail}", flush=True)
