from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("models", "0011_vm_counts")]

    initial = False

    operations = [
        ops.AddField(
            model_name="Nic",
            name="apart",
            field=fields.CharField(default="", db_default="", max_length=64),
        ),
    ]
