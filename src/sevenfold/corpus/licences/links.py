"""Resolve the links of a package: the file that a path means when it, or a folder above it, is a link.

Nothing is followed on a disk. A source reports every link that it holds with its target, or returns
the link at a path on request. A path is walked part by part through these links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

# Links in a row on the way to one file.
MAX_LINKS = 8


class Links:
    """The links of one package, by their paths.

    Args:
        link_at: returns the target of the link at a path, or None where there is none. It is for a
            source that does not report all of its links.
    """

    def __init__(self, link_at: Callable[[str], str | None] | None = None) -> None:
        self._targets: dict[str, str] = {}
        self._link_at = link_at

    def __contains__(self, path: str) -> bool:
        return path in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def add(self, path: str, target: str) -> None:
        """Add the link at `path` with its target."""
        self._targets[path] = target

    def resolve(self, path: str) -> str | None:
        """Return the path of the file itself, or None when the path leaves the package, goes in a
        circle or passes more than `MAX_LINKS` links.
        """
        # Where `a` is a link, "a/.." leads to another folder, so a target is not shortened before.
        ahead, done, n_links = path.split("/")[::-1], list[str](), 0
        if path.startswith("/"):
            return None
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not done:
                    return None
                done.pop()
                continue
            target = self._target("/".join((*done, part)))
            if target is None:
                done.append(part)
                continue
            n_links += 1
            if n_links > MAX_LINKS or target.startswith("/"):
                return None
            ahead += target.split("/")[::-1]
        return "/".join(done) or None

    def _target(self, path: str) -> str | None:
        target = self._targets.get(path)
        return self._link_at(path) if target is None and self._link_at is not None else target
