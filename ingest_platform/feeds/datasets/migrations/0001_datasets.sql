-- Datasets of projects, and the one schema of each. What was sent to them lies in the inbox and in the lake.

CREATE TABLE datasets (
    -- One sequence for all workspaces: the id stands in paths, and in the name of the dataset's table.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workspace text NOT NULL REFERENCES workspaces (name),
    project text NOT NULL,
    name text NOT NULL,
    slug text NOT NULL,
    description text NOT NULL,
    -- The one that the routes without an id speak of: the first of its project.
    is_default boolean NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    -- A deleted dataset is as if it had never been; its name may be used again, its id never.
    deleted_at timestamptz
);
CREATE UNIQUE INDEX datasets_name ON datasets (workspace, project, name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX datasets_slug ON datasets (workspace, project, slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX datasets_default ON datasets (workspace, project) WHERE is_default AND deleted_at IS NULL;
CREATE INDEX datasets_project ON datasets (workspace, project, id) WHERE deleted_at IS NULL;

-- Never changed: whoever has read one may keep it.
CREATE TABLE dataset_schemas (
    dataset_id bigint PRIMARY KEY REFERENCES datasets (id),
    version integer NOT NULL DEFAULT 1 CHECK (version = 1),
    -- {"country": "string", …}; json and not jsonb, which would forget the order in which they were declared.
    fields json NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now()
);

CREATE VIEW standing_datasets AS
SELECT datasets.id, workspace, project, name, slug, description, is_default, created_at, fields
FROM datasets LEFT JOIN dataset_schemas ON dataset_schemas.dataset_id = datasets.id
WHERE deleted_at IS NULL;
