-- The ledger: workspaces, keys, what was declared, what was accepted and what became of it.
-- The schema is on the search path of every connection (see storage/ledger.py), so names stand bare here.

CREATE TABLE workspaces (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    projects text[] NOT NULL DEFAULT '{}',
    -- {"machine_data": 1500}: requests a minute by feed; absent means the feed's default.
    rate_limits jsonb NOT NULL DEFAULT '{}',
    -- {"datasets": 100000}: records a month by feed, -1 unlimited.
    quotas jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE keys (
    key_id text PRIMARY KEY,
    workspace text NOT NULL REFERENCES workspaces (name),
    project text,
    kind text NOT NULL CHECK (kind IN ('api', 'pat')),
    secret_sha256 bytea NOT NULL CHECK (length(secret_sha256) = 32),
    scopes text[] NOT NULL,
    -- NULL means every site of the workspace.
    sites text[],
    slot text NOT NULL CHECK (slot IN ('primary', 'secondary')),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    -- The key that took this one's place; this one ends with its grace.
    rotated_to text REFERENCES keys (key_id)
);
CREATE INDEX keys_workspace ON keys (workspace);

-- Whatever is declared (sites, machine-data point configs, …), every version kept: a record is judged by the versions
-- that stood when its submission was accepted. One revision is one apply.
CREATE TABLE catalog_revision (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint NOT NULL
);
INSERT INTO catalog_revision (revision) VALUES (0);

CREATE TABLE catalog (
    workspace text NOT NULL REFERENCES workspaces (name),
    kind text NOT NULL,
    id text NOT NULL,
    version integer NOT NULL CHECK (version >= 1),
    revision bigint NOT NULL,
    body jsonb NOT NULL,
    -- A retired entry is as if it did not exist, from its revision on.
    retired boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, kind, id, version)
);

CREATE SEQUENCE fences;

CREATE TABLE jobs (
    -- Order of acceptance. Never claim by "seq > last": identities become visible out of order.
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    workspace text NOT NULL REFERENCES workspaces (name),
    feed text NOT NULL,
    target text,
    origin text NOT NULL,
    state text NOT NULL DEFAULT 'accepted' CHECK (state IN ('accepted', 'processing', 'finished', 'failed')),
    verdict text,
    received bigint,
    accepted bigint,
    rejected bigint,
    created bigint,
    updated bigint,
    unchanged bigint,
    stale bigint,
    superseded bigint,
    duplicate bigint,
    bytes_in bigint NOT NULL,
    file_name text,
    file_sha256 text,
    request_id text,
    accepted_at timestamptz NOT NULL DEFAULT now(),
    -- Day of acceptance in UTC: the partition that Dagster shows, and the unit of backfills and of the archive.
    day date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
    started_at timestamptz,
    validated_at timestamptz,
    stored_at timestamptz,
    finished_at timestamptz,
    cpu_ms bigint,
    bytes_written bigint,
    queue_ms bigint,
    run_id text,
    parent_job_id text,
    duplicate_of text,
    error_code text,
    error_message text,
    -- The claim: who works on it, until when, and the number that only grows.
    load_id text,
    fence bigint,
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    -- Times that it was put back for a fault of ours (the lake away, the disk full); not the submission's doing.
    faults integer NOT NULL DEFAULT 0,
    CHECK ((state IN ('finished', 'failed')) = (finished_at IS NOT NULL)),
    CHECK (state <> 'finished' OR received = accepted + rejected),
    CHECK (state <> 'finished'
        OR accepted = created + updated + unchanged + stale + superseded + duplicate)
) WITH (fillfactor = 70);
CREATE INDEX jobs_open ON jobs (feed, seq) WHERE state IN ('accepted', 'processing');
CREATE INDEX jobs_workspace ON jobs (workspace, seq DESC);
CREATE INDEX jobs_day ON jobs (feed, day, seq);
CREATE INDEX jobs_load ON jobs (load_id) WHERE state = 'processing';

-- The inbox: what was accepted, as it was received, by day so that an archived day is dropped whole.
CREATE TABLE submissions (
    job_id text NOT NULL,
    day date NOT NULL,
    format text NOT NULL,
    encoding text NOT NULL,
    body bytea,
    -- Whether the body lies compressed (storage/packing.py), whatever encoding it came in.
    packed boolean NOT NULL DEFAULT false,
    blob text,
    sites text[],
    -- Key hashes of its records, where a feed's records can be read before they are worked.
    subjects bigint[],
    catalog_revision bigint NOT NULL,
    CHECK ((body IS NULL) <> (blob IS NULL))
) PARTITION BY RANGE (day);
CREATE TABLE submissions_default PARTITION OF submissions DEFAULT;
CREATE INDEX submissions_job ON submissions (job_id);

-- Days whose submissions lie in the blob store instead of the inbox.
CREATE TABLE archived_days (
    feed text NOT NULL,
    day date NOT NULL,
    blobs text[] NOT NULL,
    submissions bigint NOT NULL,
    bytes bigint NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (feed, day)
);

-- One byte a record (domain/outcome.py), compressed with zstd, in input order.
CREATE TABLE outcomes (
    job_id text PRIMARY KEY,
    records bigint NOT NULL,
    codes bytea NOT NULL
);

-- Rejections in blocks of at most 1,000, each block zstd-compressed NDJSON in order of the record index.
CREATE TABLE rejections (
    job_id text NOT NULL,
    block integer NOT NULL,
    first_index bigint NOT NULL,
    last_index bigint NOT NULL,
    count integer NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (job_id, block)
);

CREATE TABLE idempotency (
    workspace text NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    -- NULL until the first one is answered; then the answer, byte for byte.
    body_sha256 bytea,
    status integer,
    headers jsonb,
    response bytea,
    -- The first one is in flight until then, however its process ends.
    in_flight_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, route, key)
);
CREATE INDEX idempotency_age ON idempotency (created_at);

CREATE TABLE rate_buckets (
    bucket text PRIMARY KEY,
    tokens double precision NOT NULL,
    refilled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Dropped files by content: the same bytes have no second effect under any name, unless their job failed.
CREATE TABLE files (
    workspace text NOT NULL,
    feed text NOT NULL,
    target text NOT NULL DEFAULT '',
    sha256 text NOT NULL,
    job_id text NOT NULL,
    name text NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, feed, target, sha256)
);

-- Taken files until they lie in archive/ or quarantine/ with their outcome beside them.
CREATE TABLE taken_files (
    job_id text PRIMARY KEY,
    workspace text NOT NULL,
    feed text NOT NULL,
    -- The feed's name in paths, and the path below landing/<workspace>/<folder>/ as it is shown.
    folder text NOT NULL,
    name text NOT NULL,
    -- Key of the private copy; NULL where none was made: the file lies in its claim, below landing/.held/.
    blob text,
    taken_at timestamptz NOT NULL DEFAULT now()
);

-- Processes that are alive, by heartbeat; the launcher and the safety net ask here.
CREATE TABLE processes (
    id text PRIMARY KEY,
    part text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    beat_at timestamptz NOT NULL DEFAULT now()
);

-- Secrets that all processes share (the key that signs cursors), made by the first that needs one.
CREATE TABLE secrets (
    name text PRIMARY KEY,
    secret bytea NOT NULL
);
