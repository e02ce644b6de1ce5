"""Who may come in: settings with secrets, sessions, console tickets, failed logins. Tokens are stored hashed or encrypted."""

from __future__ import annotations

from tortoise import fields
from tortoise.models import Model


class Setting(Model):
    """A value of the panel itself, such as the access token (encrypted)."""

    key = fields.CharField(max_length=64, primary_key=True)
    value = fields.TextField()

    class Meta:
        table = "setting"


class Session(Model):
    """A login. ``id`` is the SHA-256 of the cookie, so that a stolen database opens nothing."""

    id = fields.CharField(max_length=64, primary_key=True)
    actor = fields.CharField(max_length=64)
    csrf = fields.CharField(max_length=64)
    address = fields.CharField(max_length=64, default="")
    created_at = fields.DatetimeField(auto_now_add=True)
    used_at = fields.DatetimeField()

    class Meta:
        table = "session"


class ConsoleTicket(Model):
    """One use, 60 s, bound to actor, VM and console. ``id`` is the SHA-256 of the ticket."""

    id = fields.CharField(max_length=64, primary_key=True)
    actor = fields.CharField(max_length=64)
    credential = fields.CharField(max_length=80)  # session id, or fingerprint of the token: checked again
    vm_id = fields.IntField()
    vm_ref = fields.CharField(max_length=128)
    kind = fields.CharField(max_length=8)
    purpose = fields.CharField(max_length=8)  # page: opens the console page; socket: opens the websocket
    expires_at = fields.DatetimeField(db_index=True)

    class Meta:
        table = "console_ticket"


class LoginFailure(Model):
    """A failed login, kept until it no longer counts."""

    id = fields.IntField(primary_key=True)
    address = fields.CharField(max_length=64, db_index=True)
    at = fields.DatetimeField(db_index=True)

    class Meta:
        table = "login_failure"
