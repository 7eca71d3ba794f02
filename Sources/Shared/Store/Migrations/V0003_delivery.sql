-- Delivery in depth: who is not written to any more, what was said in the last try, one-click unsubscribe headers, and
-- the way from a token in a return path or a link back to its organization.

-- Addresses that an organization does not write to. Its own affair: another organization's mail is not touched.
CREATE TABLE suppressions (
    org_id uuid NOT NULL,
    address_key text NOT NULL,            -- lower-cased address, as EmailAddress.key makes it
    reason text NOT NULL CHECK (reason IN ('hard_bounce', 'soft_bounce', 'complaint', 'unsubscribe', 'manual')),
    detail text NOT NULL DEFAULT '',      -- the answer of the remote that led to it
    message_id uuid,                      -- the message that it is the consequence of, and where that came from
    inbox_id uuid,
    domain_id uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,               -- null: until it is removed
    PRIMARY KEY (org_id, address_key)
);
CREATE INDEX suppressions_by_time ON suppressions (org_id, created_at, address_key);
SELECT protect_tenant_table('suppressions');

-- Full mailboxes and the like, counted while they come in a row; a success removes the row.
CREATE TABLE soft_bounces (
    org_id uuid NOT NULL,
    address_key text NOT NULL,
    count integer NOT NULL DEFAULT 1,
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, address_key)
);
SELECT protect_tenant_table('soft_bounces');

-- What was said in the last try, at most 8 KiB, without secrets and contents. In the row and not in a table of its
-- own: the row is written anew by the same try, and no statement of the send path reads this column.
ALTER TABLE recipients ADD COLUMN transcript text;

-- Mail of this inbox carries List-Unsubscribe headers (RFC 8058) unless a send says otherwise.
ALTER TABLE inboxes ADD COLUMN list_unsubscribe boolean NOT NULL DEFAULT false;

-- A token holds the last five bytes of its organization's id.
CREATE INDEX organizations_by_hint ON organizations (substring(uuid_send(id) FROM 12));

GRANT SELECT ON organizations TO commune_lookup;
CREATE POLICY lookup ON organizations FOR SELECT TO commune_lookup USING (true);

GRANT CREATE ON SCHEMA public TO commune_lookup;

-- Ids alone, for a token that was verified before it was looked up.
CREATE FUNCTION find_organizations(hint bytea) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT id FROM organizations WHERE substring(uuid_send(id) FROM 12) = hint
$$;
ALTER FUNCTION find_organizations(bytea) OWNER TO commune_lookup;

REVOKE CREATE ON SCHEMA public FROM commune_lookup;
REVOKE EXECUTE ON FUNCTION find_organizations(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_organizations(bytea) TO commune_app, commune_worker;
