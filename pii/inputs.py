"""Opening a user's text, whether gzip, UTF-8 or UTF-16; and for what is none of these, how to convert it."""

import codecs
import gzip
import io
import re
import shlex
from pathlib import Path
from typing import Any

from pii.common import UserError

NOT_UTF8 = "not UTF-8"
HEAD = 4096  # bytes by which a file is known
BOMS = {b"\xff\xfe": "utf-16le", b"\xfe\xff": "utf-16be"}
UTF32_BOMS = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
PACKED = {  # suffix → the first bytes, and what unpacks it
    ".bz2": (rb"BZh[1-9]1AY&SY", "bunzip2 --keep"),
    ".xz": (rb"\xfd7zXZ\0", "unxz --keep"),
    ".lzma": (rb"\x5d\0\0[\0-\xff]{2}\xff{8}", "unlzma --keep"),
    ".zst": (rb"\x28\xb5\x2f\xfd", "unzstd"),
    ".7z": (rb"7z\xbc\xaf\x27\x1c", "7z x"),
    ".xls": (rb"\xd0\xcf\x11\xe0", ""),
    ".xlsx": (rb"(?!)", ""),  # a .zip by its first bytes
    ".zip": (rb"PK\x03\x04", "unzip"),
}
GZIP = b"\x1f\x8b\x08"
FRENCH = re.compile("[éèêëàâçùûüôîïœæÉÈÊÀŒ«»’“”–—…€°]")
NAMES = {"cp1252": "cp1252", "mac_roman": "macintosh", "cp850": "cp850"}  # of Python and iconv, the likelier first


def is_gzip(name: str) -> bool:
    return name.lower().endswith(".gz")


def as_utf8(file: Any, name: str, must_be_text: bool = True) -> Any:
    """The file's bytes in UTF-8: unpacked if its name ends with .gz, converted if a byte order mark of UTF-16 begins
    it. That mark stays, as the one of UTF-8. What UTF-16 cannot hold becomes bytes that UTF-8 cannot hold either.

    `file` is open for bytes and buffered; it stays the caller's to close. Raises UserError for what has to be unpacked
    or converted; without `must_be_text`, UTF-16 without its mark is the caller's to find.
    """
    if is_gzip(name):
        file = io.BufferedReader(gzip.GzipFile(fileobj=file))
    head = first_bytes(file)
    refuse_packed(head, name)
    if head.startswith(UTF32_BOMS):
        raise UserError(f"{shown(name)} is UTF-32: {conversion(name, 'utf-32')}")
    if encoding := BOMS.get(head[:2]):
        return io.BufferedReader(Utf8Reader(file, encoding), 1 << 16)
    if must_be_text and (encoding := unmarked_utf16(head)):
        raise UserError(f"{shown(name)} is {encoding} without a byte order mark: {conversion(name, encoding)}")
    return file


def decoded(raw: bytes, name: str) -> str:
    """The text of a small file, without a byte order mark. Raises UserError that says how to convert it."""
    raw = as_utf8(io.BytesIO(raw), name).read()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{shown(name)} is {NOT_UTF8}{advice(name, raw)}") from None


def first_bytes(file: Any) -> bytes:
    """The first bytes, as many as came at once and HEAD at most; they are read again."""
    if hasattr(file, "peek"):
        return file.peek(HEAD)[:HEAD]
    start, head = file.tell(), file.read(HEAD)  # a file in memory
    file.seek(start)
    return head


def refuse_packed(head: bytes, name: str) -> None:
    """UserError for an archive, known by its name or its first bytes, that says how to unpack it."""
    suffix = Path(name).suffix.lower()
    if head.startswith(GZIP):
        how = "pipe it through gunzip -c" if name == "-" else "give it a name that ends with .gz"
        raise UserError(f"{shown(name)} is gzip: {how}")
    for known, (start, tool) in PACKED.items():
        if suffix == known or re.match(start, head):
            command = f" ({tool} {shlex.quote(name)})" if name != "-" else ""
            how = f"unpack it first{command}" if tool else "save it as CSV UTF-8"
            raise UserError(f"{shown(name)} is a {known} file: {how}")


class Utf8Reader(io.RawIOBase):
    """The bytes of a file in another encoding as UTF-8, read as they are asked for."""

    def __init__(self, file: Any, encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
        self._ready, self._is_over = b"", False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and not self._is_over:
            block = self._file.read1(1 << 16)
            self._is_over = not block
            self._ready = self._convert(block)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _convert(self, block: bytes) -> bytes:
        try:
            text = self._decoder.decode(block, final=not block)
        except UnicodeDecodeError:  # an odd byte at the end
            return b"\xff"
        return text.encode("utf-8", "surrogatepass")


# What it is, if it is none of these


def advice(name: str, raw: bytes) -> str:
    """What stands after the reason that some bytes of a file are not UTF-8: what they may be, and how to convert it."""
    if encoding := likely_encoding(raw):
        return f", likely {encoding}: {conversion(name, encoding)}"
    return " here and there: mend these bytes, or leave them out with iconv -c -f utf-8 -t utf-8"


def conversion(name: str, encoding: str) -> str:
    """The command that converts a file."""
    command = f"iconv -f {encoding} -t utf-8"
    if name == "-":
        return f"pipe it through {command}"
    path = Path(name)
    if is_gzip(name):
        path = path.with_suffix("")
        command = f"gunzip -c {shlex.quote(name)} | {command}"
    else:
        command += f" {shlex.quote(name)}"
    return f"convert it ({command} > {shlex.quote(str(path.with_suffix(f'.utf8{path.suffix}')))})"


def likely_encoding(raw: bytes) -> str:
    """What iconv calls the encoding that the bytes are likely in; "" where most of them are sound UTF-8."""
    if encoding := unmarked_utf16(raw[:HEAD]):
        return encoding
    raw = around_fault(raw)
    text = raw.decode("utf-8", "surrogateescape")
    broken = sum("\udc80" <= c <= "\udcff" for c in text)
    if not broken or sum(c > "\x7f" for c in text) > 2 * broken:
        return ""
    return NAMES[max(NAMES, key=lambda name: len(FRENCH.findall(raw.decode(name, "replace"))))]


def around_fault(raw: bytes) -> bytes:
    """What stands about the first byte that is not UTF-8; nothing if there is none but half characters of UTF-16."""
    try:
        raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        return raw[max(0, error.start - HEAD) : error.start + HEAD]
    return b""


def unmarked_utf16(head: bytes) -> str:
    """ "utf-16le" or "utf-16be" if every other byte of a Western text is NUL, else ""."""
    even, odd = head[0::2], head[1::2]
    few, many = len(odd) / 10, len(odd) * 0.7
    if len(odd) >= 8 and odd.count(0) >= many and even.count(0) <= few:
        return "utf-16le"
    return "utf-16be" if len(odd) >= 8 and even.count(0) >= many and odd.count(0) <= few else ""


def shown(name: str) -> str:
    return "standard input" if name == "-" else name
