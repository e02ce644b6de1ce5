from tortoise import migrations
from tortoise.migrations import operations as ops
from orjson import loads
from tortoise.fields.data import JSON_DUMPS
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("models", "0009_engines")]

    initial = False

    operations = [
        ops.CreateModel(
            name="ProcessNode",
            fields=[
                ("id", fields.CharField(primary_key=True, unique=True, db_index=True, max_length=32)),
                ("machine", fields.CharField(max_length=64)),
                ("address", fields.CharField(max_length=128)),
                ("pid", fields.IntField()),
                ("started_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
                ("beat_at", fields.DatetimeField(auto_now=False, auto_now_add=False)),
            ],
            options={
                "table": "process_node",
                "app": "models",
                "pk_attr": "id",
                "table_description": "A process that runs. ``beat_at`` is by the clock of the database, so that no other needs to be right.",
            },
            bases=["Model"],
        ),
        ops.AddField(
            model_name="Host",
            name="machine",
            field=fields.CharField(default="", db_default="", max_length=64),
        ),
        ops.AddField(
            model_name="Host",
            name="notices",
            field=fields.JSONField(null=True, encoder=JSON_DUMPS, decoder=loads),
        ),
        ops.AddField(
            model_name="Host",
            name="owner",
            field=fields.CharField(null=True, db_index=True, max_length=32),
        ),
        ops.AddField(
            model_name="Task",
            name="owner",
            field=fields.CharField(null=True, db_index=True, max_length=32),
        ),
    ]
