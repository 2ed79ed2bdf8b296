"""Generate the manual page `s7.1` from the command tree: `python -m sevenfold.cli.manual > s7.1`."""

from __future__ import annotations

from sevenfold import __version__
from sevenfold.cli.pages import command_pages
from sevenfold.core.errors import EXIT_CODES


def escaped(text: str) -> str:
    """Return text in which roff finds no command."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq")
    return "\\&" + text if text.startswith(".") else text


def manual_page() -> str:
    """Return the manual page in roff."""
    lines = [
        f'.TH S7 1 "" "sevenfold {__version__}" "Sevenfold"',
        ".SH NAME",
        "s7 \\- small language models that can be proved",
        ".SH SYNOPSIS",
        ".B s7",
        "VERB [OPTIONS] [ARGUMENTS]",
        ".SH VERBS",
    ]
    for page in command_pages():
        lines += [".SS " + escaped(page.path), escaped(page.help), ".PP", ".B " + escaped(page.usage)]
        for names, text in page.parameters:
            lines += [".TP", ".B " + escaped(names), escaped(text or "")]
    lines.append(".SH EXIT STATUS")
    for code, text in EXIT_CODES.items():
        lines += [".TP", f".B {code}", escaped(text)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(manual_page(), end="")
