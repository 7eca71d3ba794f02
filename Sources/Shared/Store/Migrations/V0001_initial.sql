-- The first schema: tenants, mail in both directions, the job queue.
--
-- org_id leads every tenant table's primary key, so that the tables can be sharded by it later. Row-level security
-- is forced on all of them; the three roles and the rules are told in docs/ARCHITECTURE.md, "Tenants".

-- Roles belong to the whole PostgreSQL server, so another database may have made them already.
DO $roles$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['commune_app', 'commune_worker', 'commune_lookup'] LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;  -- another migration made it this moment
            END;
        END IF;
        -- From version 16 on, whoever makes a role may administer it, and still has to be allowed to become it.
        IF current_setting('server_version_num')::int >= 160000 THEN
            IF NOT pg_has_role(current_user, wanted, 'SET') THEN
                EXECUTE format('GRANT %I TO %I WITH SET TRUE', wanted, current_user);
            END IF;
        ELSIF NOT pg_has_role(current_user, wanted, 'MEMBER') THEN
            EXECUTE format('GRANT %I TO %I', wanted, current_user);
        END IF;
    END LOOP;
END
$roles$;

GRANT USAGE ON SCHEMA public TO commune_app, commune_worker, commune_lookup;

-- The organization a transaction speaks for; null, and so no row, when none was set.
CREATE FUNCTION current_org() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT nullif(current_setting('commune.org', true), '')::uuid $$;

-- Closes a tenant table: the application sees its organization's rows, a worker all; any other role none, unless it
-- is a member of one of these, as the owner is.
CREATE FUNCTION protect_tenant_table(tenant_table regclass, org_column text DEFAULT 'org_id') RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant_table);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenant_table);
    EXECUTE format(
        'CREATE POLICY tenant ON %s TO commune_app USING (%2$I = current_org()) WITH CHECK (%2$I = current_org())',
        tenant_table, org_column);
    EXECUTE format('CREATE POLICY worker ON %s TO commune_worker USING (true) WITH CHECK (true)', tenant_table);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO commune_app, commune_worker', tenant_table);
END
$$;

-- Organizations and keys ------------------------------------------------------------------------------------------

CREATE TABLE organizations (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
SELECT protect_tenant_table('organizations', 'id');

CREATE TABLE api_keys (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    hash bytea NOT NULL,              -- SHA-256 of the key
    hint text NOT NULL,               -- its first characters, to tell keys apart in lists
    scopes text[] NOT NULL,
    inbox_ids uuid[] NOT NULL DEFAULT '{}',   -- empty: no limit
    domain_ids uuid[] NOT NULL DEFAULT '{}',
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
SELECT protect_tenant_table('api_keys');

-- Directories: what must be unique, or found, across organizations. Small, and never sharded.
CREATE TABLE api_key_directory (
    hash bytea PRIMARY KEY,
    org_id uuid NOT NULL,
    key_id uuid NOT NULL
);
SELECT protect_tenant_table('api_key_directory');

-- The platform's own domains, on which every organization may have inboxes. Not a tenant table: the private keys
-- are sealed, the rest is public.
CREATE TABLE platform_domains (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    dkim_rsa_private bytea NOT NULL,      -- sealed PKCS#8
    dkim_rsa_record text NOT NULL,
    dkim_ed25519_private bytea NOT NULL,  -- sealed, 32 bytes
    dkim_ed25519_record text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON platform_domains TO commune_app, commune_worker;

-- Inboxes ---------------------------------------------------------------------------------------------------------

CREATE TABLE inboxes (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    domain_id uuid NOT NULL,
    domain_name text NOT NULL,
    local_part text NOT NULL,
    display_name text,
    status text CHECK (status IN ('active', 'inactive')),
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX inboxes_address ON inboxes (org_id, domain_id, local_part) WHERE deleted_at IS NULL;
SELECT protect_tenant_table('inboxes');

-- On the platform's domains a local part belongs to the first organization that takes it.
CREATE TABLE shared_addresses (
    domain_name text NOT NULL,
    local_part text NOT NULL,
    org_id uuid NOT NULL,
    inbox_id uuid NOT NULL,
    PRIMARY KEY (domain_name, local_part)
);
SELECT protect_tenant_table('shared_addresses');

-- Threads and messages --------------------------------------------------------------------------------------------

CREATE TABLE threads (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    inbox_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    subject text NOT NULL,
    base_subject text NOT NULL,           -- RFC 5256 §2.1
    first_message_at timestamptz NOT NULL DEFAULT now(),
    last_message_at timestamptz NOT NULL DEFAULT now(),
    message_count integer NOT NULL DEFAULT 0,
    snippet text NOT NULL DEFAULT '',
    last_direction text NOT NULL CHECK (last_direction IN ('inbound', 'outbound')),
    has_attachments boolean NOT NULL DEFAULT false,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX threads_by_inbox ON threads (org_id, inbox_id, last_message_at DESC, id DESC);
CREATE INDEX threads_by_domain ON threads (org_id, domain_id, last_message_at DESC, id DESC);
SELECT protect_tenant_table('threads');

CREATE TABLE messages (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    thread_id uuid NOT NULL,
    inbox_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    direction text NOT NULL CHECK (direction IN ('inbound', 'outbound')),
    rfc_message_id text NOT NULL,         -- with its angle brackets
    sender text NOT NULL,                 -- bare address of the header's From, lower-cased
    subject text NOT NULL,
    participants jsonb NOT NULL,          -- [{"role", "identity"}]; never a Bcc of inbound mail
    attachments text[] NOT NULL DEFAULT '{}',
    metadata jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
CREATE INDEX messages_by_thread ON messages (org_id, thread_id, created_at, id);
CREATE INDEX messages_by_inbox ON messages (org_id, inbox_id, created_at, id);
CREATE INDEX messages_by_domain ON messages (org_id, domain_id, created_at, id);
CREATE INDEX messages_by_sender ON messages (org_id, sender, created_at, id);
SELECT protect_tenant_table('messages');

-- What was said, in a table of its own: lists need not read it, and it can be encrypted or expired by itself.
CREATE TABLE message_bodies (
    org_id uuid NOT NULL,
    message_id uuid NOT NULL,
    content text NOT NULL,
    content_html text,
    -- What composing needs again at every try: mailboxes with their names, custom headers, In-Reply-To and
    -- References. Of inbound mail the last two only, for the answer.
    composition jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (org_id, message_id)
);
SELECT protect_tenant_table('message_bodies');

-- Every Message-ID we sent, received, or saw cited, so that answers and late parents find their thread.
CREATE TABLE message_references (
    org_id uuid NOT NULL,
    rfc_id_digest bytea NOT NULL,         -- first 16 bytes of SHA-256 of the Message-ID
    inbox_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    PRIMARY KEY (org_id, rfc_id_digest, inbox_id)
);
CREATE INDEX message_references_by_thread ON message_references (org_id, thread_id);
SELECT protect_tenant_table('message_references');

CREATE TABLE recipients (
    org_id uuid NOT NULL,
    message_id uuid NOT NULL,
    ordinal smallint NOT NULL,
    role text NOT NULL CHECK (role IN ('to', 'cc', 'bcc')),
    address text NOT NULL,                -- as given
    domain text NOT NULL,                 -- lower-cased A-label, the grain of a send job
    state text NOT NULL DEFAULT 'queued' CHECK (state IN
        ('queued', 'sent', 'delivered', 'deferred', 'bounced', 'failed', 'complained', 'suppressed')),
    attempts integer NOT NULL DEFAULT 0,
    remote_mx text,
    tls text,                             -- protocol version of the last try, null in clear
    last_reply text,                      -- last SMTP answer, or why none came
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, message_id, ordinal)
);
SELECT protect_tenant_table('recipients');

CREATE TABLE delivery_events (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    message_id uuid NOT NULL,
    inbox_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    event_type text NOT NULL,
    recipient text,
    detail text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
CREATE INDEX delivery_events_by_message ON delivery_events (org_id, message_id, id);
-- A message is told of as sent once, however many domains it goes to.
CREATE UNIQUE INDEX delivery_events_sent_once ON delivery_events (org_id, message_id) WHERE event_type = 'email.sent';
CREATE INDEX delivery_events_by_inbox ON delivery_events (org_id, inbox_id, id);
SELECT protect_tenant_table('delivery_events');

-- Mail as it came, before it is read ------------------------------------------------------------------------------

CREATE TABLE blobs (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    size_bytes bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
SELECT protect_tenant_table('blobs');

CREATE TABLE blob_chunks (
    org_id uuid NOT NULL,
    blob_id uuid NOT NULL,
    position integer NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (org_id, blob_id, position)
);
ALTER TABLE blob_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;  -- mail is compressed already, or not worth it
SELECT protect_tenant_table('blob_chunks');

CREATE TABLE received_mail (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    digest bytea NOT NULL,                -- SHA-256 over envelope and content: a message sent again is the same
    sender text NOT NULL,                 -- reverse-path, "" for <>
    recipients jsonb NOT NULL,            -- [{"address", "inbox_id"}]
    raw_blob uuid NOT NULL,
    size_bytes bigint NOT NULL,
    client_address text NOT NULL,
    client_name text NOT NULL,            -- its EHLO argument
    tls text,
    received_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX received_mail_once ON received_mail (org_id, digest);
SELECT protect_tenant_table('received_mail');

-- The queue: PostgreSQL is the truth ------------------------------------------------------------------------------

CREATE TYPE job_state AS ENUM ('queued', 'running', 'succeeded', 'dead', 'cancelled');

CREATE TABLE jobs (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    queue text NOT NULL,
    kind text NOT NULL,
    lane text NOT NULL,
    priority smallint NOT NULL DEFAULT 1, -- 0 first
    payload jsonb NOT NULL,
    state job_state NOT NULL DEFAULT 'queued',
    run_at timestamptz NOT NULL DEFAULT now(),
    attempt integer NOT NULL DEFAULT 0,   -- tries that were claimed and not handed back
    max_attempts integer NOT NULL,
    crash_count integer NOT NULL DEFAULT 0,
    gen integer NOT NULL DEFAULT 0,       -- the fence: grows at every claim and reap
    worker_id uuid,
    started_at timestamptz,
    finished_at timestamptz,
    last_error text,
    unique_key text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
-- What the feeder walks, lane by lane, the next to run first.
CREATE INDEX jobs_waiting ON jobs (queue, org_id, lane, priority, run_at, id) WHERE state = 'queued';
CREATE INDEX jobs_running ON jobs (worker_id) WHERE state = 'running';
CREATE INDEX jobs_dead ON jobs (queue, finished_at) WHERE state = 'dead';
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE state IN ('succeeded', 'cancelled');
CREATE UNIQUE INDEX jobs_unique_key ON jobs (org_id, queue, unique_key)
    WHERE unique_key IS NOT NULL AND state IN ('queued', 'running');
SELECT protect_tenant_table('jobs');

-- One row a worker process, renewed every few seconds, with what it runs.
CREATE TABLE workers (
    id uuid PRIMARY KEY,
    host text NOT NULL,
    process integer NOT NULL,
    queues text[] NOT NULL,
    running uuid[] NOT NULL DEFAULT '{}',
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO commune_worker;

-- Whose turn a periodic chore is: the worker that moves next_at has it.
CREATE TABLE chores (
    name text PRIMARY KEY,
    next_at timestamptz NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON chores TO commune_worker;

-- Pauses, drains, limits and weights: they survive a restart of everything.
CREATE TABLE queue_control (
    queue text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('queue', 'org', 'lane')),
    subject text NOT NULL DEFAULT '',     -- organization or lane
    state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'paused', 'draining')),
    concurrency_max integer,
    rate_per_second double precision,
    weight integer,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (queue, scope, subject)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON queue_control TO commune_worker;

-- What must be found before the organization is known. These functions are the only way round the policies; their
-- owner may read these tables and nothing else.
GRANT SELECT ON api_key_directory, api_keys, shared_addresses, inboxes, platform_domains TO commune_lookup;
CREATE POLICY lookup ON api_key_directory FOR SELECT TO commune_lookup USING (true);
CREATE POLICY lookup ON api_keys FOR SELECT TO commune_lookup USING (true);
CREATE POLICY lookup ON shared_addresses FOR SELECT TO commune_lookup USING (true);
CREATE POLICY lookup ON inboxes FOR SELECT TO commune_lookup USING (true);

GRANT CREATE ON SCHEMA public TO commune_lookup;

CREATE FUNCTION find_api_key(wanted bytea)
RETURNS TABLE (org_id uuid, id uuid, name text, scopes text[], inbox_ids uuid[], domain_ids uuid[])
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT k.org_id, k.id, k.name, k.scopes, k.inbox_ids, k.domain_ids
    FROM api_key_directory d JOIN api_keys k ON k.org_id = d.org_id AND k.id = d.key_id
    WHERE d.hash = wanted AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
$$;
ALTER FUNCTION find_api_key(bytea) OWNER TO commune_lookup;

-- domain_known tells "not our domain" (550 5.7.1) from "no such mailbox" (550 5.1.1).
CREATE FUNCTION find_recipient(wanted_domain text, wanted_local text)
RETURNS TABLE (domain_known boolean, org_id uuid, inbox_id uuid, status text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT true, i.org_id, i.id, i.status
    FROM platform_domains p
    LEFT JOIN shared_addresses a ON a.domain_name = p.name AND a.local_part = wanted_local
    LEFT JOIN inboxes i ON i.org_id = a.org_id AND i.id = a.inbox_id AND i.deleted_at IS NULL
    WHERE p.name = wanted_domain
$$;
ALTER FUNCTION find_recipient(text, text) OWNER TO commune_lookup;

REVOKE CREATE ON SCHEMA public FROM commune_lookup;
REVOKE EXECUTE ON FUNCTION find_api_key(bytea), find_recipient(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION find_api_key(bytea), find_recipient(text, text) TO commune_app, commune_worker;
