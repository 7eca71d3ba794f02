-- What is asked of mail that is there: triage of threads, search, delivery metrics, and events to wait for.

-- Triage ----------------------------------------------------------------------------------------------------------

-- Only for threads that somebody has touched; the others are open, without tags, and nobody's.
CREATE TABLE thread_metadata (
    org_id uuid NOT NULL,
    thread_id uuid NOT NULL,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'needs_reply', 'waiting', 'closed')),
    assigned_to text,
    tags text[] NOT NULL DEFAULT '{}',    -- in the order of their adding, each once
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, thread_id)
);
SELECT protect_tenant_table('thread_metadata');

-- A thread that is seen here is one that fits the key.
CREATE FUNCTION key_sees_thread(org uuid, thread uuid) RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM threads t WHERE t.org_id = org AND t.id = thread);
END
$$;
SELECT open_to_limited_keys('thread_metadata', 'key_sees_thread(org_id, thread_id)');

-- Lists -----------------------------------------------------------------------------------------------------------

-- When a thread took its present place in the list, by this server's clock, and the transaction that put it there: an
-- ascending walk leaves threads that moved since it began to the next one. Null: before this column.
ALTER TABLE threads ADD COLUMN moved_at timestamptz NOT NULL DEFAULT now();
ALTER TABLE threads ADD COLUMN moved_xid xid8;
ALTER TABLE threads ALTER COLUMN moved_xid SET DEFAULT pg_current_xact_id();

-- A sender within an inbox or a domain; with the index of the sender alone, one who writes a lot elsewhere would
-- make this as slow as a list is long.
CREATE INDEX messages_by_inbox_sender ON messages (org_id, inbox_id, sender, created_at, id);
CREATE INDEX messages_by_domain_sender ON messages (org_id, domain_id, sender, created_at, id);

-- Search ----------------------------------------------------------------------------------------------------------

-- The words of each message, and tags (search_tags) by which the index finds a stretch of time of an inbox, a domain or
-- the whole organization.
CREATE TABLE message_search (
    org_id uuid NOT NULL,
    message_id uuid NOT NULL,
    inbox_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    words tsvector NOT NULL,
    PRIMARY KEY (org_id, message_id)
);
-- Every search reads the pending list from end to end, so it is kept short.
CREATE INDEX message_search_words ON message_search USING gin (words) WITH (gin_pending_list_limit = 128);
SELECT protect_tenant_table('message_search');
SELECT open_to_limited_keys('message_search', limited_key_condition('message_search'));

-- Message ids begin with their time in milliseconds, so their first 4, 5 and 6 hexadecimal digits stand for 50 days,
-- 3 days and 5 hours. The owner's id is shortened to its random end; what a tag finds is compared whole afterwards.
CREATE FUNCTION search_tag(owner uuid, digits text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT right(owner::text, 12) || digits $$;

CREATE FUNCTION search_tags(org uuid, inbox uuid, domain uuid, message uuid) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_to_tsvector(ARRAY[
        search_tag(org, left(message::text, 4)), search_tag(org, left(message::text, 5)),
        search_tag(org, left(message::text, 6)), search_tag(inbox, left(message::text, 4)),
        search_tag(inbox, left(message::text, 5)), search_tag(inbox, left(message::text, 6)),
        search_tag(domain, left(message::text, 4)), search_tag(domain, left(message::text, 5)),
        search_tag(domain, left(message::text, 6))])
$$;

-- Row-level security hides rows before it lets @@ see them, so as commune_app no search by index is possible. This
-- function searches for the organization that is set and for no other, within what the key is limited to, and answers
-- ids alone, the newest first.
--
-- The newest messages are looked through one by one: a common word is found there at once. Then stretches of time are
-- asked of the index, newest first, short ones before long ones. One with many matches is asked again in sixteenths, so
-- that what is read stays small however common a word was at its time. Two conditions with @@ instead of one let the
-- index skip over what one of them does not have. NOT … IS DISTINCT FROM is an equality that no other index serves.
CREATE FUNCTION search_messages(wanted tsquery, in_inbox uuid, in_domain uuid, before uuid, most integer)
RETURNS SETOF uuid
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp SET enable_seqscan = off SET jit = off AS $$
DECLARE
    org CONSTANT uuid := current_org();
    walked CONSTANT integer := 1000;      -- messages looked through one by one
    many CONSTANT integer := 500;         -- matches that are worth dividing a stretch
    inboxes CONSTANT uuid[] := key_inboxes();
    domains CONSTANT uuid[] := key_domains();
    owners CONSTANT uuid[] := CASE WHEN in_inbox IS NOT NULL THEN ARRAY[in_inbox]
        WHEN in_domain IS NOT NULL THEN ARRAY[in_domain] ELSE coalesce(inboxes, domains, ARRAY[org]) END;
    matches uuid[];
    stretches text[];                     -- still to be asked, the newest last
    stretch text;
    tags tsquery;                         -- of the stretch: any of the owners'
    oldest uuid;
    given integer := 0;
BEGIN
    matches := ARRAY(
        SELECT n.message_id FROM (SELECT s.* FROM message_search s
            WHERE s.org_id = org AND s.message_id < before ORDER BY s.message_id DESC LIMIT walked) AS n
        WHERE n.words @@ wanted AND (in_inbox IS NULL OR n.inbox_id = in_inbox)
            AND (in_domain IS NULL OR n.domain_id = in_domain)
            AND (inboxes IS NULL OR n.inbox_id = ANY (inboxes)) AND (domains IS NULL OR n.domain_id = ANY (domains))
        ORDER BY n.message_id DESC LIMIT most);
    RETURN QUERY SELECT * FROM unnest(matches);
    given := cardinality(matches);
    SELECT s.message_id INTO before FROM message_search s
        WHERE s.org_id = org AND s.message_id < before ORDER BY s.message_id DESC OFFSET walked - 1 LIMIT 1;
    IF given = most OR before IS NULL THEN RETURN; END IF;

    SELECT s.message_id INTO oldest FROM message_search s WHERE s.org_id = org ORDER BY s.message_id LIMIT 1;
    stretches := ARRAY(SELECT lpad(to_hex(n), 4, '0') FROM generate_series(
        ('x' || left(oldest::text, 4))::bit(16)::integer, ('x' || left(before::text, 4))::bit(16)::integer) AS n);
    FOR digits IN 4..5 LOOP
        stretches := trim_array(stretches, 1) || ARRAY(SELECT left(before::text, digits) || to_hex(n)
            FROM generate_series(0, ('x' || substr(before::text, digits + 1, 1))::bit(4)::integer) AS n);
    END LOOP;

    WHILE given < most AND cardinality(stretches) > 0 LOOP
        stretch := stretches[cardinality(stretches)];
        stretches := trim_array(stretches, 1);
        tags := (SELECT string_agg(format('%L', search_tag(o, stretch)), ' | ') FROM unnest(owners) AS o)::tsquery;
        matches := ARRAY(SELECT s.message_id FROM message_search s
            WHERE s.words @@ wanted
                AND s.words @@ tags
                AND NOT s.org_id IS DISTINCT FROM org AND s.message_id < before
                AND (in_inbox IS NULL OR s.inbox_id = in_inbox) AND (in_domain IS NULL OR s.domain_id = in_domain)
                AND (inboxes IS NULL OR s.inbox_id = ANY (inboxes)) AND (domains IS NULL OR s.domain_id = ANY (domains))
            LIMIT CASE WHEN length(stretch) < 6 THEN many + 1 END);
        IF cardinality(matches) > many AND length(stretch) < 6 THEN
            stretches := stretches || ARRAY(SELECT stretch || to_hex(n) FROM generate_series(0, 15) AS n);
        ELSE
            RETURN QUERY SELECT m FROM unnest(matches) AS m ORDER BY m DESC LIMIT most - given;
            given := given + cardinality(matches);
        END IF;
    END LOOP;
END
$$;

-- Mail that was there before, by the same rules as Store/Search.swift but for the folding of accents.
INSERT INTO message_search (org_id, message_id, inbox_id, domain_id, words)
SELECT m.org_id, m.id, m.inbox_id, m.domain_id,
    to_tsvector('english', regexp_replace(
        concat_ws(' ', m.subject, (SELECT string_agg(p ->> 'identity', ' ') FROM jsonb_array_elements(m.participants) AS p),
            (SELECT string_agg(a.filename, ' ') FROM attachments a
                WHERE a.org_id = m.org_id AND a.id = ANY (m.attachments::uuid[])),
            left(b.content, 65536)), '[^[:alnum:]]+', ' ', 'g'))
    || search_tags(m.org_id, m.inbox_id, m.domain_id, m.id)
FROM messages m JOIN message_bodies b ON b.org_id = m.org_id AND b.message_id = m.id;

-- Events ----------------------------------------------------------------------------------------------------------

-- The transaction that wrote an event. Whoever reads events in this order, and only those of transactions older than
-- every running one, never passes work that has not committed. Null: from before this column, and in no such list.
ALTER TABLE delivery_events ADD COLUMN xid xid8;
ALTER TABLE delivery_events ALTER COLUMN xid SET DEFAULT pg_current_xact_id();
CREATE INDEX delivery_events_by_org_xid ON delivery_events (org_id, xid, id);
CREATE INDEX delivery_events_by_xid ON delivery_events (xid);

-- Lists ask for each type by itself and merge, so that a rare one is found as fast as a common one.
CREATE INDEX delivery_events_by_type ON delivery_events (org_id, event_type, id);
CREATE INDEX delivery_events_by_inbox_type ON delivery_events (org_id, inbox_id, event_type, id);
CREATE INDEX delivery_events_by_domain_type ON delivery_events (org_id, domain_id, event_type, id);
DROP INDEX delivery_events_by_inbox;  -- covered by the one before

-- Events by the hour, for metrics: of the organization, of each domain, and of each inbox.
CREATE TABLE delivery_counts (
    org_id uuid NOT NULL,
    subject_id uuid NOT NULL,             -- the organization, the domain or the inbox
    hour timestamptz NOT NULL,
    event_type text NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (org_id, subject_id, hour, event_type)
);
SELECT protect_tenant_table('delivery_counts');
-- A limited key sees the counts of its inboxes, and adds these up.
SELECT open_to_limited_keys('delivery_counts', 'key_sees_inbox(org_id, subject_id)', 'SELECT');

INSERT INTO delivery_counts (org_id, subject_id, hour, event_type, count)
SELECT org_id, subject, date_trunc('hour', created_at, 'UTC'), event_type, count(*)
FROM delivery_events CROSS JOIN LATERAL (VALUES (org_id), (domain_id), (inbox_id)) AS s (subject)
GROUP BY 1, 2, 3, 4;

-- Events of transactions from this one on are not in delivery_counts yet.
CREATE TABLE delivery_counted (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    up_to xid8 NOT NULL
);
INSERT INTO delivery_counted (up_to) VALUES ('0');
GRANT SELECT ON delivery_counted TO commune_app, commune_limited, commune_worker;
GRANT UPDATE ON delivery_counted TO commune_worker;

-- What is asked across organizations, or round the policies ---------------------------------------------------------

GRANT SELECT ON message_search TO commune_lookup;
CREATE POLICY lookup ON message_search FOR SELECT TO commune_lookup USING (true);
GRANT SELECT (org_id, xid) ON delivery_events TO commune_lookup;
CREATE POLICY lookup ON delivery_events FOR SELECT TO commune_lookup USING (true);

GRANT CREATE ON SCHEMA public TO commune_lookup;

-- Which of these organizations have events of transactions from `since` on that may be shown. One question for all
-- that wait, instead of one from each.
CREATE FUNCTION organizations_with_events(orgs uuid[], since text[]) RETURNS SETOF uuid
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT w.org FROM unnest(orgs, since) AS w (org, since)
    WHERE EXISTS (SELECT FROM delivery_events e WHERE e.org_id = w.org AND e.xid >= w.since::xid8
        AND e.xid < pg_snapshot_xmin(pg_current_snapshot()))
$$;

ALTER FUNCTION search_messages(tsquery, uuid, uuid, uuid, integer) OWNER TO commune_lookup;
ALTER FUNCTION organizations_with_events(uuid[], text[]) OWNER TO commune_lookup;
REVOKE CREATE ON SCHEMA public FROM commune_lookup;
REVOKE EXECUTE ON FUNCTION search_messages(tsquery, uuid, uuid, uuid, integer),
    organizations_with_events(uuid[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_messages(tsquery, uuid, uuid, uuid, integer),
    organizations_with_events(uuid[], text[]) TO commune_app, commune_worker;
GRANT EXECUTE ON FUNCTION search_messages(tsquery, uuid, uuid, uuid, integer) TO commune_limited;
