-- Which wordings are one pattern, what people decided about that, and what has changed. Issues lie in the lake, with the
-- fingerprint of their wording; nothing of this table is copied there.

CREATE TABLE patterns (
    -- The order in which they were found: of two that turn out to be one, the older stays.
    seq bigint GENERATED ALWAYS AS IDENTITY,
    id text PRIMARY KEY,
    workspace text NOT NULL REFERENCES workspaces (name),
    name text NOT NULL,
    -- The one that it went into; its id leads there for ever.
    merged_into text REFERENCES patterns (id),
    -- When those who asked were told that it is more than a single case.
    announced_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (merged_into <> id)
);
CREATE INDEX patterns_workspace ON patterns (workspace, seq);
CREATE INDEX patterns_merged ON patterns (workspace, merged_into) WHERE merged_into IS NOT NULL;

-- Of each workspace, a number that grows with every change of what follows; and how often it was grouped anew.
CREATE TABLE pattern_revisions (
    workspace text PRIMARY KEY REFERENCES workspaces (name),
    revision bigint NOT NULL,
    generation bigint NOT NULL DEFAULT 0
);

CREATE TABLE issue_fingerprints (
    -- The order in which they were seen first.
    seq bigint GENERATED ALWAYS AS IDENTITY,
    workspace text NOT NULL,
    fingerprint text NOT NULL,
    wording text NOT NULL,
    -- The group that was found for it, and why: first, same, variable or similar.
    found_in text NOT NULL REFERENCES patterns (id),
    found_by text NOT NULL CHECK (found_by IN ('first', 'same', 'variable', 'similar')),
    confidence real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    -- [["word", share], …]
    terms jsonb NOT NULL,
    -- The pattern that a person took it to, by splitting another.
    moved_to text REFERENCES patterns (id),
    -- The pattern that it belongs to, all things considered.
    pattern_id text NOT NULL REFERENCES patterns (id),
    -- The revision in which the group was found, and the one in which it was last found to be another.
    created_revision bigint NOT NULL,
    moved_revision bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, fingerprint)
);
CREATE INDEX issue_fingerprints_pattern ON issue_fingerprints (workspace, pattern_id);
CREATE INDEX issue_fingerprints_seq ON issue_fingerprints (workspace, seq);

-- Issues that a person put into a pattern, whatever their wording is.
CREATE TABLE issue_pins (
    workspace text NOT NULL REFERENCES workspaces (name),
    issue_id text NOT NULL,
    pinned_to text NOT NULL REFERENCES patterns (id),
    -- Where that one has gone since.
    pattern_id text NOT NULL REFERENCES patterns (id),
    pinned_by text NOT NULL,
    pinned_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace, issue_id)
);
CREATE INDEX issue_pins_pattern ON issue_pins (workspace, pattern_id);

-- Every change, for ever; a person's can be undone.
CREATE TABLE pattern_changes (
    change bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace text NOT NULL,
    -- grouped: two were found to be one.
    kind text NOT NULL CHECK (kind IN ('merged', 'split', 'pinned', 'unpinned', 'grouped')),
    -- The pattern that stays, that was split, or that was pinned to; and the one that went into it or was split off.
    pattern_id text NOT NULL,
    other_id text,
    -- What was there before, by fingerprint (split) or issue (pins).
    before jsonb NOT NULL DEFAULT '{}',
    -- The id of a key; null for what was found.
    changed_by text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    undone_by text,
    undone_at timestamptz,
    CHECK ((undone_by IS NULL) = (undone_at IS NULL))
);
CREATE INDEX pattern_changes_pattern ON pattern_changes (workspace, pattern_id, change);
CREATE INDEX pattern_changes_other ON pattern_changes (workspace, other_id, change);
