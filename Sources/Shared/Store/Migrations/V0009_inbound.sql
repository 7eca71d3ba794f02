-- Mail for postmaster@, abuse@ and dmarc@ where no inbox has these names, and what a look-up of a recipient tells.

-- null: for inboxes. Else the mail was kept as it came, because our domains take mail for these (RFC 5321 §4.5.1,
-- RFC 2142 §4, RFC 7489 §7), and no job reads it.
ALTER TABLE received_mail ADD COLUMN role text CHECK (role IN ('postmaster', 'abuse', 'dmarc'));
CREATE INDEX received_mail_kept ON received_mail (org_id, role, received_at) WHERE role IS NOT NULL;

-- The same for the platform's own domains and the mail host: the operator's, of no organization. The newest are kept.
CREATE TABLE operator_mail (
    id uuid PRIMARY KEY,
    role text NOT NULL CHECK (role IN ('postmaster', 'abuse', 'dmarc')),
    digest bytea NOT NULL UNIQUE,
    sender text NOT NULL,                 -- reverse-path, "" for <>
    recipients text[] NOT NULL,
    size_bytes bigint NOT NULL,
    client_address text NOT NULL,
    client_name text NOT NULL,
    tls text,
    received_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX operator_mail_by_age ON operator_mail (received_at, id);
CREATE TABLE operator_mail_chunks (
    mail_id uuid NOT NULL REFERENCES operator_mail ON DELETE CASCADE,
    position integer NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (mail_id, position)
);
-- Who writes it need not read it.
GRANT SELECT (id, digest, received_at), INSERT, DELETE ON operator_mail TO commune_app;
GRANT INSERT ON operator_mail_chunks TO commune_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON operator_mail, operator_mail_chunks TO commune_worker;

-- As before, and of a verified domain the organization too where there is no such inbox.
CREATE OR REPLACE FUNCTION find_recipient(wanted_domain text, wanted_local text)
RETURNS TABLE (domain_known boolean, org_id uuid, inbox_id uuid, status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT true, i.org_id, i.id, i.status
    FROM platform_domains p
    LEFT JOIN shared_addresses a ON a.domain_name = p.name AND a.local_part = wanted_local
    LEFT JOIN inboxes i ON i.org_id = a.org_id AND i.id = a.inbox_id AND i.domain_name = a.domain_name
        AND i.local_part = a.local_part AND i.deleted_at IS NULL
    WHERE p.name = wanted_domain
    UNION ALL
    SELECT true, v.org_id, i.id, i.status
    FROM verified_domains v
    LEFT JOIN inboxes i ON i.org_id = v.org_id AND i.domain_id = v.domain_id AND i.local_part = wanted_local
        AND i.deleted_at IS NULL
    WHERE v.name = wanted_domain
$$;
