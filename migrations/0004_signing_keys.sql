-- Keys that sign requests instead of travelling with them. To check an HMAC one needs the secret that made it, so of
-- these keys the secret itself is kept: who reads this table can sign with them. Hence they only write.

ALTER TABLE api_keys
    ADD COLUMN signing_secret bytea,  -- NULL: a bearer key, of which only the hash is kept
    ADD CONSTRAINT api_keys_signing CHECK (
        signing_secret IS NULL OR (secret_sha256 = sha256(signing_secret) AND scopes = ARRAY['write'])
    );
