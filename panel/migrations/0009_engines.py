from tortoise import migrations
from tortoise.migrations import operations as ops
from panel.engines.types import EngineKind
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("models", "0008_vm_order")]

    initial = False

    operations = [
        ops.AlterField(
            model_name="Host",
            name="engine",
            field=fields.CharEnumField(description="an EngineKind", enum_type=EngineKind, max_length=32),
        ),
    ]
