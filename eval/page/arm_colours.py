"""The colours of the arms on the page, in shades that can be seen on its light and its dark background."""

from targen.config.arms import ARMS

LIGHT, DARK = "#ffffff", "#14181c"  # backgrounds, as in page.css
CONTRAST = {LIGHT: 3.0, DARK: 5.0}  # at least; 3 is required of graphics. Source: WCAG 2.1, success criterion 1.4.11
STEPS = 20


def arm_colours() -> str:
    """A CSS rule with a custom property per arm (`--original: #0072b2;`), and one for a dark colour scheme."""
    light, dark = (
        " ".join(f"--{arm.name}: {readable_colour(arm.colour, background)};" for arm in ARMS.values())
        for background in (LIGHT, DARK)
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def readable_colour(colour: str, background: str) -> str:
    """The colour, darkened on a light background or lightened on a dark one until its contrast is high enough."""
    channels, end = _channels(colour), 0.0 if background == LIGHT else 1.0
    shades = [[value + (end - value) * step / STEPS for value in channels] for step in range(STEPS + 1)]
    shade = next(shade for shade in shades if contrast(shade, _channels(background)) >= CONTRAST[background])
    return "#" + "".join(f"{round(255 * value):02x}" for value in shade)


def contrast(first: list[float], second: list[float]) -> float:
    """The contrast ratio of two colours, from 1 to 21. Source: WCAG 2.1, definition of contrast ratio."""
    darker, lighter = sorted((_luminance(first), _luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)


def _channels(colour: str) -> list[float]:
    """Red, green and blue of `#rrggbb`, from 0 to 1."""
    return [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]


def _luminance(channels: list[float]) -> float:
    """Source: WCAG 2.1, definition of relative luminance."""
    red, green, blue = (value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
