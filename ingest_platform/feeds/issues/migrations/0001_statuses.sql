-- What people say of an issue's status. The issues themselves lie in the lake; lists join the two by id.

-- An issue without a row is open.
CREATE TABLE issue_statuses (
    workspace text NOT NULL REFERENCES workspaces (name),
    issue_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('open', 'in_progress', 'resolved', 'closed')),
    -- The one before this one.
    previous text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    -- The id of the key that was shown.
    changed_by text NOT NULL,
    PRIMARY KEY (workspace, issue_id)
);
-- Lists by status read all ids of one, or all that are not open.
CREATE INDEX issue_statuses_status ON issue_statuses (workspace, status);

-- Every change, for ever.
CREATE TABLE issue_status_changes (
    change bigint GENERATED ALWAYS AS IDENTITY,
    workspace text NOT NULL,
    issue_id text NOT NULL,
    from_status text NOT NULL,
    to_status text NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text NOT NULL,
    PRIMARY KEY (workspace, issue_id, change)
);
