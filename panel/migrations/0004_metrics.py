from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.fields.base import OnDelete
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("models", "0003_domains_pools_traffic")]

    initial = False

    operations = [
        ops.CreateModel(
            name="HostMetrics",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "host",
                    fields.ForeignKeyField(
                        "models.Host",
                        source_field="host_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="metrics",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("step_seconds", fields.SmallIntField()),
                ("slot", fields.SmallIntField()),
                ("start", fields.BigIntField()),
                ("points", fields.BinaryField()),
            ],
            options={
                "table": "host_metrics",
                "app": "models",
                "unique_together": (("host", "step_seconds", "slot"),),
                "pk_attr": "id",
                "table_description": "A stretch of a host's history at one resolution, kept as that of a VM.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="VmMetrics",
            fields=[
                ("id", fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "vm",
                    fields.ForeignKeyField(
                        "models.Vm",
                        source_field="vm_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="metrics",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("step_seconds", fields.SmallIntField()),
                ("slot", fields.SmallIntField()),
                ("start", fields.BigIntField()),
                ("points", fields.BinaryField()),
            ],
            options={
                "table": "vm_metrics",
                "app": "models",
                "unique_together": (("vm", "step_seconds", "slot"),),
                "pk_attr": "id",
                "table_description": "A stretch of a VM's history at one resolution. A later stretch takes the place of the one in its ``slot``.",
            },
            bases=["Model"],
        ),
    ]
