"""A domain of one's own, from its records in a real DNS to mail in both directions, by all programs together."""

import smtplib

import dkim

from name_server import lines
from platform_under_test import DOMAIN
from polling import eventually

NAME = "example.customer.test"


def test_own_domain(platform, name_server, sink):
    name_server.publish([])
    dns = {"COMMUNE_DNS_SERVER": f"127.0.0.1:{name_server.port}"}
    platform.start_api()
    platform.start_inbound()
    platform.start_worker(**dns)

    made = platform.call("POST", "/v1/domains", {"name": NAME})
    assert made.status == 201, made.body
    domain = made.data["id"]
    assert made.data["status"] == "not_started"
    records = made.data["records"]
    assert records[2]["value"] == "mail.interop.test"
    assert records[3]["value"] == f"v=spf1 include:{DOMAIN} ~all"
    inbox = platform.call("POST", f"/v1/domains/{domain}/inboxes", {"local_part": "support"}).data
    assert inbox["address"] == f"support@{NAME}"

    # Nothing published: the job looks within the three seconds, and says what it found.
    answer = platform.call("POST", f"/v1/domains/{domain}/verify")
    assert answer.status == 200 and answer.data["status"] == "pending"
    assert {record["found"] for record in answer.data["records"]} == {"no record: the name does not exist"}
    doctor = platform.run("domains", "check", NAME, check=False, **dns)
    assert doctor.returncode == 1 and doctor.stdout.count("not as expected") == 6, doctor.stdout + doctor.stderr
    refused = platform.call(
        "POST", "/v1/messages/send", {"inboxId": inbox["id"], "to": "a@b.test", "subject": "s", "text": "t"}
    )
    assert (refused.status, refused.body["error"]) == (400, "Domain not verified")
    with smtplib.SMTP("127.0.0.1", platform.smtp_port) as client:
        client.ehlo("client.test")
        client.mail("a@b.test")
        assert client.rcpt(inbox["address"])[0] == 550

    # All published but what does not hold the domain back.
    name_server.publish(list(lines(records[:4])))
    verified = platform.call("POST", f"/v1/domains/{domain}/verify").data
    assert verified["status"] == "verified", verified
    assert [record["status"] for record in verified["records"]] == ["verified"] * 4 + ["pending"] * 2
    doctor = platform.run("domains", "check", NAME, "--org", "interop", **dns)
    assert doctor.stdout.count("  ok") == 4, doctor.stdout

    # The first inbox without a domain is on it now.
    assert platform.inbox()["domain_name"] == NAME

    with smtplib.SMTP("127.0.0.1", platform.smtp_port) as client:
        client.sendmail("a@b.test", [f"support+tag@{NAME}"], "From: a@b.test\r\nSubject: In\r\n\r\nHello\r\n")
    eventually(
        lambda: platform.get(f"/v1/messages?inbox_id={inbox['id']}"), 20, lambda: "the mail to arrive"
    )

    platform.send(inbox, "someone@elsewhere.test")
    delivery = eventually(lambda: sink.deliveries, 20, lambda: "the mail to leave")[0]
    published = {f"{record['fqdn']}.": record["value"] for record in records if record["record"] == "DKIM"}

    def dns_function(name, timeout=5):
        return published.get(name.decode(), "").encode()

    signatures = dkim.DKIM(delivery.content)
    assert [signatures.verify(idx=index, dnsfunc=dns_function) for index in (0, 1)] == [True, True]
    assert signatures.domain == NAME.encode()

    # Another organization comes too late.
    late = platform.call("POST", "/v1/domains", {"domain": NAME.upper()}, key=platform.organization("late"))
    assert late.status == 409
    platform.assert_settled()
