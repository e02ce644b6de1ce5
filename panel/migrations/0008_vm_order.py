from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise.indexes import Index


class Migration(migrations.Migration):
    dependencies = [("models", "0007_hardware")]

    initial = False

    operations = [
        ops.AddIndex(
            model_name="Vm",
            index=Index(fields=["title", "name"]),
        ),
    ]
