-- A series of one key: keys may be longer than an index takes, their digests are not.
CREATE INDEX ON panes (family, md5(key::text), time);
