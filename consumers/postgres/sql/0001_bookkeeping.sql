-- Where each partition of each topic goes on; the row is locked by whoever writes it.
CREATE TABLE mailstream_offsets (
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    written timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

-- Records that could not be stored, whole, with the reason; they are never dropped unseen.
CREATE TABLE mailstream_rejects (
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    written timestamptz NOT NULL,
    rejected timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    detail text NOT NULL,
    key bytea,
    value bytea NOT NULL
);
CREATE INDEX ON mailstream_rejects (rejected);

-- From when on a table holds everything; older rows were let go of.
CREATE TABLE mailstream_kept (
    name text PRIMARY KEY,
    kept_from timestamptz NOT NULL DEFAULT '-infinity'
);
