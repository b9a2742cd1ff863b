"""The engine: Faust driven by record batches, one Kafka transaction per batch."""
