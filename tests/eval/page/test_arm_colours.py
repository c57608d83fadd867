"""Arms keep their colours on the page, in shades that can be seen in both colour schemes."""

import re

import pytest

from eval.page.arm_colours import DARK, LIGHT, arm_colours, readable_colour
from eval.page.build import HERE, arm_name
from targen.config.arms import ARMS, Arm


def test_every_arm_has_a_colour_in_both_schemes_as_soon_as_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARMS, "again", Arm("again", "synthetic once more", "#56B4E9", uses_synthetic=True))
    for name in ARMS:
        assert len(re.findall(rf"--{name}: #[0-9a-f]{{6}};", arm_colours())) == 2
    assert [arm_name(level) for level in ("again", "none, 5 shots", "a model")] == ["again", "none", "other"]


def test_the_backgrounds_are_those_of_the_page() -> None:
    pages = re.findall(r"--page: (#\w+);", (HERE / "page.css").read_text(encoding="utf-8"))
    assert pages == ["#fff", DARK] and LIGHT == "#ffffff"


@pytest.mark.parametrize(
    ("colour", "light", "dark"),
    [
        ("#000000", "#000000", "#8c8c8c"),  # black on the dark page: 55 % of the way to white
        ("#ffffff", "#8c8c8c", "#ffffff"),  # white on the light page: 45 % of the way to black; 3.36 : 1
        ("#D55E00", "#d55e00", "#d96e1a"),  # 3.87 : 1 and 4.5 : 1
    ],
)
def test_a_colour_is_changed_only_until_it_can_be_seen(colour: str, light: str, dark: str) -> None:
    assert (readable_colour(colour, LIGHT), readable_colour(colour, DARK)) == (light, dark)
