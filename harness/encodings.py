"""Which encoding the bytes of a text, or the names in a zip, are likely in, where they are no UTF-8.

Spreadsheets and archives are written in the encoding of their country. Most byte strings "are" several encodings at
once, so that it counts which one gives characters that people write often.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

_MARKS = ((b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_LOOKED_AT = 20_000
_ENOUGH = 0.8
_SHARE_OF_KANA = 0.2


def likely_encoding(data: bytes) -> str | None:
    """The Python codec in which `data` reads as a text that is no UTF-8, or None where none does."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name if _decoded(data, name) is not None else None
    if wide := wide_encoding(data):
        return wide
    # GB 2312 has the characters of nearly every text in simplified Chinese; Big5's first plane has punctuation and the
    # 5,401 characters that are used most.
    candidates: tuple[tuple[str, Callable[[str], bool], float], ...] = (
        ("gb18030", lambda character: bool(character.encode("gb2312", "ignore")), _ENOUGH),
        ("shift_jis", lambda character: "\u3040" <= character <= "\u30ff", _SHARE_OF_KANA),
        ("big5", lambda character: b"\xa1" <= character.encode("big5", "ignore")[:1] < b"\xc7", _ENOUGH),
    )
    readings = {name: _decoded(data, name) for name, _, _ in candidates}
    for name, is_common, share in candidates:
        text = readings[name]
        letters = [character for character in (text or "") if character > "\x7f"][:_LOOKED_AT]
        if letters and sum(map(is_common, letters)) >= share * len(letters):
            return name
    return "gb18030" if readings["gb18030"] is not None else None


def wide_encoding(data: bytes) -> str | None:
    """UTF-16 without a byte order mark, which much ASCII in it betrays: every other byte is 0."""
    head = data[:_LOOKED_AT]
    for name, start in (("utf-16-le", 1), ("utf-16-be", 0)):
        half = head[start::2]
        if len(half) > 1 and half.count(0) > 0.4 * len(half) and not head[1 - start :: 2].count(0):
            return name if _decoded(data, name) is not None else None
    return None


def opened_zip(path: Path | str) -> zipfile.ZipFile:
    """A zip for reading, its names as they were meant: many are in the encoding of Chinese Windows, which no flag says.

    Raises what `zipfile.ZipFile` raises.
    """
    archive = zipfile.ZipFile(path)
    # Without the flag that says UTF-8, names are read as cp437, which has a character for every byte.
    said = [item.orig_filename for item in archive.infolist() if not item.flag_bits & 0x800]
    names = "\n".join(name for name in said if not name.isascii()).encode("cp437", "replace")
    if not names:
        return archive
    text = _decoded(names, "utf-8")
    wide = [character for character in text or "" if character > "\x7f"]
    # A few characters of GBK are UTF-8 by chance, and then from scripts that no name mixes: 图片 is ͼƬ.
    is_utf8 = any(character >= "\u0800" for character in wide) or max(wide, default="\uffff") <= "\u017f"
    encoding = "utf-8" if is_utf8 else likely_encoding(names)
    if encoding is None:
        return archive
    archive.close()
    return zipfile.ZipFile(path, metadata_encoding=encoding)


def _decoded(data: bytes, name: str) -> str | None:
    try:
        return data.decode(name)
    except UnicodeDecodeError:
        return None
