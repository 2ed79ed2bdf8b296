"""The links of a package: which file a path means when links stand for it, or for folders above it.

Nothing is followed on a disk. A source tells every link that it holds, with the path that stands
in it, or can be asked for the link at a path. A path is walked part by part through those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

# One behind the other, on the way to one file.
MAX_LINKS = 8


class Links:
    """The links of one package, by their paths.

    Args:
        link_at: gives what stands in the link at a path, None where there is none; for a source
            that does not tell all its links.
    """

    def __init__(self, link_at: Callable[[str], str | None] | None = None) -> None:
        self._targets: dict[str, str] = {}
        self._link_at = link_at

    def __contains__(self, path: str) -> bool:
        return path in self._targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def add(self, path: str, target: str) -> None:
        """Add the link at `path`; `target` is what stands in it."""
        self._targets[path] = target

    def resolve(self, path: str) -> str | None:
        """Return the path of the file itself; None for one that leaves the package, goes in a
        circle or through more than `MAX_LINKS` links.
        """
        # A part "a/.." of a target is no detour where `a` is a link, so
        # nothing is shortened beforehand.
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
