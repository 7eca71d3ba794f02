# shellcheck shell=bash
# Reading an inbox of a million messages: pages of threads and messages, the first and the last, and search

bench_mailbox() {
    local messages round
    messages=$(chosen_count 1000000 60000)

    open_installation
    start_api
    make_caller mailbox
    fill_mailbox "$messages"
    for ((round = 1; round <= rounds; round++)); do mailbox_round; done

    local list
    for list in threads messages; do
        bound "A page of 100 $list, of all there are: p99" "ms" "$list p99" 10
        figure "The same: p50" "ms" "$list p50"
        bound "The first 500 of these pages: p99" "ms" "$list first p99" 10
        bound "The last 500 of these pages: p99" "ms" "$list last p99" 10
        bound "The last 500 by the first 500: medians" "" "$list last to first" 1.5
    done
    bound "A first page by any filters together, either order: p99" "ms" "filters p99" 10
    bound "The slowest set of filters: p50" "ms" "filters slowest" 10
    local words
    for words in rare common old frequent-then none; do
        bound "Search, words that are $words: p99" "ms" "search $words p99" 50
    done
    figure "Search, two words: p99" "ms" "search two p99"
    figure "For comparison, one inbox by its id: p99" "ms" "floor p99"
    figure "The same: p50" "ms" "floor p50"
}

mailbox_round() {
    local log="$bench_folder/mailbox.log" series value
    BENCH_KEY=$COMMUNE_API_KEY run_in_session "$python" "$root/scripts/lib/bench/mailbox.py" "$COMMUNE_BASE_URL" "$inbox" \
        >"$log" 2>"$bench_folder/mailbox-errors.log" || { show_log "$bench_folder/mailbox-errors.log"; fail "the mailbox could not be read"; }
    while IFS=$'\t' read -r series value; do record "$series" "$value"; done <"$log"
}

# fill_mailbox COUNT: as many messages over a year, two in each thread, with 60 words each; and a twentieth as many in another
# inbox, from a sender who never writes to this one. `old` words are in the oldest messages alone, `then` in the older half.
fill_mailbox() {
    local started org domain
    started=$(now_ms)
    IFS=$'\t' read -r org domain < <(sql "SELECT org_id, domain_id FROM inboxes WHERE id = '$inbox'")
    sql "DROP INDEX message_search_words" # made anew below, in a fraction of the time
    sql >/dev/null <<SQL
CREATE UNLOGGED TABLE bodies AS
    SELECT b, string_agg('w' || (3000 * power(random(), 3))::int, ' ') AS body
    FROM generate_series(0, 1999) AS b, generate_series(1, 60) GROUP BY b;
ALTER TABLE bodies ADD PRIMARY KEY (b), ADD COLUMN words tsvector;
UPDATE bodies SET words = to_tsvector('english', body || ' everywhere');
CREATE UNLOGGED TABLE filled AS
    SELECT n, CASE WHEN n % 20 = 19 THEN md5('other')::uuid ELSE '$inbox'::uuid END AS inbox,
        CASE WHEN n % 20 = 19 THEN 'elsewhere@x.test' ELSE 'sender' || n % 1000 || '@x.test' END AS sender,
        at, md5('thread' || n % 20 / 19 || n / 2)::uuid AS thread,
        (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0')
            || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid AS id
    FROM generate_series(0, $1 - 1) AS n,
        LATERAL (SELECT now() - ($1 - n) * interval '365 days' / $1 AS at) AS t;
INSERT INTO threads (org_id, id, inbox_id, domain_id, subject, base_subject, first_message_at, last_message_at, message_count,
        snippet, last_direction)
    SELECT '$org', thread, inbox, '$domain', 'Subject ' || min(n), 'subject', min(at), max(at), count(*), 'A snippet of a hundred letters', 'inbound'
    FROM filled GROUP BY thread, inbox;
INSERT INTO messages (org_id, id, thread_id, inbox_id, domain_id, direction, rfc_message_id, sender, subject, participants, created_at)
    SELECT '$org', id, thread, inbox, '$domain', 'inbound', '<' || id || '@x.test>', sender, 'Subject ' || n,
        jsonb_build_array(jsonb_build_object('role', 'sender', 'identity', sender)), at FROM filled ORDER BY n;
INSERT INTO message_bodies (org_id, message_id, content)
    SELECT '$org', f.id, b.body FROM filled f JOIN bodies b ON b.b = f.n % 2000 ORDER BY f.n;
INSERT INTO message_search (org_id, message_id, inbox_id, domain_id, words)
    SELECT '$org', f.id, f.inbox, '$domain', b.words || to_tsvector('english', 'number' || f.n
        || CASE WHEN f.n % 100000 = 7 THEN ' rare' || f.n / 100000 % 10 ELSE '' END
        || CASE WHEN f.n < 1000 THEN ' old' || f.n % 10 ELSE '' END
        || CASE WHEN f.n < $1 / 10 THEN ' then0' ELSE '' END || CASE WHEN f.n < $1 / 2 THEN ' then1' ELSE '' END)
        || search_tags('$org', f.inbox, '$domain', f.id)
    FROM filled f JOIN bodies b ON b.b = f.n % 2000 ORDER BY f.n;
DROP TABLE filled, bodies;
SET maintenance_work_mem = '512MB';
CREATE INDEX message_search_words ON message_search USING gin (words) WITH (gin_pending_list_limit = 128);
SQL
    sql "VACUUM ANALYZE"
    sql "CHECKPOINT"
    done_step "$started" "$1 messages"
}
