"""What is said of an image that comes to a host: fetched by itself, or sent by the panel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


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


@dataclass(frozen=True, slots=True)
class ImagePut:
    """A file of this machine that is to become an image of a host. It was looked through before.

    Attributes:
        file: where it lies; it does not change meanwhile.
        key: what its file is called on the host: letters, digits, ``.``, ``_`` and ``-``, with ``.qcow2``, ``.img`` or ``.iso``.
        about: what is written beside it; ``task`` is ``token``.
        token: lower-case hexadecimal digits, another one each time: what breaks off is found again by it.
    """

    file: Path
    key: str
    about: Mapping[str, str]
    token: str
