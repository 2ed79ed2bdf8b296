"""An output path that holds what we did not make is refused, and the file stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from sevenfold.core.errors import StorageError
from sevenfold.core.ownership import SOFTWARE, is_json_of, is_picture, refuse_foreign

PNG = b"\x89PNG\r\n\x1a\n....tEXtSoftware\0" + SOFTWARE.encode()


@pytest.mark.parametrize("held", [b"GIF89a", b"\x89PNG\r\n\x1a\n....tEXtSoftware\0Matplotlib", b"x"])
def test_a_foreign_file_is_refused_and_kept(held: bytes, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(held)
    with pytest.raises(StorageError, match=r"no picture of s7 \(name another path\)") as caught:
        refuse_foreign(path, is_picture, "picture")
    assert caught.value.exit_code == 4
    assert path.read_bytes() == held


def test_our_own_an_empty_one_and_none_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    refuse_foreign(path, is_picture, "picture")
    for held in (PNG, b""):
        path.write_bytes(held)
        refuse_foreign(path, is_picture, "picture")


def test_directories_and_links_to_nothing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "absent")
    for name in ("directory", "link"):
        with pytest.raises(StorageError, match="name another path"):
            refuse_foreign(tmp_path / name, is_picture, "picture")


@pytest.mark.parametrize("held", [b"{}", b'{"a": 1}', b'{"a": 1, "b": 2, "c": 3}', b"[]", b"[" * 9999, b"{"])
def test_other_json_is_foreign(held: bytes, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(held)
    with pytest.raises(StorageError, match="no report of s7"):
        refuse_foreign(path, is_json_of("a", "b"), "report")
    path.write_bytes(b'{"a": 1, "b": 2}')
    refuse_foreign(path, is_json_of("a", "b"), "report")
