package defense

import (
	"net/netip"
	"time"
)

// Presence says whether a part of a request was seen at all.
type Presence uint8

// Unobserved means that the source could not tell (an access log has no
// Sec-Fetch headers); Absent that the client did not send it; Present that it did.
const (
	Unobserved Presence = iota
	Absent
	Present
)

// Text is an observed string, for example a header's value. The zero value is unobserved.
type Text struct {
	Value    string
	Presence Presence
}

// Observed returns the Text of a header that was looked for: Present with the
// value, or Absent when ok is false.
func Observed(value string, ok bool) Text {
	if !ok {
		return Text{Presence: Absent}
	}
	return Text{Value: value, Presence: Present}
}

// IsPresent reports whether the client sent it.
func (t Text) IsPresent() bool { return t.Presence == Present }

// IsAbsent reports whether it is known that the client did not send it.
func (t Text) IsAbsent() bool { return t.Presence == Absent }

// Profile is what is known of one request at the edge, before any judgement.
// It is filled by package profile, from a live request or from a log line.
// A Profile belongs to the goroutine of its request and is not kept after it.
type Profile struct {
	Time      time.Time // when the request arrived, in the clock of its source
	Site      string    // configured name of the site, "" when none matches
	RequestID string    // set by the edge when something will refer to it

	Method   string
	Scheme   string // "http" or "https" as the client used it, "" if unknown
	Host     string // lower case, without port
	Target   string // path and query exactly as received
	Path     string // normalised: percent-decoded once, dot segments and repeated slashes resolved
	Query    string // raw, without "?"
	Protocol string // "HTTP/1.1", "HTTP/2.0"; "" if unknown

	Kind  Kind
	Class string // name of the policy's path class, "" when none matches

	Client    Client
	Agent     Agent
	Headers   Headers
	TLS       TLS
	Identity  Identity
	Clearance Clearance
	Trap      bool // the path is one that only a link for robots leads to
	LoggedIn  bool // the client has a session that the site was seen to give it
}

// Client is who a request is counted against.
type Client struct {
	Address netip.Addr   // unmapped (no IPv4-in-IPv6), without zone
	Counted netip.Prefix // v4 /32 or v6 /64: the unit that budgets count
	Prefix  netip.Prefix // v4 /24 or v6 /48: the neighbourhood
	ASN     uint32       // 0 if unknown
	Country string       // ISO 3166-1 alpha-2, "" if unknown
	Token   string       // public id of a clearance token, never the credential
}

// NewClient derives the counted prefixes from an address. The address is
// unmapped and its zone dropped; an invalid address gives a client with invalid prefixes.
func NewClient(a netip.Addr) Client {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return Client{}
	}
	one, wide := 32, 24
	if a.Is6() {
		one, wide = 64, 48
	}
	counted, _ := a.Prefix(one)
	prefix, _ := a.Prefix(wide)
	return Client{Address: a, Counted: counted, Prefix: prefix}
}

// AgentFamily is the kind of program that a User-Agent claims to be.
type AgentFamily uint8

// The agent families.
const (
	AgentUnknown AgentFamily = iota // says something that is not catalogued
	AgentNone                       // sends no User-Agent or an empty one
	AgentBrowser                    // claims a browser
	AgentCrawler                    // names a catalogued crawler
	AgentFeed                       // names a feed reader
	AgentGit                        // git and compatible clients
	AgentTool                       // library or command-line client: curl, python-requests, …
	AgentApp                        // a native application or web view
)

var agentFamilyNames = [...]string{"unknown", "none", "browser", "crawler", "feed", "git", "tool", "app"}

// String returns the family's name.
func (f AgentFamily) String() string { return nameOf(agentFamilyNames[:], uint8(f)) }

// MarshalText writes the family's name.
func (f AgentFamily) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads a family's name.
func (f *AgentFamily) UnmarshalText(b []byte) error {
	i, err := indexOf("agent family", agentFamilyNames[:], string(b))
	*f = AgentFamily(i)
	return err
}

// Agent is what the User-Agent header claims.
type Agent struct {
	Text    Text        // the header as sent
	Family  AgentFamily // what it claims to be
	Name    string      // product: "Chrome", "Firefox", "GPTBot", "curl"; "" if unknown
	Major   int         // product's major version, 0 if unknown
	OS      string      // "Windows", "macOS", "iOS", "Android", "Linux", "ChromeOS", other name or ""
	Mobile  bool        // claims a phone or tablet
	Crawler *Crawler    // the catalogue's entry, nil unless a crawler, feed reader or other catalogued agent is named
}

// Headers are the request headers that signals and rules look at. From an
// access log most are Unobserved.
type Headers struct {
	Accept          Text
	AcceptLanguage  Text
	AcceptEncoding  Text
	Referer         Text
	SecFetchSite    Text
	SecFetchMode    Text
	SecFetchDest    Text
	SecFetchUser    Text
	SecCHUA         Text
	SecCHUAMobile   Text
	SecCHUAPlatform Text
	UpgradeInsecure Text // Upgrade-Insecure-Requests
	Connection      Text
	Upgrade         Text
	Range           Text
	ContentType     Text
	RequestedWith   Text // X-Requested-With
	Purpose         Text // Sec-Purpose, Purpose or X-Moz
	From            Text
	Via             Text
	IfNoneMatch     Text
	IfModifiedSince Text
	SignatureAgent  Text
	Authorization   Presence // the value is a credential and is never kept
	Cookie          Presence // likewise

	// Shape is a hash of the names and the few shape-bearing values, the same for
	// requests of one program and settings; 0 when not observed.
	Shape uint64
}

// TLS is what is known of the connection's encryption.
type TLS struct {
	Version string // "1.3"; "" if unknown or none
	JA4     string // fingerprint; "" until observed
}

// IdentityStatus says how far a crawler's claim has been proved.
type IdentityStatus uint8

// The identity states. Impostor means the claim is provable and was disproved.
const (
	IdentityNone IdentityStatus = iota
	IdentityUnverified
	IdentityVerified
	IdentityImpostor
)

var identityNames = [...]string{"none", "unverified", "verified", "impostor"}

// String returns the status's name.
func (s IdentityStatus) String() string { return nameOf(identityNames[:], uint8(s)) }

// MarshalText writes the status's name.
func (s IdentityStatus) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a status's name.
func (s *IdentityStatus) UnmarshalText(b []byte) error {
	i, err := indexOf("identity status", identityNames[:], string(b))
	*s = IdentityStatus(i)
	return err
}

// Identity is who the client proved to be.
type Identity struct {
	Crawler string // catalogue id, "" if no crawler is claimed
	Status  IdentityStatus
	How     string // "range", "dns", "signature", "" if not proved
}
