from tortoise import migrations
from tortoise.migrations import operations as ops
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
