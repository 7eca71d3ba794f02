-- What comes back: complaints about mail, aggregate reports about domains, and alerts about both.

-- A success forgives soft bounces. Which one did, and how many, is kept until the next: a mail that was taken may still
-- come back, and then that success was none.
ALTER TABLE soft_bounces ADD COLUMN forgiven integer NOT NULL DEFAULT 0;
ALTER TABLE soft_bounces ADD COLUMN forgiven_by uuid;

-- Complaints (RFC 5965) about messages that were proved to be ours.
CREATE TABLE spam_reports (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    message_id uuid NOT NULL,
    inbox_id uuid NOT NULL,
    domain_id uuid NOT NULL,
    recipient text NOT NULL,              -- '' where the report does not prove whose it is
    feedback_type text NOT NULL,
    reporter text NOT NULL DEFAULT '',    -- the program that wrote it
    source_address text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
-- One a recipient of a message, however often it is reported.
CREATE UNIQUE INDEX spam_reports_once ON spam_reports (org_id, message_id, recipient);
SELECT protect_tenant_table('spam_reports');
SELECT open_to_limited_keys('spam_reports', limited_key_condition('spam_reports'));

-- What an organization should look at: raised once, resolved when it is over.
CREATE TABLE alerts (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    kind text NOT NULL,
    subject text NOT NULL DEFAULT '',     -- the id of the domain or endpoint it is about; '' the organization
    message text NOT NULL,                -- a sentence
    raised_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX alerts_open ON alerts (org_id, kind, subject) WHERE resolved_at IS NULL;
CREATE INDEX alerts_by_time ON alerts (org_id, raised_at, id);
-- About the organization as a whole, so limited keys do not see them.
SELECT protect_tenant_table('alerts');
CREATE INDEX domains_lost ON domains (org_id, id) WHERE records_lost_at IS NOT NULL;

-- DMARC aggregate reports (RFC 7489 and 9990), by mail or over HTTP.
CREATE TABLE dmarc_reports (
    org_id uuid NOT NULL,
    id uuid NOT NULL,
    domain_id uuid NOT NULL,
    digest bytea NOT NULL,                -- SHA-256 of reporter, report id and domain: each is kept once
    domain_name text NOT NULL,            -- whose policy it is about
    reporter text NOT NULL,
    reporter_email text NOT NULL,
    report_id text NOT NULL,
    begins_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    policy jsonb NOT NULL,
    record_count integer NOT NULL,
    message_count bigint NOT NULL,
    source text NOT NULL CHECK (source IN ('email', 'upload')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX dmarc_reports_once ON dmarc_reports (org_id, digest);
CREATE INDEX dmarc_reports_by_time ON dmarc_reports (org_id, begins_at, id);
CREATE INDEX dmarc_reports_by_domain ON dmarc_reports (org_id, domain_name, begins_at, id);
SELECT protect_tenant_table('dmarc_reports');
SELECT open_to_limited_keys('dmarc_reports', limited_key_condition('dmarc_reports'));

CREATE TABLE dmarc_records (
    org_id uuid NOT NULL,
    report_id uuid NOT NULL,
    position integer NOT NULL,
    domain_id uuid NOT NULL,
    source_address text NOT NULL,
    message_count bigint NOT NULL,
    disposition text NOT NULL,
    dkim text NOT NULL,                   -- DMARC's verdict: aligned and passed, or not
    spf text NOT NULL,
    header_from text NOT NULL,
    envelope_from text NOT NULL,
    details jsonb NOT NULL,               -- reasons, and each signature's and SPF's own result
    PRIMARY KEY (org_id, report_id, position)
);
SELECT protect_tenant_table('dmarc_records');
SELECT open_to_limited_keys('dmarc_records', limited_key_condition('dmarc_records'));
