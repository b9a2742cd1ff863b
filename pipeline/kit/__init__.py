"""What every process needs: settings, logs, clock, retry, Kafka clients, telemetry, service life cycle."""
