"""Certificates that operators bring: what fits is taken, what does not is told, and no key is ever said aloud."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from panel.errors import InvalidInput
from panel.services.certificates import Upload, read_upload
from tests.certs import Key, Made, authorities, chain, dsa_key, ec_key, key_pem, made, rsa_key

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
GOOD = made("www.example.com", at=NOW)
SECRETS = GOOD.secrets


def read(text: str, key: str, domain: str = "www.example.com") -> Upload:
    return read_upload(text, key, domain, NOW)


def refused(text: str, key: str, domain: str = "www.example.com") -> tuple[str | None, str]:
    """The field at fault and the message, which holds no part of a key."""
    with pytest.raises(InvalidInput) as caught:
        read(text, key, domain)
    error = caught.value
    assert error.__cause__ is None, "a library's own words may quote what it was given"
    assert error.__suppress_context__ or error.__context__ is None
    told = f"{error} {error.text.params!r}"
    lines = [line for line in (key + text).splitlines() if len(line) > 20 and "-----" not in line]
    assert not [line for line in lines if line in told]
    return error.field, str(error)


def subjects(upload: Upload) -> list[str]:
    found = x509.load_pem_x509_certificates(upload.chain.encode())
    return [one.subject.rfc4514_string() for one in found]


@pytest.mark.parametrize("key", [ec_key(), rsa_key(), ed25519.Ed25519PrivateKey.generate()], ids=["ec", "rsa", "ed"])
def test_a_pair_that_fits_is_written_anew(key: Key) -> None:
    root, below = authorities()
    own = made("www.example.com", "Example.COM", by=below, key=key, at=NOW)
    upload = read(f"A note\n{chain(own, below)}", f"\n{own.key_pem}\n")
    assert upload.names == ("www.example.com", "example.com")
    assert (upload.issuer, upload.expires_at) == ("Intermediate", own.certificate.not_valid_after_utc)
    assert upload.chain == chain(own, below)
    assert upload.private_key == own.key_pem
    assert upload.private_key not in repr(upload)
    assert root.pem not in upload.chain


def test_an_old_shape_of_key_becomes_the_new_one() -> None:
    for key in (ec_key(), rsa_key()):
        own = made("www.example.com", key=key, at=NOW)
        old = key_pem(key, old=True)
        assert "BEGIN PRIVATE KEY" not in old
        assert read(own.pem, old).private_key == own.key_pem


def test_the_order_of_the_chain_is_mended() -> None:
    root, below = authorities()
    own, other = made("www.example.com", by=below, at=NOW), made("www.example.com", title="other", at=NOW)
    right = ["CN=own", "CN=Intermediate", "CN=Root"]
    for parts in ((own, below, root), (below, own, root), (root, below, own), (root, own, below, own)):
        assert subjects(read(chain(*parts), own.key_pem)) == right
    assert subjects(read(chain(other, below, own), own.key_pem)) == ["CN=own", "CN=Intermediate", "CN=other"]


def test_a_key_beside_the_chain_is_not_stored_with_it() -> None:
    assert read(GOOD.key_pem + GOOD.pem, GOOD.key_pem).chain == GOOD.pem


def test_the_key_of_another() -> None:
    field, says = refused(GOOD.pem, key_pem(ec_key()))
    assert (field, says) == ("private_key", "private_key does not belong to the certificate.")


@pytest.mark.parametrize(
    ("names", "domain", "good"),
    [
        (("www.example.com",), "www.example.com", True),
        (("WWW.Example.com",), "www.example.com", True),
        (("other.example", "www.example.com"), "www.example.com", True),
        (("*.example.com",), "www.example.com", True),
        (("*.example.com",), "*.example.com", True),
        (("xn--bcher-kva.example",), "xn--bcher-kva.example", True),
        (("*.example.com",), "example.com", False),
        (("*.example.com",), "a.www.example.com", False),
        (("www.example.com",), "*.example.com", False),
        (("example.com",), "www.example.com", False),
        ((), "own", False),  # a common name is not looked at, as by browsers
    ],
)
def test_it_must_be_for_the_domain(names: Sequence[str], domain: str, good: bool) -> None:
    own = made(*names, at=NOW)
    if good:
        assert read(own.pem, own.key_pem, domain).names == tuple(name.lower() for name in names)
        return
    field, says = refused(own.pem, own.key_pem, domain)
    assert (field, says) == ("certificate", f"certificate is not for {domain}, but for: {', '.join(names) or '-'}.")


def test_only_while_it_is_good() -> None:
    for days, says in (
        ((-9, -1), "expired on 2026-04-30"),
        ((1, 9), "is not valid before 2026-05-02"),
        ((-9, 0), "exp"),
    ):
        own = made("www.example.com", days=days, at=NOW)
        field, told = refused(own.pem, own.key_pem)
        assert field == "certificate"
        assert says in told
    last = made("www.example.com", days=(0, 1), at=NOW)
    assert read(last.pem, last.key_pem).expires_at == NOW + timedelta(days=1)


def test_keys_that_cannot_be_used() -> None:
    locked, curve = key_pem(GOOD.key, "password"), key_pem(dsa_key())  # type: ignore[arg-type]
    for key, says in (
        (locked, "private_key has a password. Bring it without one."),
        (curve, "private_key must be an RSA, ECDSA or Ed25519 key."),
        (GOOD.pem, "private_key must be a private key in PEM."),
        (GOOD.key_pem[:120], "private_key must be a private key in PEM."),
        (SECRETS[0], "private_key must be a private key in PEM."),
        ("秘密\ud800", "private_key must be a private key in PEM."),
        ("", "private_key must be a private key in PEM."),
    ):
        assert refused(GOOD.pem, key) == ("private_key", says)


def test_chains_that_are_none() -> None:
    body = base64.b64encode(b"\x30\x03\x02\x01\x01").decode()
    wrong = f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"
    for text in ("", "garbage", GOOD.pem[:200], GOOD.key_pem, wrong, GOOD.pem + wrong, "证书\ud800"):
        assert refused(text, GOOD.key_pem) == ("certificate", "certificate must be a chain of certificates in PEM.")
    assert refused(GOOD.pem * 11, GOOD.key_pem) == ("certificate", "certificate has more than 10 certificates.")
    assert read(GOOD.pem * 10, GOOD.key_pem).chain == GOOD.pem


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_damaged_certificate_is_never_more_than_wrong_input() -> None:
    """Each byte of it turned: what is still read as a certificate may be taken, and nothing else happens."""
    good = GOOD.certificate.public_bytes(serialization.Encoding.DER)
    refusals = 0
    for place in range(len(good)):
        for turn in (0x01, 0x20, 0xFF):
            damaged = good[:place] + bytes([good[place] ^ turn]) + good[place + 1 :]
            body = base64.encodebytes(damaged).decode()
            try:
                read(f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n", GOOD.key_pem)
            except InvalidInput as error:
                refusals += error.field in {"certificate", "private_key"}
    assert refusals > len(good)


def test_an_issuer_without_a_common_name() -> None:
    key = ec_key()
    parts = [(x509.NameOID.COUNTRY_NAME, "DE"), (x509.NameOID.ORGANIZATION_NAME, "Ämter & Söhne")]
    for attributes, told in ((parts, "Ämter & Söhne"), (parts[:1], "")):
        name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
        own = _named(name, key)
        assert read(own.pem, own.key_pem).issuer == told


def _named(name: x509.Name, key: ec.EllipticCurvePrivateKey) -> Made:
    by = made(key=key, at=NOW).certificate
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(by.not_valid_before_utc).not_valid_after(by.not_valid_after_utc)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("www.example.com")]), critical=False)
    return Made(builder.sign(key, by.signature_hash_algorithm), key)  # type: ignore[arg-type]
