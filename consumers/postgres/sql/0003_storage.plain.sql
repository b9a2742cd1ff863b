-- Without TimescaleDB: partitions by time, made ahead and dropped by the sink.
CREATE FUNCTION mailstream_make_table(name text, shape text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) PARTITION BY RANGE (time)', name, shape);
    -- What no partition was made for, such as rows of a clock that is wrong.
    EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', name || '_rest', name);
    INSERT INTO mailstream_kept (name) VALUES (name);
END $$;

SELECT mailstream_make_table('email_events', 'mailstream_shape_events');
SELECT mailstream_make_table('panes', 'mailstream_shape_panes');
SELECT mailstream_make_table('metrics_' || what, 'mailstream_shape_metrics')
    FROM unnest(ARRAY['system', 'zonemta', 'mongodb', 'redis', 'wildduck', 'haraka']) AS what;
SELECT mailstream_make_table('metrics_other', 'mailstream_shape_others');
SELECT mailstream_make_table('heartbeats', 'mailstream_shape_heartbeats');

-- Makes the partition [first, first + length) of a table, with the rows of it that are there already.
CREATE FUNCTION mailstream_make_partition(parent text, first timestamptz, length interval)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    part text := parent || '_' || to_char(first AT TIME ZONE 'UTC', 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('mailstream partition ' || current_schema()));
    IF to_regclass(format('%I.%I', current_schema(), part)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', parent || '_rest');
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', part, parent);
    EXECUTE format(
        'WITH moved AS (DELETE FROM %I WHERE time >= $1 AND time < $2 RETURNING *) '
        'INSERT INTO %I SELECT * FROM moved', parent || '_rest', part) USING first, first + length;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        parent, part, first, first + length);
    RETURN true;
END $$;

-- The history by hour and by day: what was summed up, and for stretches that changed since, the
-- rows themselves. So the views are exact at all times.
CREATE TABLE mailstream_changed (
    step text NOT NULL,
    start timestamptz NOT NULL,
    changes bigint NOT NULL DEFAULT 1,
    last_change timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (step, start)
);

CREATE FUNCTION mailstream_start(step text, at timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT date_trunc(step, at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
$$;

CREATE VIEW mailstream_live_hours AS
SELECT c.start AS time, e.event_type, e.source, e.direction, e.is_dsn, e.is_probe, e."user",
       e.from_domain, e.mta_node, e.sending_ip, e.provider, e.bounce_class,
       count(*) AS events, sum(coalesce(e.recipients, 1))::bigint AS recipients,
       coalesce(sum(e.size_bytes), 0)::bigint AS bytes,
       coalesce(sum(e.delivery_time_ms), 0)::double precision AS delivery_ms_sum,
       count(e.delivery_time_ms) AS delivery_ms_count
FROM mailstream_changed c
JOIN email_events e ON e.time >= c.start AND e.time < c.start + interval '1 hour'
WHERE c.step = 'hour'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12;

CREATE TABLE mailstream_stored_hours AS SELECT * FROM mailstream_live_hours WITH NO DATA;
CREATE INDEX ON mailstream_stored_hours (time);
CREATE INDEX ON mailstream_stored_hours ("user", time);

CREATE VIEW email_events_hourly AS
SELECT * FROM mailstream_stored_hours s
WHERE NOT EXISTS (SELECT FROM mailstream_changed c WHERE c.step = 'hour' AND c.start = s.time)
UNION ALL SELECT * FROM mailstream_live_hours;

CREATE VIEW mailstream_live_days AS
SELECT c.start AS time, h.event_type, h.source, h.direction, h.is_dsn, h.is_probe, h."user",
       h.from_domain, h.mta_node, h.sending_ip, h.provider, h.bounce_class,
       sum(h.events)::bigint AS events, sum(h.recipients)::bigint AS recipients,
       sum(h.bytes)::bigint AS bytes, sum(h.delivery_ms_sum) AS delivery_ms_sum,
       sum(h.delivery_ms_count)::bigint AS delivery_ms_count
FROM mailstream_changed c
JOIN email_events_hourly h ON h.time >= c.start AND h.time < c.start + interval '1 day'
WHERE c.step = 'day'
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12;

CREATE TABLE mailstream_stored_days AS SELECT * FROM mailstream_live_days WITH NO DATA;
CREATE INDEX ON mailstream_stored_days (time);
CREATE INDEX ON mailstream_stored_days ("user", time);

CREATE VIEW email_events_daily AS
SELECT * FROM mailstream_stored_days s
WHERE NOT EXISTS (SELECT FROM mailstream_changed c WHERE c.step = 'day' AND c.start = s.time)
UNION ALL SELECT * FROM mailstream_live_days;

INSERT INTO mailstream_kept (name) VALUES ('email_events_hourly'), ('email_events_daily');
