-- Senders that belong to nobody: what an organization sends from `agent@` of the platform's domain, or from the
-- installation's default, is kept in an inbox of its own, which is in no directory and in no list.
ALTER TABLE inboxes ADD COLUMN is_hidden boolean NOT NULL DEFAULT false;
