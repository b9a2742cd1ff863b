-- The columns of the tables; the next migration makes partitioned tables or hypertables of them.
CREATE TABLE mailstream_shape_events (
    time timestamptz NOT NULL,
    received timestamptz,
    event_type text NOT NULL,
    source text NOT NULL,
    event_id text NOT NULL,
    feed text,
    origin text,
    direction text,
    is_dsn boolean NOT NULL,
    is_probe boolean NOT NULL,
    "user" text,
    login text,
    auth_user text,
    from_user text,
    from_domain text,
    from_address text,
    to_user text,
    to_domain text,
    to_hash text,
    sending_ip text,
    client_ip text,
    auth_method text,
    auth_result text,
    auth_scope text,
    mta_node text,
    zone text,
    mx_host text,
    mx_ip text,
    router text,
    transport text,
    message_id text,
    queue_id text,
    seq text,
    attempt integer,
    response_code integer,
    enhanced_status text,
    response_message text,
    error_code text,
    error_message text,
    delivery_time_ms double precision,
    queue_time_ms double precision,
    smtp_time_ms double precision,
    size_bytes bigint,
    recipients bigint,
    spam_score double precision,
    provider text,
    bounce_class text,
    bounce_category text,
    late boolean NOT NULL,
    route text,
    outcome text,
    failed_phase text,
    error_class text,
    folder text,
    extra jsonb
);

CREATE TABLE mailstream_shape_panes (
    time timestamptz NOT NULL,
    length_s integer NOT NULL,
    family text NOT NULL,
    key jsonb NOT NULL,
    event_type text NOT NULL,
    count bigint NOT NULL,
    recipients bigint NOT NULL,
    bytes bigint NOT NULL,
    delivery_ms_sum double precision NOT NULL,
    delivery_ms_buckets bigint[] NOT NULL,
    partial boolean NOT NULL
);

CREATE TABLE mailstream_shape_metrics (
    time timestamptz NOT NULL,
    node text NOT NULL,
    metric text NOT NULL,
    labels jsonb NOT NULL,
    value double precision NOT NULL
);

CREATE TABLE mailstream_shape_others (
    what text NOT NULL,
    LIKE mailstream_shape_metrics INCLUDING ALL
);

CREATE TABLE mailstream_shape_heartbeats (
    time timestamptz NOT NULL,
    node text NOT NULL,
    role text NOT NULL,
    version text NOT NULL,
    boot_id text NOT NULL,
    last_seq bigint NOT NULL,
    buffered bigint NOT NULL,
    dropped_total bigint NOT NULL
);
