from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from panel.models.host import AtLimit
from panel.models.network import RuleState
from panel.models.proxy import CertificateState
from tortoise.fields.base import OnDelete
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("models", "0002_network")]

    initial = False

    operations = [
        ops.CreateModel(
            name="Certificate",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("names", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("chain", fields.TextField(unique=False)),
                ("private_key", fields.TextField(unique=False)),
                ("issuer", fields.CharField(default="", max_length=255)),
                ("expires_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={
                "table": "certificate",
                "app": "models",
                "pk_attr": "id",
                "table_description": "A certificate that an operator uploaded. ``private_key`` is encrypted (``panel.security.SecretBox``).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Pool",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "network",
                    fields.ForeignKeyField(
                        "models.Network",
                        source_field="network_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="pools",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("subnet", fields.CharField(max_length=64)),
                ("gateway", fields.CharField(default="", max_length=45)),
                ("dns", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("ranges", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("reserved", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={
                "table": "pool",
                "app": "models",
                "unique_together": (("network", "subnet"),),
                "pk_attr": "id",
                "table_description": "Addresses of a network that the host itself does not give: those of a bridge, as an operator wrote them down.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Proxy",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "host",
                    fields.ForeignKeyField(
                        "models.Host",
                        source_field="host_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="proxies",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "vm",
                    fields.ForeignKeyField(
                        "models.Vm",
                        source_field="vm_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="proxies",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("domain", fields.CharField(unique=True, max_length=253)),
                ("target_ip", fields.CharField(max_length=45)),
                ("target_port", fields.IntField()),
                ("ssl", fields.BooleanField(default=False)),
                (
                    "certificate",
                    fields.ForeignKeyField(
                        "models.Certificate",
                        source_field="certificate_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="proxies",
                        on_delete=OnDelete.SET_NULL,
                    ),
                ),
                (
                    "state",
                    fields.CharEnumField(
                        default=RuleState.APPLYING,
                        description="APPLYING: applying\nAPPLIED: applied\nFAILED: failed",
                        enum_type=RuleState,
                        max_length=16,
                    ),
                ),
                ("problem", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                ("applied_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
                (
                    "certificate_state",
                    fields.CharEnumField(
                        default=CertificateState.NONE,
                        description="NONE: none\nWAITING: waiting\nVALID: valid\nFAILED: failed\nEXPIRED: expired",
                        enum_type=CertificateState,
                        max_length=16,
                    ),
                ),
                ("certificate_problem", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
                ("certificate_issuer", fields.CharField(default="", max_length=255)),
                ("certificate_expires", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("probe_open", fields.BooleanField(null=True)),
                ("probe_at", fields.DatetimeField(null=True, auto_now=False, auto_now_add=False)),
                ("probe_problem", fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads)),
            ],
            options={
                "table": "proxy",
                "app": "models",
                "pk_attr": "id",
                "table_description": "A domain that leads to a port of a VM. ``domain`` is in its ASCII form (IDNA), lower case, perhaps ``*.`` first.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Traffic",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "vm",
                    fields.ForeignKeyField(
                        "models.Vm",
                        source_field="vm_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="traffic",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("month", fields.CharField(max_length=7)),
                ("sent_bytes", fields.BigIntField(default=0)),
                ("received_bytes", fields.BigIntField(default=0)),
            ],
            options={
                "table": "traffic",
                "app": "models",
                "unique_together": (("vm", "month"),),
                "pk_attr": "id",
                "table_description": "Bytes of one VM in one month (UTC).",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="TrafficMark",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "vm",
                    fields.ForeignKeyField(
                        "models.Vm",
                        source_field="vm_id",
                        unique=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="marks",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("sent_bytes", fields.BigIntField(default=0)),
                ("received_bytes", fields.BigIntField(default=0)),
            ],
            options={
                "table": "traffic_mark",
                "app": "models",
                "pk_attr": "id",
                "table_description": "Where the kernel's counters of a VM stood when they were last added to ``Traffic``.",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Forward",
            name="probe_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
        ops.AddField(
            model_name="Forward",
            name="probe_open",
            field=fields.BooleanField(null=True),
        ),
        ops.AddField(
            model_name="Forward",
            name="probe_problem",
            field=fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads),
        ),
        ops.AddField(
            model_name="Host",
            name="at_limit",
            field=fields.CharEnumField(
                default=AtLimit.SLOW,
                description="SLOW: slow\nCUT: cut",
                db_default=AtLimit.SLOW,
                enum_type=AtLimit,
                max_length=8,
            ),
        ),
        ops.AddField(
            model_name="Host",
            name="at_limit_mbit",
            field=fields.IntField(default=1, db_default=1),
        ),
        ops.AddField(
            model_name="Host",
            name="outside",
            field=fields.CharField(default="", db_default="", max_length=255),
        ),
        ops.AddField(
            model_name="Host",
            name="report_only",
            field=fields.BooleanField(default=False, db_default=False),
        ),
        ops.AddField(
            model_name="Host",
            name="strict_reports",
            field=fields.BooleanField(default=False, db_default=False),
        ),
        ops.AddField(
            model_name="Vm",
            name="at_limit",
            field=fields.BooleanField(default=False, db_default=False),
        ),
    ]
