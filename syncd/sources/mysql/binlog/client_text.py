"""A statement's bytes in the character set of the client that sent it."""

from __future__ import annotations

_CODECS = {"utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "latin1": "cp1252", "gbk": "gbk", "big5": "big5"}
_CODECS |= {"binary": "utf-8", "gb2312": "gb2312", "gb18030": "gb18030", "sjis": "shift_jis", "cp932": "cp932"}
_CODECS |= {"cp1251": "cp1251", "cp1250": "cp1250", "cp1256": "cp1256", "cp1257": "cp1257", "latin2": "iso8859-2"}
_CODECS |= {"koi8r": "koi8-r", "koi8u": "koi8-u", "greek": "iso8859-7", "hebrew": "iso8859-8", "euckr": "euc-kr"}
_CODECS |= {"ujis": "euc-jp", "tis620": "tis-620", "latin5": "iso8859-9", "latin7": "iso8859-13", "cp866": "cp866"}


def text_of(raw: bytes, charset: str) -> str:
    """The statement in the client's character set; a statement in an unknown one is read if it is ASCII."""
    codec = _CODECS.get(charset, "utf-8")
    try:
        return raw.decode(codec)
    except UnicodeDecodeError:
        # A binary literal inside of a text: the names before it are what counts.
        return raw.decode(codec, "replace")
