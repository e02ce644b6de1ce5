from tortoise import migrations
from tortoise.migrations import operations as ops
from tortoise import fields


class Migration(migrations.Migration):
    dependencies = [("models", "0005_labels")]

    initial = False

    operations = [
        ops.AlterModelOptions(
            name="HostImage",
            options={
                "table": "host_image",
                "app": "models",
                "unique_together": (("host", "key"),),
                "pk_attr": "id",
                "table_description": "An image of a host, as last listed: pages and the create check read this, not the hypervisor. ``format`` is ``iso`` for a",
            },
        ),
        ops.AddField(
            model_name="HostImage",
            name="added_at",
            field=fields.DatetimeField(null=True, auto_now=False, auto_now_add=False),
        ),
    ]
