from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from panel.engines.types import EngineKind, NicMode, PowerState
from panel.models.host import HostHealth
from panel.models.task import TaskStatus
from tortoise.fields.base import OnDelete
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="ConsoleTicket",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("actor", fields.CharField(max_length=64)),
                ("credential", fields.CharField(max_length=80)),
                ("vm_id", fields.IntField()),
                ("vm_ref", fields.CharField(max_length=128)),
                ("kind", fields.CharField(max_length=8)),
                ("purpose", fields.CharField(max_length=8)),
                ("expires_at", fields.DatetimeField(db_index=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "console_ticket",
                "app": "models",
                "pk_attr": "id",
                "table_description": "One use, 60 s, bound to actor, VM and console. ``id`` is the SHA-256 of the ticket.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Host",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("name", fields.CharField(unique=True, max_length=64)),
                (
                    "engine",
                    fields.CharEnumField(
                        description="FAKE: fake\nLIBVIRT: libvirt", enum_type=EngineKind, max_length=32
                    ),
                ),
                ("address", fields.CharField(default="", max_length=255)),
                ("user", fields.CharField(default="", max_length=128)),
                ("secret", fields.TextField(default="", unique=False)),
                ("disks_path", fields.CharField(default="", max_length=512)),
                ("images_path", fields.CharField(default="", max_length=512)),
                ("launch_path", fields.CharField(default="", max_length=512)),
                ("options", fields.JSONField(default=dict, encoder=JSON_DUMPS, decoder=loads)),
                ("enabled", fields.BooleanField(default=True)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
                (
                    "health",
                    fields.CharEnumField(
                        default=HostHealth.UNKNOWN,
                        description="UNKNOWN: unknown\nONLINE: online\nUNREACHABLE: unreachable\nDISABLED: disabled",
                        enum_type=HostHealth,
                        max_length=16,
                    ),
                ),
                ("health_since", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("problem", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                ("seen_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("version", fields.CharField(default="", max_length=128)),
                ("status", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                ("leftovers", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
            ],
            options={
                "table": "host",
                "app": "models",
                "pk_attr": "id",
                "table_description": "One hypervisor. ``secret`` is encrypted (``panel.security.SecretBox``).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="HostImage",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "host",
                    fields.ForeignKeyField(
                        "models.Host",
                        source_field="host_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="images",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("name", fields.CharField(max_length=200)),
                ("key", fields.CharField(max_length=255)),
                ("title", fields.CharField(default="", max_length=255)),
                ("format", fields.CharField(default="", max_length=32)),
                ("size_bytes", fields.BigIntField(default=0)),
                ("virtual_gib", fields.FloatField(default=0.0)),
                ("default_user", fields.CharField(default="root", max_length=64)),
                ("seen_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "host_image",
                "app": "models",
                "unique_together": (("host", "key"),),
                "pk_attr": "id",
                "table_description": "An image of a host, as last listed: pages and the create check read this, not the hypervisor.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="LogEntry",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("at", fields.DatetimeField(db_index=True, auto_now=False, auto_now_add=False)),
                ("level", fields.CharField(default="info", max_length=8)),
                ("actor", fields.CharField(default="", max_length=64)),
                ("source", fields.CharField(default="", max_length=16)),
                ("address", fields.CharField(default="", max_length=64)),
                ("action", fields.CharField(db_index=True, max_length=48)),
                ("object_kind", fields.CharField(default="", max_length=16)),
                ("object_name", fields.CharField(default="", max_length=160)),
                ("message", fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
            ],
            options={
                "table": "log_entry",
                "app": "models",
                "pk_attr": "id",
                "table_description": "Who did what to which object, when, from where.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="LoginFailure",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("address", fields.CharField(db_index=True, max_length=64)),
                ("at", fields.DatetimeField(db_index=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "login_failure",
                "app": "models",
                "pk_attr": "id",
                "table_description": "A failed login, kept until it no longer counts.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Session",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("actor", fields.CharField(max_length=64)),
                ("csrf", fields.CharField(max_length=64)),
                ("address", fields.CharField(default="", max_length=64)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
                ("used_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "session",
                "app": "models",
                "pk_attr": "id",
                "table_description": "A login. ``id`` is the SHA-256 of the cookie, so that a stolen database opens nothing.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Setting",
            fields=[
                ("key", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ("value", fields.TextField(unique=False)),
            ],
            options={
                "table": "setting",
                "app": "models",
                "pk_attr": "key",
                "table_description": "A value of the panel itself, such as the access token (encrypted).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Task",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=32)),
                ("kind", fields.CharField(max_length=32)),
                (
                    "status",
                    fields.CharEnumField(
                        default=TaskStatus.QUEUED,
                        db_index=True,
                        description="QUEUED: queued\nRUNNING: running\nSUCCEEDED: succeeded\nFAILED: failed\nCANCELLED: cancelled\nINTERRUPTED: interrupted",
                        enum_type=TaskStatus,
                        max_length=16,
                    ),
                ),
                ("lock", fields.CharField(null=True, unique=True, max_length=64)),
                ("host_name", fields.CharField(default="", db_index=True, max_length=64)),
                ("vm_name", fields.CharField(default="", max_length=64)),
                ("vm_id", fields.IntField(null=True, db_index=True)),
                ("host_id", fields.IntField(null=True)),
                ("actor", fields.CharField(default="", max_length=64)),
                ("source", fields.CharField(default="", max_length=16)),
                ("params", fields.TextField(default="", unique=False)),
                ("percent", fields.IntField(default=0)),
                ("cancel_requested", fields.BooleanField(default=False)),
                ("message", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                ("error_status", fields.IntField(null=True)),
                ("result", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                ("created_at", fields.DatetimeField(db_index=True, auto_now=False, auto_now_add=True)),
                ("started_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("ended_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "task",
                "app": "models",
                "pk_attr": "id",
                "table_description": "One piece of work. ``lock`` is unique while the task lives and NULL after it: the database itself allows one writer",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="TaskLine",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "task",
                    fields.ForeignKeyField(
                        "models.Task",
                        source_field="task_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="lines",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("level", fields.CharField(max_length=8)),
                ("message", fields.JSONField(encoder=JSON_DUMPS, decoder=loads)),
            ],
            options={
                "table": "task_line",
                "app": "models",
                "pk_attr": "id",
                "table_description": "A line of a task's log.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Vm",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "host",
                    fields.ForeignKeyField(
                        "models.Host",
                        source_field="host_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="vms",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("name", fields.CharField(max_length=64)),
                ("ref", fields.CharField(max_length=128)),
                ("title", fields.CharField(default="", max_length=200)),
                ("os_name", fields.CharField(default="", max_length=200)),
                ("user", fields.CharField(default="root", max_length=64)),
                ("cpu_count", fields.IntField()),
                ("memory_mib", fields.IntField()),
                ("disk_gib", fields.FloatField(default=0.0)),
                ("limits", fields.JSONField(default=dict, encoder=JSON_DUMPS, decoder=loads)),
                ("managed", fields.BooleanField(default=True)),
                ("creating", fields.BooleanField(default=False)),
                ("pending", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
                (
                    "state",
                    fields.CharEnumField(
                        default=PowerState.UNKNOWN,
                        db_index=True,
                        description="RUNNING: running\nSTOPPED: stopped\nSUSPENDED: suspended\nCRASHED: crashed\nUNKNOWN: unknown\nMISSING: missing",
                        enum_type=PowerState,
                        max_length=16,
                    ),
                ),
                (
                    "known_state",
                    fields.CharEnumField(
                        default=PowerState.UNKNOWN,
                        description="RUNNING: running\nSTOPPED: stopped\nSUSPENDED: suspended\nCRASHED: crashed\nUNKNOWN: unknown\nMISSING: missing",
                        enum_type=PowerState,
                        max_length=16,
                    ),
                ),
                ("state_since", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("seen_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("agent", fields.BooleanField(null=True)),
                ("cpu_percent", fields.FloatField(null=True)),
                ("memory_used_mib", fields.IntField(null=True)),
                ("rates", fields.JSONField(default=dict, encoder=JSON_DUMPS, decoder=loads)),
                ("report", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                ("report_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "vm",
                "app": "models",
                "unique_together": (("host", "name"), ("host", "ref")),
                "pk_attr": "id",
                "table_description": "One VM. ``name`` is the API's ``vm_uuid``, ``title`` its ``vm_name``, and ``ref`` is the hypervisor's own id.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Nic",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "vm",
                    fields.ForeignKeyField(
                        "models.Vm",
                        source_field="vm_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="nics",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("name", fields.CharField(max_length=32)),
                (
                    "mode",
                    fields.CharEnumField(
                        null=True, description="NAT: nat\nBRIDGE: bridge", enum_type=NicMode, max_length=16
                    ),
                ),
                ("mac", fields.CharField(db_index=True, max_length=17)),
                ("network", fields.CharField(default="", max_length=64)),
                ("addresses", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
            ],
            options={
                "table": "nic",
                "app": "models",
                "unique_together": (("vm", "name"),),
                "pk_attr": "id",
                "table_description": "An interface of a VM. ``addresses`` are those last seen on it.",
            },
            bases=["Model"],
        ),
    ]
