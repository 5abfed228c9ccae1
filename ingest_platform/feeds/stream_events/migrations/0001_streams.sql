-- Streams: what is to be delivered to which destination, each delivery and what became of it, and the accounts of it.
-- The events themselves lie in the lake; here they are named by their places: the number of the job that accepted them
-- (`seq`) and their index in it. Hours are those of acceptance, in UTC.

-- Events of one load that wait to be put into a delivery: of one version of a stream, for one destination. Written by
-- the transaction that settles the load, gone once they are in a delivery.
CREATE TABLE stream_parcels (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace text NOT NULL,
    destination text NOT NULL,
    stream_id text NOT NULL,
    stream_version integer NOT NULL,
    hour timestamptz NOT NULL,
    load_id text NOT NULL,
    -- The jobs that have events in it, ascending.
    seqs bigint[] NOT NULL CHECK (cardinality(seqs) > 0),
    events bigint NOT NULL CHECK (events > 0),
    -- Of the events as JSON.
    bytes bigint NOT NULL,
    consigned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX stream_parcels_waiting ON stream_parcels (workspace, destination, id);

-- Events that are sent together, the same ones in every attempt but for those that are done.
CREATE TABLE stream_deliveries (
    -- The order in which they were made.
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    workspace text NOT NULL,
    destination text NOT NULL,
    stream_id text NOT NULL,
    stream_version integer NOT NULL,
    hour timestamptz NOT NULL,
    -- Which events: those of these jobs for the destination; of them, the ones from the first place to the last, if it
    -- is a part of what was consigned together; or exactly those that are listed, if they are delivered anew.
    seqs bigint[] NOT NULL CHECK (cardinality(seqs) > 0),
    first_seq bigint,
    first_index bigint,
    last_seq bigint,
    last_index bigint,
    item_seqs bigint[],
    item_indexes bigint[],
    -- Those that are still to be sent; NULL: all.
    pending_seqs bigint[],
    pending_indexes bigint[],
    events bigint NOT NULL CHECK (events > 0),
    pending bigint NOT NULL,
    delivered bigint NOT NULL DEFAULT 0,
    dead bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL,
    -- Whether it is known to be small enough to be sent as it is; until then it may be parted, and is not sent.
    fixed boolean NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sending', 'delivered', 'dead')),
    -- How often it was begun to send it; also the fence: an outcome counts only for the attempt that was begun last.
    attempts integer NOT NULL DEFAULT 0,
    -- How often whoever sent it was gone before the outcome.
    lost integer NOT NULL DEFAULT 0,
    -- When it is due; of one that is being sent, when its sender is taken for gone.
    due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- When the oldest of its events was consigned.
    consigned_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    first_attempt_at timestamptz,
    finished_at timestamptz,
    -- Why the last attempt did not deliver everything.
    reason text,
    -- [{"attempt", "at", "duration_ms", "delivered", "retry", "dead", "reason"}], the latest last, and no more than are read.
    log jsonb NOT NULL DEFAULT '[]',
    CHECK (events = pending + delivered + dead),
    CHECK ((pending = 0) = (state IN ('delivered', 'dead'))),
    CHECK ((pending = 0) = (finished_at IS NOT NULL)),
    CHECK ((first_seq IS NULL) = (last_index IS NULL)),
    CHECK (cardinality(item_seqs) = events AND cardinality(item_indexes) = events OR item_seqs IS NULL),
    CHECK (cardinality(pending_seqs) = pending AND cardinality(pending_indexes) = pending OR pending_seqs IS NULL)
) WITH (fillfactor = 70);
CREATE INDEX stream_deliveries_due ON stream_deliveries (workspace, destination, due_at, seq)
    WHERE state IN ('waiting', 'sending');
CREATE INDEX stream_deliveries_listed ON stream_deliveries (workspace, stream_id, seq DESC);
CREATE INDEX stream_deliveries_old ON stream_deliveries (finished_at) WHERE finished_at IS NOT NULL;
-- By which the deliveries of one event are found.
CREATE INDEX stream_deliveries_seqs ON stream_deliveries USING gin (seqs);

-- Events that a destination does not take, or did not take for too long.
CREATE TABLE stream_dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace text NOT NULL,
    destination text NOT NULL,
    stream_id text NOT NULL,
    stream_version integer NOT NULL,
    hour timestamptz NOT NULL,
    delivery_id text NOT NULL,
    event_id text NOT NULL,
    seq bigint NOT NULL,
    index bigint NOT NULL,
    reason text NOT NULL,
    died_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The delivery in which it is sent anew; from then on it is history.
    replayed_in text,
    replayed_at timestamptz
);
CREATE INDEX stream_dead_letters_listed ON stream_dead_letters (workspace, stream_id, id) WHERE replayed_in IS NULL;
CREATE INDEX stream_dead_letters_destination ON stream_dead_letters (workspace, destination, id)
    WHERE replayed_in IS NULL;
CREATE INDEX stream_dead_letters_delivery ON stream_dead_letters (delivery_id, seq, index);

-- How each destination does. There is a row as soon as there is anything for it.
CREATE TABLE stream_destinations (
    workspace text NOT NULL,
    destination text NOT NULL,
    -- Deliveries in a row that it did not take for a while.
    failures integer NOT NULL DEFAULT 0,
    -- Nothing is sent until then; after that one delivery finds out.
    open_until timestamptz,
    -- Whether it can't even be opened: it is retired, or its declaration is of no known type.
    blocked boolean NOT NULL DEFAULT false,
    reason text,
    -- The declaration that this is said of, by its version and the time of its secrets: another one is tried at once.
    declared text,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (workspace, destination)
);

-- The accounts. What the ingest writes and what the deliveries write are tables of their own, so that neither waits for
-- the other.
CREATE TABLE stream_counts (
    workspace text NOT NULL,
    stream_id text NOT NULL,
    hour timestamptz NOT NULL,
    received bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    dropped bigint NOT NULL DEFAULT 0,
    sampled_out bigint NOT NULL DEFAULT 0,
    routed bigint NOT NULL DEFAULT 0,
    -- Events of which a rule could not be judged, because a field has another type.
    faults bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, stream_id, hour)
);
CREATE TABLE stream_rule_counts (
    workspace text NOT NULL,
    stream_id text NOT NULL,
    hour timestamptz NOT NULL,
    rule text NOT NULL,
    matched bigint NOT NULL DEFAULT 0,
    kept bigint NOT NULL DEFAULT 0,
    faults bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, stream_id, hour, rule)
);
CREATE TABLE stream_consigned (
    workspace text NOT NULL,
    stream_id text NOT NULL,
    destination text NOT NULL,
    hour timestamptz NOT NULL,
    events bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, stream_id, destination, hour)
);
CREATE TABLE stream_delivered (
    workspace text NOT NULL,
    stream_id text NOT NULL,
    destination text NOT NULL,
    hour timestamptz NOT NULL,
    delivered bigint NOT NULL DEFAULT 0,
    -- Without those that are delivered anew.
    dead bigint NOT NULL DEFAULT 0 CHECK (dead >= 0),
    PRIMARY KEY (workspace, stream_id, destination, hour)
);
