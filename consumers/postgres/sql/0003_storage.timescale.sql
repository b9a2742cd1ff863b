-- With TimescaleDB: hypertables, compressed by what is asked for most, and continuous aggregates.
CREATE FUNCTION mailstream_make_table(name text, shape text, segment text, length interval)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', name, shape);
    PERFORM create_hypertable(name::regclass, 'time', chunk_time_interval => length);
    EXECUTE format('ALTER TABLE %I SET (timescaledb.compress, '
        'timescaledb.compress_segmentby = %L, timescaledb.compress_orderby = ''time DESC'')',
        name, segment);
END $$;

SELECT mailstream_make_table('email_events', 'mailstream_shape_events', 'event_type', '1 day');
SELECT mailstream_make_table('panes', 'mailstream_shape_panes', 'family', '7 days');
SELECT mailstream_make_table('metrics_' || what, 'mailstream_shape_metrics', 'node,metric', '7 days')
    FROM unnest(ARRAY['system', 'zonemta', 'mongodb', 'redis', 'wildduck', 'haraka']) AS what;
SELECT mailstream_make_table('metrics_other', 'mailstream_shape_others', 'what,node', '7 days');
SELECT mailstream_make_table('heartbeats', 'mailstream_shape_heartbeats', 'node', '7 days');

CREATE MATERIALIZED VIEW email_events_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(interval '1 hour', time) AS time, event_type, source, direction, is_dsn, is_probe,
       "user", from_domain, mta_node, sending_ip, provider, bounce_class,
       count(*) AS events, sum(coalesce(recipients, 1))::bigint AS recipients,
       coalesce(sum(size_bytes), 0)::bigint AS bytes,
       coalesce(sum(delivery_time_ms), 0)::double precision AS delivery_ms_sum,
       count(delivery_time_ms) AS delivery_ms_count
FROM email_events
GROUP BY time_bucket(interval '1 hour', time), event_type, source, direction, is_dsn, is_probe,
       "user", from_domain, mta_node, sending_ip, provider, bounce_class
WITH NO DATA;

CREATE MATERIALIZED VIEW email_events_daily
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(interval '1 day', time) AS time, event_type, source, direction, is_dsn, is_probe,
       "user", from_domain, mta_node, sending_ip, provider, bounce_class,
       count(*) AS events, sum(coalesce(recipients, 1))::bigint AS recipients,
       coalesce(sum(size_bytes), 0)::bigint AS bytes,
       coalesce(sum(delivery_time_ms), 0)::double precision AS delivery_ms_sum,
       count(delivery_time_ms) AS delivery_ms_count
FROM email_events
GROUP BY time_bucket(interval '1 day', time), event_type, source, direction, is_dsn, is_probe,
       "user", from_domain, mta_node, sending_ip, provider, bounce_class
WITH NO DATA;
