-- Bytes that may not be kept once they were worked: those of streams that mask.

-- The file's bytes are neither archived nor kept as a blob; only its outcome is filed.
ALTER TABLE taken_files ADD COLUMN forgotten boolean NOT NULL DEFAULT false;

-- Blobs whose submissions are gone. They are deleted right after the commit that says so, or by the next sweep.
CREATE TABLE forgotten_blobs (
    key text PRIMARY KEY,
    forgotten_at timestamptz NOT NULL DEFAULT now()
);

-- No samples of bodies in PostgreSQL's statistics: they would outlive those that may not be kept. Partitions do not
-- inherit this; new ones get it when they are made (storage/inbox.py).
ALTER TABLE submissions ALTER COLUMN body SET STATISTICS 0;
DO $$
DECLARE part regclass;
BEGIN
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'submissions'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN body SET STATISTICS 0', part);
    END LOOP;
END
$$;
