package main

import (
	"maps"
	"reflect"
	"time"

	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/artifact"
	"github.com/quickthorn/quickthorn/internal/casebook"
	"github.com/quickthorn/quickthorn/internal/decision"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/escalation"
	"github.com/quickthorn/quickthorn/internal/explain"
	"github.com/quickthorn/quickthorn/internal/intake"
	"github.com/quickthorn/quickthorn/internal/private"
	"github.com/quickthorn/quickthorn/internal/record"
	"github.com/quickthorn/quickthorn/internal/redemption"
	"github.com/quickthorn/quickthorn/internal/tarpit"
)

// What services write without exporting a type for it. The package's tests hold these to the real answers.
type (
	// alertTest says what became of a test alert in each channel.
	alertTest struct {
		Results []alert.Result `json:"results"`
	}

	// report says what happened, and which readers were or would have been hurt.
	report struct {
		Summary record.Summary `json:"summary"`
		Harm    record.Harm    `json:"harm"`
	}

	// newDecision is a decision to be made.
	newDecision struct {
		Value    string         `json:"value"` // what it is about: an address, range, fingerprint or agent
		Action   defense.Action `json:"action"`
		Scope    *defense.Scope `json:"scope,omitempty"`  // found from the value if it is missing; an agent needs it
		Origin   string         `json:"origin,omitempty"` // operator, if it is missing
		Reason   string         `json:"reason,omitempty"`
		CaseID   string         `json:"caseId,omitempty"`
		Site     string         `json:"site,omitempty"`     // every site, if it is missing
		Created  time.Time      `json:"created,omitzero"`   // now, if it is missing
		Expires  time.Time      `json:"expires,omitzero"`   // until deleted, if it is missing
		ID       string         `json:"id,omitempty"`       // taken, so that an export can be read, and ignored
		Sequence uint64         `json:"sequence,omitempty"` // likewise
	}

	// changes are those of the decisions after a sequence.
	changes struct {
		Changes  []decision.Change `json:"changes"`
		Since    uint64            `json:"since"`              // ask again with since= this
		Snapshot uint64            `json:"snapshot,omitempty"` // and snapshot= this, if it is there
		More     bool              `json:"more"`               // there is more already
		Mode     *defense.Mode     `json:"mode,omitempty"`     // in force
	}

	// erased says how much was erased.
	erased struct {
		Erased int `json:"erased"` // events
	}

	// replayRequest names dead letters.
	replayRequest struct {
		IDs []string `json:"ids,omitempty"` // none: all
	}
)

const ndjson = "application/x-ndjson"

func of[T any]() reflect.Type { return reflect.TypeFor[T]() }

func jsonOf[T any]() []media { return []media{{kind: "application/json", of: []reflect.Type{of[T]()}}} }

func text(name, doc string) param         { return param{name: name, doc: doc} }
func typed[T any](name, doc string) param { return param{name: name, doc: doc, of: of[T]()} }

func flag(name, doc string) param {
	return param{name: name, doc: doc, schema: object{"type": "boolean"}}
}

func words(name, doc string, list ...any) param {
	return param{name: name, doc: doc, schema: object{"type": "string", "enum": list}}
}

// whole is a number from least up to most; most 0: without a limit.
func whole(name, doc string, least, most int) param {
	o := object{"type": "integer", "format": "int64", "minimum": least}
	if most > 0 {
		o["maximum"] = most
	}
	return param{name: name, doc: doc, schema: o}
}

// and joins lists of parameters.
func and(lists ...[]param) (all []param) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// or joins what can go wrong.
func or(sets ...map[int]string) map[int]string {
	all := map[int]string{}
	for _, s := range sets {
		maps.Copy(all, s)
	}
	return all
}

func services(root string) []service {
	const about = "Each caller has its own key. Times are RFC 3339 with zone, durations seconds, sizes bytes. Errors are application/problem+json. " +
		"Programs that read answers must expect further fields."
	return []service{
		{
			name: "ai-service", routes: append(aiService(root), health()...),
			description: about + " ai-service serves this API; quickthorn run serves it beside the edge, on its private listener.",
			servers:     []server{{"http://ai-service:8000", "ai-service"}, {"http://127.0.0.1:8081", "quickthorn run"}},
		},
		{
			name: "escalation-engine", routes: append(escalationEngine(), health()...), description: about,
			servers: []server{{"http://escalation-engine:8003", "escalation-engine"}},
		},
	}
}

func aiService(root string) []route {
	var (
		wrong       = map[int]string{400: "The request is wrong; the detail says how."}
		missing     = map[int]string{404: "There is none."}
		noLetter    = map[int]string{404: "Some of these are no dead letters; the detail says how many were."}
		tooMuch     = map[int]string{413: "Too much at once; the detail tells the limits."}
		slow        = map[int]string{408: "The body did not arrive in time."}
		wrongType   = map[int]string{415: "Not a media type or encoding that is taken here."}
		wrongField  = map[int]string{422: "A parameter or field has no such value; the problem names it."}
		busy        = map[int]string{503: "Nothing was taken; send the same again after Retry-After."}
		queueAway   = map[int]string{503: "The queue cannot be read now."}
		archiveAway = map[int]string{503: "The archive cannot be read now, or took too long."}
		unkept      = map[int]string{500: "The change could not be kept.", 503: "Another process has taken over the decisions."}
	)
	encoding := param{name: "Content-Encoding", doc: "how the body is packed", header: true, schema: object{"type": "string", "enum": []any{"gzip", "zstd", "identity"}}}
	period := []param{text("since", "from this time (RFC 3339), or as long ago as 24h"), text("until", "before this time, or as long ago as 1h")}
	chosen := []param{text("value", "exactly this address, range, fingerprint or agent"), text("client", "what applies to this address"), typed[defense.Action]("action", "what is decided"),
		text("origin", "operator, engine, rule:NAME, list:NAME or peer:NAME")}
	filter := []param{
		text("id", "of the event or its request"), text("site", "name of the site"), text("client", "an address or range"), typed[defense.Action]("action", "what was done"),
		typed[defense.Action]("intended", "what mode enforce would have done"), words("event", "what the event is about", "request", "challenge", "tarpit", "trap", "appeal"),
		typed[defense.Kind]("kind", "kind of request"), text("host", "host name"), text("path", "a part of the path"), text("agent", "a part of the User-Agent"), text("rule", "what decided"),
		text("crawler", "claimed crawler"), text("before", "next of the page before"), whole("limit", "at most 1000 for a page", 1, 0),
	}
	event := exampleEvent(root)
	decisions := func(r route) route {
		r.tag, r.problem = "decisions", of[decision.Problem]()
		return r
	}
	return []route{
		{
			method: "post", path: "/v1/events", tag: "events", callers: "proxy",
			summary: "Take events from an edge. What the answer counts as accepted is kept; an event's id makes it safe to send it again.", params: []param{encoding},
			request: []media{{ndjson, []reflect.Type{of[defense.Event]()}, event}, {"application/json", []reflect.Type{of[defense.Event]()}, event}},
			status:  202, answer: jsonOf[intake.Receipt](), problems: or(wrong, slow, tooMuch, wrongType, busy),
		},
		{
			method: "post", path: "/v1/counters", tag: "events", callers: "proxy", summary: "Take exact counts of an edge's verdicts.",
			params: []param{encoding}, request: jsonOf[intake.CounterBatch](), status: 202, answer: jsonOf[intake.Receipt](), problems: or(wrong, slow, tooMuch, wrongType, busy),
		},
		{
			method: "post", path: "/v1/webhook/{source}", tag: "events", callers: "the source, by its key",
			summary: "Take requests that another web server reports: one event, one a line, or lines of its access log.",
			params:  []param{encoding, {name: "Idempotency-Key", doc: "names the whole body, where its events have no id; sent again, they are counted once", header: true}},
			request: []media{
				{"application/json", []reflect.Type{of[intake.WebEvent]()}, exampleWebEvent()}, {ndjson, []reflect.Type{of[intake.WebEvent]()}, exampleWebEvent()},
				{kind: "text/plain", example: `192.0.2.77 - - [25/Nov/2026:12:00:00 +0000] "GET /index.php?title=Hedge HTTP/1.1" 200 18234 "-" "curl/8.14.1"`},
			},
			status: 202, answer: jsonOf[intake.Receipt](),
			problems: or(wrong, map[int]string{404: "No such source.", 500: "The source is set up wrongly."}, slow, tooMuch, wrongType, busy),
		},

		{method: "get", path: "/v1/queue", tag: "queue", summary: "What waits to be archived.", status: 200, answer: jsonOf[intake.Depth](), problems: queueAway},
		{
			method: "get", path: "/v1/dead-letters", tag: "queue", summary: "Batches that could not be read or archived, the oldest first.",
			params: []param{text("after", "next of the page before"), whole("limit", "how many; 100, if it is missing", 1, 1000)},
			status: 200, answer: jsonOf[intake.DeadLetters](), problems: or(wrong, noLetter, queueAway),
		},
		{
			method: "post", path: "/v1/dead-letters/replay", tag: "queue", summary: "Put dead letters back into the queue.",
			request: jsonOf[replayRequest](), status: 200, answer: jsonOf[intake.Moved](), problems: or(wrong, noLetter, queueAway),
		},
		{
			method: "delete", path: "/v1/dead-letters", tag: "queue", summary: "Remove dead letters for good.",
			params: []param{{name: "ids", doc: "separated by commas", schema: object{"type": "array", "items": object{"type": "string"}}}, flag("all", "true for all of them")},
			status: 200, answer: jsonOf[intake.Moved](), problems: or(wrong, noLetter, queueAway),
		},

		{
			method: "get", path: "/v1/cases", tag: "cases", summary: "Cases, the latest seen first.",
			params: and([]param{
				typed[defense.CaseKind]("kind", "what they are about"), text("site", "name of the site"), text("key", "client, fingerprint or range"),
				words("outcome", "what came of them", "clear", "watch", "decided"), words("label", "what a person said that they were", "human", "bot", "crawler", "any"),
				{name: "minScore", doc: "least probability", schema: object{"type": "number", "minimum": 0, "maximum": 1}},
				text("before", "next of the page before"), whole("limit", "how many; 100, if it is missing", 1, casebook.MaxCases),
			}, period),
			status: 200, answer: jsonOf[casebook.Page](), problems: or(wrong, archiveAway),
		},
		{method: "get", path: "/v1/cases/{id}", tag: "cases", summary: "One case.", status: 200, answer: jsonOf[defense.Case](), problems: or(missing, archiveAway)},
		{
			method: "post", path: "/v1/cases/{id}/judge", tag: "cases", summary: "Have a case judged again and carry out what comes of it.", status: 200, answer: jsonOf[defense.Case](),
			problems: or(missing, map[int]string{502: "The escalation engine did not answer.", 503: "The archive cannot be read now, or the intake does not run here."}),
		},
		{
			method: "put", path: "/v1/cases/{id}/label", tag: "cases", summary: "Say what a case truly was.", request: jsonOf[intake.Label](), status: 200, answer: jsonOf[intake.Label](),
			problems: or(wrong, missing, archiveAway),
		},

		{
			method: "post", path: "/v1/redemptions", tag: "challenges", callers: "proxy", summary: "Note that a challenge was redeemed, and say which redemption of its ticket was the first.",
			request: jsonOf[defense.Redemption](), status: 200, answer: jsonOf[redemption.Answer](), problems: or(wrong, map[int]string{503: "The state cannot be written now."}),
		},

		decisions(route{
			method: "get", path: "/v1/decisions", callers: "proxy", summary: "Decisions in force, the latest first; with since= the changes after a sequence, in order.",
			params: and(chosen, []param{
				whole("since", "sequence to go on after; 0 takes a snapshot", 0, 0), whole("snapshot", "of the answer before; with since=", 0, 0),
				text("wait", "hold an empty answer back for so long, such as 25s, at most a minute; with since="),
				typed[defense.Mode]("mode", "the mode that the caller knows; another one ends the wait; with since="),
				whole("before", "only sequences below; without since=", 0, 0), whole("limit", "how many; if it is missing 100, or 10000 with since=", 0, 10_000),
			}),
			status: 200, answer: []media{{kind: "application/json", of: []reflect.Type{of[decision.Listing](), of[changes]()}}},
			problems: or(wrong, wrongField, map[int]string{
				410: "Too far behind: begin with since=0.", 500: "The changes cannot be read.", 503: "Another process has taken over the decisions.",
			}),
		}),
		decisions(route{
			method: "post", path: "/v1/decisions", summary: "Add one decision or an array of them, all or none.", params: []param{flag("force", "true adds what would hit much of the internet")},
			request: []media{{kind: "application/json", of: []reflect.Type{of[newDecision](), of[[]newDecision]()}, example: object{
				"value": "192.0.2.0/24", "action": "challenge", "reason": "asks for every diff", "expires": "2026-12-02T12:00:00Z",
			}}},
			status: 201, answer: jsonOf[decision.Listing](),
			problems: or(wrong, map[int]string{409: "It would stop a trusted proxy or much of the internet, there is no room, or the operator allows whom it is about."}, tooMuch, wrongType, wrongField, unkept),
		}),
		decisions(route{
			method: "delete", path: "/v1/decisions", summary: "Delete the decisions in force that fit. At least one parameter is needed.", params: chosen,
			status: 200, answer: jsonOf[decision.Deleted](), problems: or(wrong, wrongField, unkept),
		}),
		decisions(route{method: "get", path: "/v1/decisions/{id}", callers: "proxy", summary: "One decision.", status: 200, answer: jsonOf[defense.Decision](), problems: missing}),
		decisions(route{method: "delete", path: "/v1/decisions/{id}", summary: "Delete one decision.", status: 200, answer: jsonOf[decision.Deleted](), problems: or(missing, unkept)}),
		decisions(route{
			method: "get", path: "/v1/decisions/export", callers: "proxy", summary: "All decisions in force.", status: 200, answer: []media{{kind: ndjson, of: []reflect.Type{of[defense.Decision]()}}},
		}),
		decisions(route{
			method: "post", path: "/v1/decisions/import", summary: "Read a list of addresses, ranges or decisions from a stream. Lines that are wrong are told of and do not stop it.",
			params: []param{
				typed[decision.Format]("format", "how the stream is written"), text("origin", "of every line; if it is missing, that of the line, or list:import"),
				typed[defense.Action]("action", "of lines without one, and of all lines of a list or peer; challenge, if it is missing"), text("reason", "of lines without one"),
				text("site", "of lines without one"), {name: "expires", doc: "of lines without one", schema: object{"type": "string", "format": "date-time"}},
				flag("force", "true adds what would hit much of the internet"),
			},
			request: []media{{kind: "application/octet-stream"}}, status: 200, answer: jsonOf[decision.Imported](),
			problems: or(wrong, map[int]string{409: "There is no room for more."}, tooMuch, wrongField, unkept),
		}),

		{method: "get", path: "/v1/mode", tag: "mode", callers: "proxy", summary: "The mode in force.", status: 200, answer: jsonOf[private.Mode]()},
		{
			method: "put", path: "/v1/mode", tag: "mode", summary: "Switch at once and for good.", request: jsonOf[private.Mode](), status: 200, answer: jsonOf[private.Mode](),
			problems: or(wrong, map[int]string{500: "The change could not be kept; the old mode stays in force."}),
		},

		{
			method: "get", path: "/v1/events", tag: "archive", summary: "Recorded requests, the newest first: a page, or, for application/x-ndjson, all that match.", params: and(filter, period),
			status: 200, answer: append(jsonOf[record.Page](), media{kind: ndjson, of: []reflect.Type{of[defense.Event]()}}), problems: or(wrong, archiveAway),
		},
		{
			method: "delete", path: "/v1/events", tag: "archive", summary: "Erase what is kept of an address or range.",
			params: []param{{name: "client", doc: "an address or range", required: true}}, status: 200, answer: jsonOf[erased](), problems: or(wrong, archiveAway),
		},
		{
			method: "get", path: "/v1/report", tag: "archive", summary: "What happened, and which readers were or would have been hurt; of the last 24 hours, if since is missing.", params: period,
			status: 200, answer: jsonOf[report](), problems: or(wrong, archiveAway),
		},

		{
			method: "get", path: "/v1/tarpit", tag: "tarpit", served: "run and tarpit", summary: "Who is in the tarpit, what it cost them, and what it cost us.",
			params: []param{whole("clients", "how many clients, those that were held longest first; 20, if it is missing", 0, tarpit.MaxClients)},
			status: 200, answer: jsonOf[tarpit.Report](), problems: wrong,
		},
		{
			method: "put", path: "/v1/tarpit", tag: "tarpit", served: "run and tarpit", summary: "Take clients in, or let go at once whoever is held and take nobody in.",
			request: jsonOf[tarpit.Position](), status: 200, answer: jsonOf[tarpit.Position](),
			problems: or(wrong, map[int]string{503: "The position could not be kept for the next start; off is in force all the same."}),
		},
		{
			method: "get", path: "/v1/artifacts", tag: "tarpit", callers: "proxy", summary: "What the archive keeps for the tarpit, in versions that never change: models of text, what sites look like, the switch.",
			status: 200, answer: jsonOf[artifact.Listing](), problems: archiveAway,
		},
		{
			method: "get", path: "/v1/artifacts/{kind}/{name}", tag: "tarpit", callers: "proxy", summary: "One artifact.",
			params: []param{whole("version", "which; the latest, if it is missing", 1, 0)},
			status: 200, answer: []media{{kind: "application/octet-stream"}}, problems: or(wrong, map[int]string{404: "There is no such artifact."}, archiveAway),
		},
		{
			method: "put", path: "/v1/artifacts/{kind}/{name}", tag: "tarpit", callers: "proxy, for the kinds likeness and switch", summary: "Keep a file as the next version, unless it is the latest one's. Older versions than the five newest are forgotten.",
			params:  []param{text("note", "what is to be known of it, at most 1000 bytes")},
			request: []media{{kind: "application/octet-stream"}}, status: 200, answer: jsonOf[artifact.Artifact](),
			problems: or(wrong, map[int]string{404: "There is no such kind.", 409: "There are too many of this kind.", 413: "Larger than 64 MiB.", 422: "The file is not of its kind; the detail says why."}, archiveAway),
		},

		{
			method: "post", path: "/v1/alerts/test", tag: "alerts", summary: "Send a test alert at once. What went wrong is in the result of each channel.",
			params: []param{text("channel", "email, slack, webhook or command; if it is missing, all that are set up")}, status: 200, answer: jsonOf[alertTest](),
		},

		{
			method: "post", path: "/v1/explain", tag: "explain", served: "run and proxy", summary: "Say what would be done with a request now, and why. No budget is charged.",
			request: []media{{kind: "application/json", of: []reflect.Type{of[explain.Question]()}, example: object{"url": "https://wiki.example.org/index.php", "headers": []any{"User-Agent: curl/8.14.1"}}}},
			status:  200, answer: jsonOf[explain.Report](), problems: wrong,
		},
		{
			method: "get", path: "/v1/backup", tag: "backup", served: "run, and ai-service with the embedded state store", summary: "A copy of the data directory, as a tar file.",
			status: 200, answer: []media{{kind: "application/x-tar"}}, problems: map[int]string{500: "The backup could not be begun."},
		},
	}
}

func escalationEngine() []route {
	return []route{
		{
			method: "post", path: "/v1/judge", tag: "judge", served: "escalation-engine", callers: "ai-service", summary: "Judge a case. Nothing is kept; the same revision of a case has the same answer.",
			request: jsonOf[escalation.JudgeRequest](), status: 200, answer: jsonOf[defense.Judgement](),
			problems: map[int]string{400: "Not a case that can be judged; the detail says why.", 413: "Larger than 1 MiB.", 503: "The engine ended before it had judged; ask again."},
		},
		{
			method: "get", path: "/v1/judge", tag: "judge", served: "escalation-engine", callers: "ai-service", summary: "Which stages there are: whether the engine can be reached with this key.",
			status: 200, answer: jsonOf[escalation.Readiness](),
		},
	}
}

// health is what every service serves beside its API.
func health() []route {
	const served = "every service"
	plain := []media{{kind: "text/plain"}}
	return []route{
		{method: "get", path: "/healthz", tag: "health", served: served, open: true, summary: "The process is there.", status: 200, answer: plain},
		{
			method: "get", path: "/readyz", tag: "health", served: served, open: true, summary: "The service does its work.", status: 200, answer: plain,
			problems: map[int]string{503: "It does not; the text names what is missing."}, plain: true,
		},
		{method: "get", path: "/metrics", tag: "health", served: served, open: true, summary: "Metrics in the format of Prometheus.", status: 200, answer: plain},
		{
			method: "get", path: "/openapi.json", tag: "health", served: "every service that has an API, beside it", open: true, summary: "This document.",
			status: 200, answer: []media{{kind: "application/json", of: []reflect.Type{of[map[string]any]()}}},
		},
	}
}

// exampleWebEvent is what nginx sends with the log format of README.md.
func exampleWebEvent() any {
	return object{
		"id": "9f2c41d07b3ea8659f2c41d07b3ea865", "time": "2026-11-25T12:00:00+00:00", "client": "192.0.2.77", "method": "GET", "host": "wiki.example.org", "scheme": "https",
		"target": "/index.php?title=Hedge&oldid=1042", "protocol": "HTTP/2.0", "agent": "Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", "referrer": "",
		"headers": object{"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Accept-Language": "en"}, "status": 200, "bytes": 18234, "duration": 0.184,
	}
}
