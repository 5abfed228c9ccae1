-- Bytes that may not be kept once they were worked: those of streams that mask.

-- The file's bytes are neither archived nor kept as a blob; only its outcome is filed.
ALTER TABLE taken_files ADD COLUMN forgotten boolean NOT NULL DEFAULT false;

-- Blobs whose submissions are gone. They are deleted right after the commit that says so, or by the next sweep.
CREATE TABLE forgotten_blobs (
    key text PRIMARY KEY,
    forgotten_at timestamptz NOT NULL DEFAULT now()
);
