-- Webhooks: who is told what, what was announced, and each delivery of it.

CREATE TABLE webhooks (
    id text PRIMARY KEY,
    workspace text NOT NULL REFERENCES workspaces (name),
    url text NOT NULL,
    events text[] NOT NULL CHECK (cardinality(events) > 0),
    description text NOT NULL DEFAULT '',
    -- As it is: every delivery is signed with it. It leaves the ledger in no answer and no log.
    secret text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- Nothing is announced to a disabled one; its receiver has said that it is gone for good.
    disabled_at timestamptz,
    -- A deleted one is kept until its deliveries are forgotten, so that nobody who announces waits for the deletion.
    deleted_at timestamptz
);
CREATE INDEX webhooks_workspace ON webhooks (workspace) WHERE deleted_at IS NULL;

-- What was announced, as it is sent: written by the transaction that makes it true.
CREATE TABLE webhook_events (
    id text PRIMARY KEY,
    workspace text NOT NULL,
    type text NOT NULL,
    body bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhook_events_age ON webhook_events (created_at);

CREATE TABLE webhook_deliveries (
    -- The order in which they are listed.
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    webhook_id text NOT NULL,
    event_id text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'delivered', 'dead')),
    -- How often it was begun to send it; also the fence: a result counts only for the attempt that was begun last.
    attempts integer NOT NULL DEFAULT 0,
    -- When it is due; of one that is being sent, when its sender is taken for gone.
    due_at timestamptz NOT NULL DEFAULT now(),
    -- [{"attempt", "at", "duration_ms", "response_code", "error"}], the latest last.
    log jsonb NOT NULL DEFAULT '[]',
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    redelivery_of text
) WITH (fillfactor = 70);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at) WHERE state IN ('pending', 'sending');
CREATE INDEX webhook_deliveries_listed ON webhook_deliveries (webhook_id, seq DESC);
CREATE INDEX webhook_deliveries_event ON webhook_deliveries (event_id);

-- Secrets of what `ingest apply` declares, kept apart from the catalog, whose entries are shown. Whoever calls with such
-- a secret names the id alone, so an id is one workspace's in the whole platform.
CREATE TABLE declared_secrets (
    kind text NOT NULL,
    id text NOT NULL,
    workspace text NOT NULL REFERENCES workspaces (name),
    secret text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, id)
);
