-- Domains of organizations: their records, their keys, who has verified a name; webhooks of inboxes.

CREATE TABLE domains (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,                   -- lower-case A-labels
    given_name text NOT NULL,             -- as the caller wrote it
    region text NOT NULL,
    status text NOT NULL DEFAULT 'not_started'
        CHECK (status IN ('not_started', 'pending', 'verified', 'failed')),
    failure text,                         -- why it failed, as a sentence
    records jsonb NOT NULL,               -- what must stand in the DNS, and what was found there
    verify_from timestamptz,              -- when the verification began that is given up after 72 hours
    next_check_at timestamptz,            -- null: nobody looks by itself
    checked_at timestamptz,
    verified_at timestamptz,
    records_lost_at timestamptz,          -- since when a verified domain lacks a record that it needs
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX domains_name ON domains (org_id, name);
CREATE INDEX domains_by_name ON domains (name);
CREATE INDEX domains_by_age ON domains (org_id, created_at, id);
CREATE INDEX domains_due ON domains (next_check_at) WHERE next_check_at IS NOT NULL;
SELECT protect_tenant_table('domains');

CREATE TABLE domain_keys (
    org_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    algorithm text NOT NULL CHECK (algorithm IN ('rsa', 'ed25519')),
    selector text NOT NULL,
    private_key bytea NOT NULL,           -- sealed: PKCS#8, or the 32 bytes of Ed25519
    public_record text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, domain_id, algorithm)
);
SELECT protect_tenant_table('domain_keys');

-- Directory: a name belongs to the first organization that verifies it.
CREATE TABLE verified_domains (
    name text PRIMARY KEY,
    org_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    verified_at timestamptz NOT NULL DEFAULT now()
);
SELECT protect_tenant_table('verified_domains');

ALTER TABLE inboxes
    ADD COLUMN webhook_endpoint text,
    ADD COLUMN webhook_events text[],
    ADD COLUMN webhook_secret bytea;      -- sealed
CREATE INDEX inboxes_by_age ON inboxes (org_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX inboxes_by_domain ON inboxes (org_id, domain_id, created_at, id) WHERE deleted_at IS NULL;

-- Look-ups before, or beyond, the organization.
GRANT SELECT ON verified_domains TO commune_lookup;
CREATE POLICY lookup ON verified_domains FOR SELECT TO commune_lookup USING (true);

GRANT CREATE ON SCHEMA public TO commune_lookup;

-- Whether a name is the platform's or was verified by another organization than the one that asks.
CREATE FUNCTION is_domain_taken(wanted text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT EXISTS (SELECT 1 FROM platform_domains p WHERE p.name = wanted)
        OR EXISTS (SELECT 1 FROM verified_domains v WHERE v.name = wanted AND v.org_id IS DISTINCT FROM current_org())
$$;
ALTER FUNCTION is_domain_taken(text) OWNER TO commune_lookup;

-- A domain of an organization is ours once it is verified; an inbox of it is then the verifying organization's.
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
    SELECT true, i.org_id, i.id, i.status
    FROM verified_domains v
    LEFT JOIN inboxes i ON i.org_id = v.org_id AND i.domain_id = v.domain_id AND i.local_part = wanted_local
        AND i.deleted_at IS NULL
    WHERE v.name = wanted_domain
$$;

REVOKE CREATE ON SCHEMA public FROM commune_lookup;
REVOKE EXECUTE ON FUNCTION is_domain_taken(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION is_domain_taken(text) TO commune_app, commune_worker;
