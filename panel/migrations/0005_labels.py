from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from tortoise.fields.base import OnDelete
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("models", "0004_metrics")]

    initial = False

    operations = [
        ops.CreateModel(
            name="SavedFilter",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ("actor", fields.CharField(max_length=64)),
                ("name", fields.CharField(max_length=40)),
                ("query", fields.JSONField(default=dict, encoder=JSON_DUMPS, decoder=loads)),
            ],
            options={
                "table": "saved_filter",
                "app": "models",
                "unique_together": (("actor", "name"),),
                "pk_attr": "id",
                "table_description": "A filter of the VM list that ``actor`` named. ``query``: what stands in the list's address.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="VmTag",
            fields=[
                ("id", fields.IntField(generated=True, primary_key=True, unique=True, db_index=True)),
                (
                    "vm",
                    fields.ForeignKeyField(
                        "models.Vm",
                        source_field="vm_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="tags",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("name", fields.CharField(db_index=True, max_length=32)),
            ],
            options={
                "table": "vm_tag",
                "app": "models",
                "unique_together": (("vm", "name"),),
                "pk_attr": "id",
                "table_description": "A word on a VM. ``name`` is normal (``panel.services.labels``): what is equal looks equal.",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Vm",
            name="notes",
            field=fields.TextField(default="", db_default="", unique=False),
        ),
    ]
