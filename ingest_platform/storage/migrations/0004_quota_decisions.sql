-- Whether the records of a file were counted, from the moment that they were read until its job has ended: whoever works
-- on it next, after a crash, finds what was decided, and nothing is counted twice.

CREATE TABLE quota_decisions (
    job_id text PRIMARY KEY,
    workspace text NOT NULL,
    feed text NOT NULL,
    records bigint NOT NULL CHECK (records >= 0),
    -- Where they were counted; NULL if they did not fit.
    period text,
    -- Why they were not counted; what the job's error says.
    refusal text
);
