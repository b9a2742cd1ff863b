-- Indexes, and views that are the same with and without TimescaleDB.
CREATE INDEX ON email_events (time);
CREATE INDEX ON email_events ("user", time);
CREATE INDEX ON email_events (to_hash, time) WHERE to_hash IS NOT NULL;
CREATE INDEX ON email_events (queue_id) WHERE queue_id IS NOT NULL;
CREATE INDEX ON panes (family, time);
CREATE INDEX ON heartbeats (time);
DO $$
DECLARE
    what text;
BEGIN
    FOREACH what IN ARRAY ARRAY['system', 'zonemta', 'mongodb', 'redis', 'wildduck', 'haraka', 'other']
    LOOP
        EXECUTE format('CREATE INDEX ON %I (metric, node, time)', 'metrics_' || what);
        EXECUTE format('CREATE INDEX ON %I (time)', 'metrics_' || what);
        EXECUTE format(
            'CREATE VIEW %I AS SELECT date_trunc(''hour'', time, ''UTC'') AS time, node, metric, '
            'labels, count(*) AS samples, avg(value) AS mean, min(value) AS least, '
            'max(value) AS most FROM %I GROUP BY 1, 2, 3, 4',
            'metrics_' || what || '_hourly', 'metrics_' || what);
    END LOOP;
END $$;

CREATE VIEW panes_hourly AS
SELECT date_trunc('hour', time, 'UTC') AS time, family, key, event_type,
       sum(count)::bigint AS count, sum(recipients)::bigint AS recipients,
       sum(bytes)::bigint AS bytes, sum(delivery_ms_sum) AS delivery_ms_sum,
       bool_or(partial) AS partial
FROM panes GROUP BY 1, 2, 3, 4;

CREATE VIEW panes_daily AS
SELECT date_trunc('day', time, 'UTC') AS time, family, key, event_type,
       sum(count)::bigint AS count, sum(recipients)::bigint AS recipients,
       sum(bytes)::bigint AS bytes, sum(delivery_ms_sum) AS delivery_ms_sum,
       bool_or(partial) AS partial
FROM panes GROUP BY 1, 2, 3, 4;

DROP TABLE mailstream_shape_others, mailstream_shape_events, mailstream_shape_panes,
    mailstream_shape_metrics, mailstream_shape_heartbeats;
