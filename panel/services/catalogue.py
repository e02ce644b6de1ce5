"""Well-known cloud images, with the URLs at which their makers publish them and their checksums (``panel/data``)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from panel.errors import NotFound
from panel.i18n import gettext_noop as _

FILE = Path(__file__).parents[1] / "data" / "cloud_images.toml"


@dataclass(frozen=True, slots=True)
class CloudImage:
    """``user`` is the one that the image has for cloud-init, ``checksums`` the URL of the published checksum file."""

    key: str
    title: str
    user: str
    url: str
    checksums: str


@cache
def catalogue() -> tuple[CloudImage, ...]:
    """All, in the order of the file."""
    return tuple(CloudImage(**entry) for entry in tomllib.loads(FILE.read_text("utf-8"))["image"])


def cloud_image(key: str) -> CloudImage:
    """One of them. ``NotFound``."""
    for image in catalogue():
        if image.key == key:
            return image
    raise NotFound(_("The catalogue has no image {name}."), name=key[:64])
