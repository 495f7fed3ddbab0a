"""Colours of pages and pictures, for light and dark themes: one CSS variable for each role."""

LIGHT = (
    "--page:#fbfbf9; --ink:#1c1d20; --dim:#62656d; --rule:#dcdcd6; --card:#fff; --line:#1f6fb2;"
    " --ok:#1b7f4b; --bad:#b3261e; --c0:#3b7dd8; --c1:#e08a1e; --c2:#2a9d74; --c3:#b35fa8;"
    " --c4:#7a6ff0; --c5:#8a8d94;"
)
DARK = (
    "--page:#15171a; --ink:#e8e8e4; --dim:#a0a4ad; --rule:#33363c; --card:#1d2024; --line:#6db3f2;"
    " --ok:#5fd39a; --bad:#ff8a80; --c0:#5b96e6; --c1:#e9a24a; --c2:#46b88f; --c3:#c97fc0;"
    " --c4:#988ff5; --c5:#9a9da4;"
)


def themed(selector: str) -> str:
    """The variables on a selector, following the theme of the reader."""
    return (
        f"{selector} {{ color-scheme: light dark; {LIGHT} }}\n"
        f"@media (prefers-color-scheme: dark) {{ {selector} {{ {DARK} }} }}\n"
    )
