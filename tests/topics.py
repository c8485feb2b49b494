"""Changes to a test's topic, as its operator makes them."""

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from tests.place import Place


def limit_messages(place: Place, size: int) -> None:
    """Set the topic's max.message.bytes; the broker acts on it a little later."""
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, place.topic, incremental_configs=[entry])
    admin = AdminClient(place.stack.kafka.admin_config())
    admin.incremental_alter_configs([resource])[resource].result(15)
