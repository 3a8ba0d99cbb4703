package defense

import "time"

// EventSchema is the version of Event's JSON form. testdata/event.v1.json is
// the contract that producers and consumers both test against.
const EventSchema = 1

// Event is one request with its verdict, as recorded and sent to the intake.
// Durations are in seconds, sizes in bytes, times RFC 3339 with zone.
type Event struct {
	Schema    int           `json:"schema"`
	Kind      string        `json:"kind"` // "request", "challenge", "tarpit", "trap", "appeal"
	ID        string        `json:"id"`   // ULID, the idempotency key
	Time      time.Time     `json:"time"`
	Site      string        `json:"site"`
	Edge      string        `json:"edge"` // name of the edge that saw it
	Client    EventClient   `json:"client"`
	Request   EventRequest  `json:"request"`
	Identity  EventIdentity `json:"identity"`
	Signals   []Signal      `json:"signals,omitempty"`
	Verdict   EventVerdict  `json:"verdict"`
	Response  EventResponse `json:"response"`
	Challenge *EventOutcome `json:"challenge,omitempty"`
	Tarpit    *EventTarpit  `json:"tarpit,omitempty"`
	RequestID string        `json:"requestId"`
	// Transient is set on a plainly allowed request that the archive's sample left out: the intake looks at
	// it, since a campaign consists of requests that look plain, and forgets it.
	Transient bool `json:"transient,omitempty"`
}

// EventOf returns the event of a request as far as its profile tells; id, edge, signals, verdict and response are for the
// caller to add. Its strings share memory with the profile's.
func EventOf(p *Profile) *Event {
	e := &Event{
		Schema: EventSchema, Kind: "request", Time: p.Time, Site: p.Site,
		Client: EventClient{ASN: p.Client.ASN, Country: p.Client.Country, Token: p.Clearance.ID.String()},
		Request: EventRequest{
			Method: p.Method, Host: p.Host, Path: p.Path, Query: p.Query, Kind: p.Kind, Class: p.Class, Family: p.Agent.Family,
			Protocol: p.Protocol, Agent: p.Agent.Text.Value, Referrer: p.Headers.Referer.Value,
			Headers: EventHeaders{
				Accept: p.Headers.Accept.Value, AcceptLanguage: p.Headers.AcceptLanguage.Value,
				SecFetchSite: p.Headers.SecFetchSite.Value, SecFetchMode: p.Headers.SecFetchMode.Value, SecFetchDest: p.Headers.SecFetchDest.Value,
			},
		},
		Identity: EventIdentity{Crawler: p.Identity.Crawler, Status: p.Identity.Status, How: p.Identity.How},
	}
	if p.Client.Address.IsValid() { // who comes by a Unix socket has none
		e.Client.Address, e.Client.Prefix = p.Client.Address.String(), p.Client.Prefix.String()
	}
	if p.Headers.Shape != 0 {
		e.Request.Headers.Shape = hex16(p.Headers.Shape)
	}
	if p.TLS.Version != "" {
		e.Request.TLS = &EventTLS{Version: p.TLS.Version, JA4: p.TLS.JA4}
	}
	return e
}

// EventClient says who asked; address and prefix are empty when that is not known, as by a Unix socket. Privacy settings of the archive may shorten or hash Address.
type EventClient struct {
	Address string `json:"address"`
	Prefix  string `json:"prefix"`
	ASN     uint32 `json:"asn,omitempty"`
	Country string `json:"country,omitempty"`
	Token   string `json:"token,omitempty"`
}

// EventRequest says what was asked.
type EventRequest struct {
	Method   string       `json:"method"`
	Host     string       `json:"host"`
	Path     string       `json:"path"`
	Query    string       `json:"query,omitempty"`
	Kind     Kind         `json:"kind"`
	Class    string       `json:"class,omitempty"`
	Protocol string       `json:"protocol"`
	Agent    string       `json:"agent"`
	Family   AgentFamily  `json:"family"` // what Agent claims to be
	Referrer string       `json:"referrer,omitempty"`
	Headers  EventHeaders `json:"headers"`
	TLS      *EventTLS    `json:"tls,omitempty"`
}

// EventHeaders is the shape of the headers and the few that are kept by name.
type EventHeaders struct {
	Shape          string `json:"shape,omitempty"` // 16 hex digits
	Accept         string `json:"accept,omitempty"`
	AcceptLanguage string `json:"acceptLanguage,omitempty"`
	SecFetchSite   string `json:"secFetchSite,omitempty"`
	SecFetchMode   string `json:"secFetchMode,omitempty"`
	SecFetchDest   string `json:"secFetchDest,omitempty"`
}

// EventTLS is what is known of the connection's encryption.
type EventTLS struct {
	Version string `json:"version,omitempty"`
	JA4     string `json:"ja4,omitempty"`
}

// EventIdentity says which crawler was claimed and how far that was proved.
type EventIdentity struct {
	Crawler string         `json:"crawler,omitempty"`
	Status  IdentityStatus `json:"status"`
	How     string         `json:"how,omitempty"`
}

// EventVerdict is the recorded verdict.
type EventVerdict struct {
	Action   Action      `json:"action"`
	Intended Action      `json:"intended"` // what full enforcement would have done
	Score    int         `json:"score"`
	Rule     string      `json:"rule,omitempty"`
	Reason   string      `json:"reason,omitempty"`
	Basis    Basis       `json:"basis"`
	Mode     Mode        `json:"mode"`
	Posture  Posture     `json:"posture"`
	Decision string      `json:"decision,omitempty"`
	Shadow   []ShadowHit `json:"shadow,omitempty"`
}

// EventResponse is what the client got.
type EventResponse struct {
	Status           int     `json:"status"`
	Bytes            int64   `json:"bytes"`            // body bytes sent to the client
	Duration         float64 `json:"duration"`         // seconds from the request's header to the response's end
	UpstreamDuration float64 `json:"upstreamDuration"` // seconds until the upstream's header, 0 if not asked
}

// EventOutcome is what became of a challenge.
type EventOutcome struct {
	ID      string `json:"id"`
	Kind    string `json:"kind"`
	Outcome string `json:"outcome"` // "issued", "passed", "failed"
}

// EventTarpit is what the tarpit cost the client.
type EventTarpit struct {
	Held  float64 `json:"held"` // seconds
	Bytes int64   `json:"bytes"`
	Depth int     `json:"depth,omitempty"`
}
