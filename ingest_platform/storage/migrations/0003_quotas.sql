-- How many records each workspace has had accepted of a feed in a month of UTC. Its limit is in workspaces.quotas.

CREATE TABLE quota_usage (
    workspace text NOT NULL REFERENCES workspaces (name),
    feed text NOT NULL,
    -- YYYY-MM, by the database's clock.
    period text NOT NULL CHECK (period ~ '^\d{4,}-\d\d$'),
    used bigint NOT NULL CHECK (used >= 0),
    PRIMARY KEY (workspace, feed, period)
);
