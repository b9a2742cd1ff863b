"""cPanel/WHM servers, polled: rows of ``emailtrack_search`` to Kafka, ``emailtrack_user_stats`` to gauges."""
