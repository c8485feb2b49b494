"""Changes to a test's topic, as its operator makes them."""

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from pipeline.local.kafka_access import await_access, create_topic, delete_topic
from tests.place import Place


def limit_messages(place: Place, size: int) -> None:
    """Set the topic's max.message.bytes; the broker acts on it a little later."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, place.topic, incremental_configs=[entry])
    admin = AdminClient(place.stack.kafka.admin_config())
    admin.incremental_alter_configs([resource])[resource].result(15)


def create_again(place: Place, partitions: int = 3) -> None:
    """Delete the topic with all it has, and create it under the same name."""
    admin = AdminClient(place.stack.kafka.admin_config())
    delete_topic(admin, place.topic)
    create_topic(admin, place.topic, partitions)
    await_access(AdminClient(place.stack.kafka.config()), place.topic)
