# shellcheck shell=bash
# The main job, shown: inbox A writes to inbox B through the HTTP API, the mail goes over SMTP through our own
# inbound server, and B answers in the same thread.

# demonstrate: fails when any step does. Sets `curl_line`.
demonstrate() {
    local begun started token subject_a thread_a thread_b
    begun=$(now_ms)
    token=$(random_hex 3)
    subject_a="Grüße from A [$token]"

    started=$(now_ms)
    demo_inbox alice "Alice (A)"
    local inbox_a=$inbox_id address_a=$inbox_address
    demo_inbox bob "Bob (B)"
    local inbox_b=$inbox_id address_b=$inbox_address
    done_step "$started" "inboxes: $address_a and $address_b"

    started=$(now_ms)
    send "$inbox_a" "$address_b" "$subject_a" "Hello B, does mail from A reach you? ✉" ""
    thread_a=$sent_thread
    done_step "$started" "A's message accepted by the API and committed"

    started=$(now_ms)
    await_message "$inbox_b" "$token"
    local received_b=$found_message
    done_step "$started" "A's message signed, sent over SMTP, received and in B's inbox (DKIM $found_dkim)"
    thread_b=$found_thread

    started=$(now_ms)
    send "$inbox_b" "$address_a" "Re: $subject_a" "Hello A, it does." "$thread_b"
    [[ $sent_thread == "$thread_b" ]] || fail "B's answer went to thread $sent_thread instead of $thread_b"
    done_step "$started" "B's answer in the same thread accepted"

    started=$(now_ms)
    await_message "$inbox_a" "$token"
    [[ $found_thread == "$thread_a" ]] || fail "the answer came to thread $found_thread, A's message is in $thread_a"
    done_step "$started" "B's answer in A's inbox, in A's thread (DKIM $found_dkim)"

    curl_line="curl -sS --noproxy '*' -H 'Authorization: Bearer $COMMUNE_API_KEY'"
    curl_line+=" '$COMMUNE_BASE_URL/v1/threads/$thread_a/messages'"
    try_curl_line
    done_step "$begun" "in all"

    heading "What B received (GET /v1/messages?inbox_id=$inbox_b)"
    say "$received_b"
    heading "What A got back (GET /v1/messages?inbox_id=$inbox_a)"
    say "$found_message"
}

# demo_inbox LOCAL_PART NAME: sets `inbox_id` and `inbox_address`, of the inbox that is there or of a new one.
demo_inbox() {
    local place wanted="$1@$COMMUNE_DEFAULT_DOMAIN"
    local -A answer
    call_api 200 GET /v1/inboxes
    json_read answer "$api_body"
    for ((place = 0; ; place++)); do
        inbox_id=${answer[data.$place.id]:-}
        inbox_address=${answer[data.$place.address]:-}
        [[ -n $inbox_id ]] || break
        [[ $inbox_address != "$wanted" ]] || return 0
    done
    call_api 201 POST /v1/inboxes "{\"local_part\":\"$1\",\"name\":\"$2\"}"
    json_read answer "$api_body"
    inbox_id=${answer[data.id]:-}
    inbox_address=${answer[data.address]:-}
    [[ -n $inbox_id && $inbox_address == "$wanted" ]] || fail "an inbox $wanted was asked for, and this came:"$'\n'"$api_body"
}

# send INBOX TO SUBJECT TEXT THREAD: sets `sent_thread`. THREAD may be empty.
send() {
    local -A answer
    local thread=""
    [[ -z $5 ]] || thread=",\"thread_id\":\"$5\""
    call_api 200 POST /v1/messages/send \
        "{\"inboxId\":\"$1\",\"to\":\"$2\",\"subject\":\"$3\",\"text\":\"$4\",\"html\":\"<p>$4</p>\"$thread}"
    json_read answer "$api_body"
    sent_thread=${answer[data.thread_id]:-}
    [[ -n $sent_thread ]] || fail "the answer to a send has no thread_id:"$'\n'"$api_body"
}

# await_message INBOX TOKEN: waits for the inbound message whose subject has TOKEN, checks its DKIM verdict, and sets
# `found_message` (as the API returns it, indented), `found_thread` and `found_dkim`.
await_message() {
    local place deadline=$(($(now_ms) + 20000))
    local -A answer
    while (($(now_ms) < deadline)); do
        call_api 200 GET "/v1/messages?inbox_id=$1&limit=10"
        json_read answer "$api_body"
        for ((place = 0; place < 10; place++)); do
            [[ ${answer[data.$place.direction]:-} == inbound ]] || continue
            [[ ${answer[data.$place.metadata.subject]:-} == *"[$2]"* ]] || continue
            found_message=$(json_pretty "$api_body" "data.$place")
            found_thread=${answer[data.$place.thread_id]:-}
            found_dkim=${answer[data.$place.metadata.authentication.dkim]:-missing}
            [[ $found_dkim == pass ]] \
                || fail "the message came, but its DKIM verdict is “$found_dkim”:"$'\n'"$found_message"
            return
        done
        sleep 0.1
    done
    show_log "${process_logs[worker]}"
    show_log "${process_logs[inbound]}"
    fail "the message did not arrive within 20 s"
}

# try_curl_line: what is printed for copying does work.
try_curl_line() {
    local answer
    answer=$(bash -c "$curl_line") || fail "this line fails: $curl_line"
    [[ $answer == '{'*'"data"'* ]] || fail "this line answers nonsense: $curl_line"$'\n'"$answer"
}
