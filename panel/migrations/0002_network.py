from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from panel.engines.types import NicMode
from panel.models.network import RuleState
from tortoise.fields.base import OnDelete
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("models", "0001_initial")]

    initial = False

    operations = [
        ops.CreateModel(
            name="Forward",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "host",
                    fields.ForeignKeyField(
                        "models.Host",
                        source_field="host_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="forwards",
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
                        related_name="forwards",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("protocol", fields.CharField(max_length=3)),
                ("external_start", fields.IntField()),
                ("external_end", fields.IntField()),
                ("internal_ip", fields.CharField(max_length=45)),
                ("internal_start", fields.IntField()),
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
            ],
            options={
                "table": "forward",
                "app": "models",
                "pk_attr": "id",
                "table_description": "Ports of a host that lead to a VM: ``external_start + n`` to ``internal_start + n``.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ForwardPort",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "forward",
                    fields.ForeignKeyField(
                        "models.Forward",
                        source_field="forward_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="ports",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "host",
                    fields.ForeignKeyField(
                        "models.Host",
                        source_field="host_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="forward_ports",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("protocol", fields.CharField(max_length=3)),
                ("port", fields.IntField()),
            ],
            options={
                "table": "forward_port",
                "app": "models",
                "unique_together": (("host", "protocol", "port"),),
                "pk_attr": "id",
                "table_description": "One port that a forward has taken: the database itself gives each to one.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Network",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "host",
                    fields.ForeignKeyField(
                        "models.Host",
                        source_field="host_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="networks",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("name", fields.CharField(max_length=64)),
                (
                    "mode",
                    fields.CharEnumField(description="NAT: nat\nBRIDGE: bridge", enum_type=NicMode, max_length=16),
                ),
                ("bridge", fields.CharField(default="", max_length=64)),
                ("subnet4", fields.CharField(default="", max_length=64)),
                ("gateway4", fields.CharField(default="", max_length=64)),
                ("subnet6", fields.CharField(default="", max_length=64)),
                ("gateway6", fields.CharField(default="", max_length=64)),
                ("forward_mode", fields.CharField(default="", max_length=16)),
                ("reserved", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
                ("foreign", fields.JSONField(default=list, encoder=JSON_DUMPS, decoder=loads)),
            ],
            options={
                "table": "network",
                "app": "models",
                "unique_together": (("host", "name"),),
                "pk_attr": "id",
                "table_description": "A network as the host last told it. ``reserved`` and ``foreign`` are addresses that no VM is given.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Address",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "network",
                    fields.ForeignKeyField(
                        "models.Network",
                        source_field="network_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="addresses",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                (
                    "nic",
                    fields.ForeignKeyField(
                        "models.Nic",
                        source_field="nic_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="given",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("ip", fields.CharField(max_length=45)),
                ("created_at", fields.DatetimeField(auto_now=False, auto_now_add=True)),
            ],
            options={
                "table": "address",
                "app": "models",
                "unique_together": (("network", "ip"),),
                "pk_attr": "id",
                "table_description": "An address that an interface was given. ``ip`` is in its canonical form, so that the database tells two apart.",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Host",
            name="ports_close",
            field=fields.IntField(default=29999, db_default=29999),
        ),
        ops.AddField(
            model_name="Host",
            name="ports_start",
            field=fields.IntField(default=20000, db_default=20000),
        ),
        ops.AddField(
            model_name="Nic",
            name="port",
            field=fields.CharField(default="", db_default="", max_length=15),
        ),
    ]
