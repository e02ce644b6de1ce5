"""What a file is, by its beginning: of images that a host fetches by itself, and that nobody else looks into.

Formats: QEMU's docs/interop/qcow2.txt; ECMA-119, 8.1 (CD); the boot record of a disk; RFC 1952, RFC 8878 and the .xz format.
"""

from __future__ import annotations

from panel.errors import InvalidInput
from panel.i18n import gettext_noop as _

HEAD_BYTES = 36 * 1024
_QCOW2, _CD, _CD_AT = b"QFI\xfb", b"CD001", 32769
_EXTERNAL_DATA = 1 << 2  # of the incompatible features
_PACKED = {".tar.xz": b"\xfd7zXZ\0", ".tar.gz": b"\x1f\x8b", ".tar.zst": b"\x28\xb5\x2f\xfd"}


def ending_of(head: bytes, name: str, field: str) -> str:
    """``.qcow2``, ``.raw`` or of a packed root file system ``.tar.xz`` and the like. ``InvalidInput`` for all else: a CD, what is
    packed otherwise, a qcow2 that draws on another file, which would be one of the host's.

    Args:
        head: the first ``HEAD_BYTES``, or the whole file when it is shorter.
    """
    if head.startswith(_QCOW2) and len(head) >= 112:
        version, backing = int.from_bytes(head[4:8]), int.from_bytes(head[8:16])
        features = int.from_bytes(head[72:80]) if version >= 3 else 0
        if backing or features & _EXTERNAL_DATA or version not in {2, 3}:
            raise InvalidInput(
                _("{field}: {name} draws on another file. Make it whole: qemu-img convert -O qcow2 IN OUT."),
                field=field, name=name,
            )  # fmt: skip
        return ".qcow2"
    for ending, magic in _PACKED.items():
        if head.startswith(magic) and name.endswith(ending):
            return ending
    if head[_CD_AT:].startswith(_CD):
        raise InvalidInput(_("{field}: {name} is a CD image. No VM is made from one here."), field=field, name=name)
    if head[510:512] == b"\x55\xaa":
        return ".raw"
    raise InvalidInput(
        _("{field}: {name} is no disk image (qcow2, or raw with a boot sector), and no root file system (.tar.xz, .tar.gz or "
          ".tar.zst)."),
        field=field, name=name,
    )  # fmt: skip
