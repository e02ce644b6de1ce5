from tortoise import migrations
from tortoise.migrations import operations as ops
from panel.engines.types import PowerState
from tortoise import fields
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("models", "0010_processes")]

    initial = False

    operations = [
        ops.RemoveIndex(
            model_name="Vm",
            name=None,
            fields=["title", "name"],
        ),
        ops.AlterField(
            model_name="Vm",
            name="state",
            field=fields.CharEnumField(
                default=PowerState.UNKNOWN,
                description="RUNNING: running\nSTOPPED: stopped\nSUSPENDED: suspended\nCRASHED: crashed\nUNKNOWN: unknown\nMISSING: missing",
                enum_type=PowerState,
                max_length=16,
            ),
        ),
        ops.AddIndex(
            model_name="Vm",
            index=Index(fields=["title", "name", "id", "os_name"]),
        ),
        ops.AddIndex(
            model_name="Vm",
            index=Index(fields=["state", "creating", "title", "name"]),
        ),
        ops.AddIndex(
            model_name="Vm",
            index=Index(fields=["host_id", "state", "cpu_count", "memory_mib", "disk_gib"]),
        ),
        ops.AddIndex(
            model_name="Vm",
            index=Index(fields=["created_at"]),
        ),
    ]
