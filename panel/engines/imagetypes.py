"""What is said of an image that a host is to fetch by itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageFetch:
    """An image that lies at a URL, which the panel has looked at.

    Attributes:
        name: what the image is to be called: letters, digits, ``.``, ``_`` and ``-``.
        ending: what it is, as its file's name ends: ``.qcow2``, ``.raw``, or for a packed root file system ``.tar.xz``, say.
        url: with no redirect before the file, as far as the panel has seen.
        algorithm, digest: ``sha256`` or ``sha512`` of the file, in lower-case hexadecimal.
    """

    name: str
    ending: str
    url: str
    algorithm: str
    digest: str
