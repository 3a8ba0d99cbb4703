-- An archive of schema version 1 with the events of internal/defense/testdata/event.v1.json.
-- Never change this file: it stands for the files that users have.
PRAGMA application_id = 1364478030;
CREATE TABLE schema (version INTEGER PRIMARY KEY, oldest INTEGER NOT NULL) STRICT;
INSERT INTO schema VALUES (1, 1);
CREATE TABLE events (
	seq      INTEGER PRIMARY KEY,
	time     INTEGER NOT NULL, -- Unix milliseconds
	id       ANY NOT NULL,     -- ULID as 16 bytes, any other as text
	request  ANY NOT NULL,     -- the request's id, likewise
	event    TEXT NOT NULL,    -- kind of event
	site     TEXT NOT NULL,
	client   BLOB NOT NULL,    -- 4 or 16 bytes of address, 8 of hash, none if unknown
	prefix   BLOB NOT NULL,    -- 3 bytes for a /24, 6 for a /48, 8 of hash, none if unknown
	action   TEXT NOT NULL,
	intended TEXT NOT NULL,
	score    INTEGER NOT NULL,
	rule     TEXT NOT NULL,
	kind     TEXT NOT NULL,    -- kind of request
	family   TEXT NOT NULL,    -- of the agent
	harm     TEXT NOT NULL,    -- what reader it looks like if it was or would have been stopped, else ''
	crawler  TEXT NOT NULL,
	identity TEXT NOT NULL,
	status   INTEGER NOT NULL,
	bytes    INTEGER NOT NULL,
	duration INTEGER NOT NULL, -- microseconds
	agent    INTEGER NOT NULL, -- agents.id
	method   TEXT NOT NULL,
	host     TEXT NOT NULL,
	path     TEXT NOT NULL,
	query    TEXT NOT NULL,
	details  TEXT NOT NULL     -- JSON of all the rest
) STRICT;
CREATE UNIQUE INDEX events_time ON events (time, id);
CREATE INDEX events_client ON events (client, time);
CREATE INDEX events_action ON events (action, time);
CREATE INDEX events_harm ON events (time) WHERE harm <> '';
CREATE TABLE agents (
	id   INTEGER PRIMARY KEY, -- the first 63 bits of the text's SHA-256
	last INTEGER NOT NULL,    -- minute since 1970 of the newest event with it
	text TEXT NOT NULL
) STRICT;
CREATE INDEX agents_last ON agents (last);
CREATE TABLE counters (
	hour     INTEGER NOT NULL, -- since 1970
	site     TEXT NOT NULL,
	action   TEXT NOT NULL,
	intended TEXT NOT NULL,
	count    INTEGER NOT NULL,
	PRIMARY KEY (hour, site, action, intended)
) STRICT, WITHOUT ROWID;
INSERT INTO agents VALUES (5088260023005964427, 29926800, 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36');
INSERT INTO agents VALUES (8203414616412130826, 29926800, '');
INSERT INTO events VALUES (1, 1795608000123, x'01a21293b736e23c1d9326c0b40b7cb4', x'01a21293b735d9fa0d0f05b8729af893', 'request', 'wiki', x'20010db8000100020003000400050006', x'20010db80001', 'observe', 'challenge', 55, 'threshold:50', 'navigation', 'browser', '', 'examplebot', 'unverified', 200, 18234, 184213, 5088260023005964427, 'GET', 'wiki.example.org', '/index.php', 'title=Hedge&oldid=1042&action=edit', '{"schema":1,"edge":"edge-1","asn":64500,"country":"NZ","token":"01M898Y8H09F0J5D3G8H6K4WAB","class":"expensive","protocol":"HTTP/2.0","referrer":"https://wiki.example.org/Hedge","headers":{"shape":"9f2c41d07b3ea865","accept":"*/*","acceptLanguage":"en-NZ,en;q=0.9","secFetchSite":"same-origin","secFetchMode":"navigate","secFetchDest":"document"},"tls":{"version":"1.3","ja4":"t13d1516h2_8daaf6152771_02713d6af862"},"how":"range","signals":[{"name":"accept-mismatch","weight":30,"sentence":"claims Chrome 141 but accepts anything where Chrome asks for a document"},{"name":"cleared","weight":-20,"sentence":"carries a clearance earned five minutes ago"}],"reason":"the score 55 reaches the threshold 50","basis":"judged","mode":"certain","posture":"guarded","decision":"01M895SHW08E9H4C2F7G5J3V9A","shadow":[{"rule":"old-revisions","action":"deny"},{"rule":"edit-links","action":"tarpit","score":15}],"upstream":0.171002,"challenge":{"id":"01M898Y7HR0G1K6E4H9J7M5XBC","kind":"refresh","outcome":"passed"},"tarpit":{"held":4.75,"bytes":2048,"depth":3}}');
INSERT INTO events VALUES (2, 1795608000700, x'01a21293b8bc230ad338ef4413194e95', '', 'request', '', x'c000024d', x'c00002', 'allow', 'allow', 0, '', 'other', 'none', '', '', 'none', 204, 0, 200, 8203414616412130826, 'GET', 'example.org', '/', '', '{"schema":1,"protocol":"HTTP/1.1","headers":{},"basis":"judged","mode":"certain","posture":"calm"}');
