-- Attachments, and blobs that may lie outside the database.

-- Where the bytes of a blob are, and whether it is whole. A blob outside the database has its row before its object
-- ('pending'), so that an object whose transaction never came is found and removed; 'removing' is the way out of both
-- storages: no reader finds it, and the sweep takes bytes and row away.
ALTER TABLE blobs
    ADD COLUMN storage text NOT NULL DEFAULT 'database' CHECK (storage IN ('database', 's3')),
    ADD COLUMN state text NOT NULL DEFAULT 'stored' CHECK (state IN ('stored', 'pending', 'removing'));
CREATE INDEX blobs_to_sweep ON blobs (state, created_at) WHERE state <> 'stored';

CREATE TABLE attachments (
    org_id uuid NOT NULL,
    id uuid NOT NULL,                     -- 32 hexadecimal digits outside
    filename text NOT NULL,
    mime_type text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 bytea NOT NULL,
    source text NOT NULL CHECK (source IN ('upload', 'email')),
    message_id uuid,                      -- the first message that carried it; null until then
    blob_id uuid NOT NULL,                -- inboxes that got the same mail share it
    content_id text,                      -- without angle brackets; HTML refers to it as cid:…
    is_inline boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
CREATE INDEX attachments_by_message ON attachments (org_id, message_id) WHERE message_id IS NOT NULL;
CREATE INDEX attachments_by_blob ON attachments (org_id, blob_id);
SELECT protect_tenant_table('attachments');
