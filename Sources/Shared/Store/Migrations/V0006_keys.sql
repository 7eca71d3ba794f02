-- Keys with limits, last use and a list; answers kept for requests that are repeated.

ALTER TABLE api_keys ADD COLUMN last_used_at timestamptz;  -- exact to a minute
CREATE INDEX api_keys_by_age ON api_keys (org_id, created_at, id);

-- Limited keys ----------------------------------------------------------------------------------------------------
--
-- A key that is limited to some inboxes or domains speaks as a role of its own, whose policies show it less. The role
-- is granted nothing by default: a table that says nothing about limited keys is closed to them, and policies of this
-- role cost transactions of other keys nothing.

DO $role$
DECLARE
    member text;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'commune_limited') THEN
        BEGIN
            CREATE ROLE commune_limited NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another migration made it this moment
        END;
    END IF;
    BEGIN
        IF current_setting('server_version_num')::int >= 160000 THEN
            IF NOT pg_has_role(current_user, 'commune_limited', 'SET') THEN
                EXECUTE format('GRANT commune_limited TO %I WITH SET TRUE', current_user);
            END IF;
        ELSIF NOT pg_has_role(current_user, 'commune_limited', 'MEMBER') THEN
            EXECUTE format('GRANT commune_limited TO %I', current_user);
        END IF;
    EXCEPTION WHEN unique_violation THEN
        NULL;  -- the same
    END;
    -- Whoever may speak as commune_app may speak as the role that sees less.
    FOR member IN
        SELECT r.rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
        WHERE m.roleid = 'commune_app'::regrole AND NOT pg_has_role(r.oid, 'commune_limited', 'MEMBER')
    LOOP
        BEGIN
            EXECUTE format('GRANT commune_limited TO %I', member);
        EXCEPTION
        WHEN unique_violation OR undefined_object THEN
            NULL;  -- another migration granted it this moment, or the login is gone
        WHEN insufficient_privilege THEN
            RAISE WARNING 'The login % needs: GRANT commune_limited TO %', member, member;
        END;
    END LOOP;
END
$role$;

GRANT USAGE ON SCHEMA public TO commune_limited;
GRANT SELECT ON platform_domains TO commune_limited;

-- The key of this transaction, and the inboxes and domains that it is limited to; null where it is not.
CREATE FUNCTION current_key() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('commune.key', true), '')::uuid $$;
CREATE FUNCTION key_inboxes() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('commune.inboxes', true), '')::uuid[] $$;
CREATE FUNCTION key_domains() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('commune.domains', true), '')::uuid[] $$;

-- In PL/pgSQL, whose plans are kept for the session: as part of each statement these conditions would be planned anew
-- every time.
CREATE FUNCTION key_fits(inbox uuid, domain uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
DECLARE
    inboxes uuid[] := key_inboxes();
    domains uuid[] := key_domains();
BEGIN
    -- Without any limit the role sees nothing.
    RETURN (inboxes IS NOT NULL OR domains IS NOT NULL)
        AND (inboxes IS NULL OR inbox = ANY (inboxes)) AND (domains IS NULL OR domain = ANY (domains));
END
$$;
-- The inboxes and messages that are seen here are those that fit.
CREATE FUNCTION key_sees_inbox(org uuid, inbox uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM inboxes i WHERE i.org_id = org AND i.id = inbox);
END
$$;
CREATE FUNCTION key_sees_message(org uuid, message uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM messages m WHERE m.org_id = org AND m.id = message);
END
$$;
-- A key of some inboxes sees their domains.
CREATE FUNCTION key_sees_domain(org uuid, domain uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN (key_domains() IS NULL OR domain = ANY (key_domains()))
        AND CASE WHEN key_inboxes() IS NULL THEN key_domains() IS NOT NULL
            ELSE EXISTS (SELECT FROM inboxes i WHERE i.org_id = org AND i.domain_id = domain) END;
END
$$;

-- Opens a tenant table to limited keys, as far as `fits` says of its row.
CREATE FUNCTION open_to_limited_keys(
    tenant_table regclass, fits text, privileges text DEFAULT 'SELECT, INSERT, UPDATE, DELETE'
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'CREATE POLICY limited_key ON %s TO commune_limited'
        ' USING (org_id = current_org() AND (%s)) WITH CHECK (org_id = current_org() AND (%2$s))',
        tenant_table, fits);
    EXECUTE format('GRANT %s ON %s TO commune_limited', privileges, tenant_table);
END
$$;

-- What a table's columns say of where its rows belong: an inbox, a domain, a message; null when they say nothing.
CREATE FUNCTION limited_key_condition(tenant_table regclass) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    columns text[] := array(SELECT attname::text FROM pg_attribute
        WHERE attrelid = tenant_table AND attnum > 0 AND NOT attisdropped);
BEGIN
    RETURN CASE
        WHEN tenant_table = 'inboxes'::regclass THEN 'key_fits(id, domain_id)'
        WHEN tenant_table = 'domains'::regclass THEN 'key_sees_domain(org_id, id)'
        WHEN columns @> '{inbox_id, domain_id}' THEN 'key_fits(inbox_id, domain_id)'
        WHEN columns @> '{inbox_id}' THEN 'key_sees_inbox(org_id, inbox_id)'
        -- What is not part of a message yet is its maker's.
        WHEN columns @> '{message_id, key_id}' THEN 'CASE WHEN message_id IS NULL THEN key_id = current_key()'
            ' ELSE key_sees_message(org_id, message_id) END'
        WHEN columns @> '{message_id}' THEN 'key_sees_message(org_id, message_id)'
        WHEN columns @> '{domain_id}' THEN 'key_sees_domain(org_id, domain_id)'
    END;
END
$$;

-- An upload that no message carries yet is seen by the limited key that made it.
DO $uploads$
BEGIN
    IF to_regclass('attachments') IS NOT NULL THEN
        ALTER TABLE attachments ADD COLUMN key_id uuid DEFAULT current_key();
    END IF;
END
$uploads$;

-- Every tenant table that there is, by its columns; tables without any of these stay closed.
SELECT open_to_limited_keys(c.oid::regclass, limited_key_condition(c.oid::regclass))
FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND c.relrowsecurity
    AND limited_key_condition(c.oid::regclass) IS NOT NULL
ORDER BY c.relname;

-- And these, of which columns do not tell.
-- Blobs are found through rows that are limited.
SELECT open_to_limited_keys('blobs', 'true');
SELECT open_to_limited_keys('blob_chunks', 'true');
SELECT open_to_limited_keys('api_key_directory', 'true', 'INSERT');
-- An address is taken before its inbox is there; the inbox itself must fit.
CREATE POLICY limited_key_taking ON shared_addresses FOR INSERT TO commune_limited WITH CHECK (org_id = current_org());
-- A job is started and never looked at; these columns are what ON CONFLICT asks for.
SELECT open_to_limited_keys('jobs', 'true', 'INSERT, SELECT (org_id, queue, unique_key, state)');
-- Keys that are no wider than the one that asks.
SELECT open_to_limited_keys('api_keys', $$
    (key_inboxes() IS NOT NULL OR key_domains() IS NOT NULL)
    AND (key_inboxes() IS NULL OR inbox_ids <> '{}' AND inbox_ids <@ key_inboxes())
    AND (key_domains() IS NULL OR domain_ids <> '{}' AND domain_ids <@ key_domains())
$$);
CREATE POLICY limited_key ON organizations FOR SELECT TO commune_limited USING (id = current_org());
GRANT SELECT ON organizations TO commune_limited;

-- Whom an organization must not write to holds for each of its keys; only what came of its own mail may one change.
CREATE POLICY limited_key_heeding ON suppressions FOR SELECT TO commune_limited USING (org_id = current_org());
SELECT open_to_limited_keys('soft_bounces', 'true');

GRANT EXECUTE ON FUNCTION is_domain_taken(text) TO commune_limited;

-- Repeated requests -----------------------------------------------------------------------------------------------

-- The answer to a request that came with an Idempotency-Key, written by the transaction that did its work.
CREATE TABLE idempotency_keys (
    org_id uuid NOT NULL,
    route text NOT NULL,                  -- method and path of the route table
    idempotency_key text NOT NULL,
    target text NOT NULL,                 -- path and query as they were asked for
    body_sha256 bytea NOT NULL,
    key_id uuid NOT NULL,                 -- the API key that asked
    status smallint NOT NULL,             -- 2xx
    answer bytea NOT NULL,                -- the body, sealed: it may hold a secret that is shown once
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, route, idempotency_key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
SELECT protect_tenant_table('idempotency_keys');
SELECT open_to_limited_keys('idempotency_keys', 'key_id = current_key()');

-- Who calls -------------------------------------------------------------------------------------------------------

GRANT CREATE ON SCHEMA public TO commune_lookup;

-- Like find_api_key, which processes of the version before still ask, with what a cache and the last use need.
CREATE FUNCTION find_caller(wanted bytea)
RETURNS TABLE (org_id uuid, id uuid, name text, scopes text[], inbox_ids uuid[], domain_ids uuid[],
    expires_at timestamptz, use_is_old boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT k.org_id, k.id, k.name, k.scopes, k.inbox_ids, k.domain_ids, k.expires_at,
        k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute'
    FROM api_key_directory d JOIN api_keys k ON k.org_id = d.org_id AND k.id = d.key_id
    WHERE d.hash = wanted AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
$$;
ALTER FUNCTION find_caller(bytea) OWNER TO commune_lookup;

REVOKE CREATE ON SCHEMA public FROM commune_lookup;
REVOKE EXECUTE ON FUNCTION find_caller(bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_caller(bytea) TO commune_app, commune_worker;
