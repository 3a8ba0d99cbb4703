// Package config is the one typed configuration of every quickthorn service.
//
// [Config] is the single source: its struct tags make the documented file
// ([WriteDefaults]), the JSON Schema for editors ([WriteJSONSchema]), the table in
// docs/configuration.md ([WriteReference]), the names of environment variables
// and the dotted names of --set.
//
// A value comes from, in this order: a flag, the environment, the file, the
// default. [Load] never reads the process's environment itself; it is handed in.
// All that is wrong is reported at once, as [Problems], each with the place where
// it was written and what would be right. Nothing unknown is ignored: a typing
// mistake in a key or in a variable's name is an error with a suggestion.
//
// To add a setting, add a field with its tags; there is nothing else to register.
//
//	yaml:"name"       key, lower camel case
//	default:"text"    as one would write it; absent means empty, 0 or false
//	doc:"Sentence."   with unit; bounds, choices and default are appended by the generators
//	min:"" max:""     inclusive bounds, written like a value
//	enum:"a,b"        the choices
//	format:"listen"   a check on text: listen, upstream, host, header
//	secret:"true"     never printed; NAMEFile (…_NAME_FILE) reads it from a file
//	example:"text"    for the generated file, where the default is empty
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/quickthorn/quickthorn/internal/defense"
)

// DefaultFile is the file that is read when none is named.
const DefaultFile = "quickthorn.yaml"

// Config is the whole configuration. Values are checked: see the tags for bounds.
type Config struct {
	Edge      Edge      `yaml:"edge" doc:"The public side: the only part that the internet reaches."`
	Upstream  Upstream  `yaml:"upstream" doc:"The server that is protected, and how the edge speaks to it."`
	Sites     []Site    `yaml:"sites" doc:"Several sites behind one edge, chosen by host name. Set in the file only."`
	Policy    Policy    `yaml:"policy" doc:"The rules that requests are judged by."`
	Private   Private   `yaml:"private" doc:"The operator's side: health, metrics and the API of the command line."`
	Data      Data      `yaml:"data" doc:"What is kept on disk."`
	Decisions Decisions `yaml:"decisions" doc:"Time-limited statements about addresses, ranges and agents."`
	Budgets   Budgets   `yaml:"budgets" doc:"Memory for the request budgets that the policy defines."`
	Posture   Posture   `yaml:"posture" doc:"When the edge grows tense: calm, guarded, siege."`
	Events    Events    `yaml:"events" doc:"The record of requests and verdicts."`
	Challenge Challenge `yaml:"challenge" doc:"The check that a doubtful reader passes, and the clearance it earns."`
	Tarpit    Tarpit    `yaml:"tarpit" doc:"How long clients with a tarpit verdict are held."`
	Log       Log       `yaml:"log" doc:"What the program says of itself."`

	origins map[string]Origin
	file    string
}

// File is the name of the configuration file that was read, "" if there was none.
func (c *Config) File() string { return c.file }

// Edge configures the public listener.
type Edge struct {
	Name          string         `yaml:"name" doc:"Name of this edge in events and metrics; empty means the machine's host name."`
	Listen        []string       `yaml:"listen" default:":8080" format:"listen" doc:"Addresses for HTTP/1.1 and unencrypted HTTP/2, host:port or unix:/path."`
	TLS           TLS            `yaml:"tls" doc:"HTTPS with a certificate of your own."`
	ProxyProtocol string         `yaml:"proxyProtocol" default:"off" enum:"off,optional,required" doc:"Whether trusted proxies announce the client by the PROXY protocol (v1 or v2)."`
	Trusted       []netip.Prefix `yaml:"trustedProxies" example:"[10.0.0.0/8, \"fd00::/8\"]" doc:"Addresses and ranges of your own proxies; only their word about the client is believed."`
	TrustUnix     bool           `yaml:"trustUnix" default:"false" doc:"Believe whoever connects by a Unix socket as if it were a trusted proxy."`
	ClientHeaders []string       `yaml:"clientHeaders" default:"X-Forwarded-For,Forwarded,X-Real-IP" enum:"X-Forwarded-For,Forwarded,X-Real-IP" doc:"Headers in which trusted proxies name the client, the first that is present counts."`
	Limits        Limits         `yaml:"limits" doc:"Bounds against slow, huge and too many requests."`
	Drain         time.Duration  `yaml:"drain" default:"30s" min:"0s" max:"1h" doc:"How long requests in flight may finish after SIGTERM."`
	Contact       string         `yaml:"blockedContact" example:"webmaster@example.org" doc:"Whom a refused reader may ask: a mail address, a web address or a sentence, shown on refusals."`
}

// TLS configures the encrypted public listener. It is off while Listen is empty.
type TLS struct {
	Listen          string `yaml:"listen" example:"\":8443\"" format:"listen" doc:"Address for HTTPS, host:port or unix:/path; empty means off."`
	CertificateFile string `yaml:"certificateFile" example:"/etc/quickthorn/fullchain.pem" doc:"File with the certificate chain in PEM, the site's own first."`
	KeyFile         string `yaml:"keyFile" example:"/etc/quickthorn/privkey.pem" doc:"File with the certificate's private key in PEM."`
}

// Limits bound what one client may ask of the edge.
type Limits struct {
	HeaderBytes     Size          `yaml:"headerBytes" default:"64KiB" min:"4KiB" max:"1MiB" doc:"Largest request header."`
	HeaderTimeout   time.Duration `yaml:"headerTimeout" default:"10s" min:"1s" max:"5m" doc:"Time for a client to send its request header."`
	BodyIdleTimeout time.Duration `yaml:"bodyIdleTimeout" default:"60s" min:"1s" max:"1h" doc:"Longest pause within an upload; a long upload that keeps coming is not cut."`
	WriteIdle       time.Duration `yaml:"writeIdleTimeout" default:"120s" min:"0s" max:"1h" doc:"Longest time for a client to take the next piece of an answer; 0 means no limit."`
	IdleTimeout     time.Duration `yaml:"idleTimeout" default:"120s" min:"1s" max:"1h" doc:"How long a connection may wait for its next request."`
	MaxConnections  int           `yaml:"maxConnections" default:"20000" min:"16" max:"1000000" doc:"Client connections at once; further ones are closed."`
	BodyBytes       Size          `yaml:"bodyBytes" default:"0" doc:"Largest upload; 0 means no limit, since uploads are streamed."`
}

// Upstream configures the protected server and the connections to every upstream.
type Upstream struct {
	URL             string        `yaml:"url" example:"http://127.0.0.1:3000" format:"upstream" doc:"The protected server, for every host that no site has: http://, h2c:// or https:// and host:port, or unix:/path."`
	PreserveHost    bool          `yaml:"preserveHost" default:"true" doc:"Pass the Host that the client sent; otherwise the upstream's own."`
	ConnectTimeout  time.Duration `yaml:"connectTimeout" default:"5s" min:"100ms" max:"5m" doc:"Time to connect to an upstream."`
	ResponseTimeout time.Duration `yaml:"responseTimeout" default:"60s" min:"100ms" max:"1h" doc:"Time until an upstream's answer begins; the rest may take as long as it likes."`
	IdleTimeout     time.Duration `yaml:"idleTimeout" default:"90s" min:"1s" max:"1h" doc:"How long an unused connection to an upstream is kept."`
	MaxIdle         int           `yaml:"maxIdle" default:"256" min:"1" max:"65536" doc:"Unused connections kept for each upstream."`
}

// Site is one of several protected sites.
type Site struct {
	Name         string   `yaml:"name" example:"forge" doc:"Name of the site in events, metrics and decisions."`
	Hosts        []string `yaml:"hosts" example:"[git.example.org, \"*.pages.example.org\"]" format:"host" doc:"Host names, exact or with *. in front for every name below."`
	Upstream     string   `yaml:"upstream" example:"http://127.0.0.1:3000" format:"upstream" doc:"The site's server, in the forms of upstream.url."`
	PreserveHost *bool    `yaml:"preserveHost" doc:"As upstream.preserveHost, for this site; empty means as there."`
}

// Policy says which rules apply and how far they are carried out.
type Policy struct {
	Source string       `yaml:"source" default:"readers-first" doc:"A preset's name (readers-first, block-ai-training, siege) or a policy file."`
	Watch  bool         `yaml:"watch" default:"true" doc:"Load the policy again when its files change; a wrong one is reported and the old one kept."`
	Mode   defense.Mode `yaml:"mode" default:"certain" enum:"certain,enforce,observe,off" doc:"Which verdicts are carried out at first; the commands observe, enforce and off change it later and are remembered."`
}

// Private configures the operator's listener.
type Private struct {
	Listen string `yaml:"listen" default:"127.0.0.1:8081" format:"listen" doc:"Address for health, metrics and the API, host:port or unix:/path; keep it from the internet."`
	Key    string `yaml:"key" secret:"true" min:"16" doc:"Key that the API asks for; empty means one that is made at the first start and kept in the data directory."`
	Pprof  bool   `yaml:"pprof" default:"false" doc:"Serve Go's profiles under /debug/pprof/; only on a loopback address or a Unix socket."`
}

// Data says where everything durable is.
type Data struct {
	Directory string `yaml:"directory" default:"./quickthorn-data" doc:"Directory for decisions, events and keys; made if it is missing."`
}

// Decisions bounds the decision set.
type Decisions struct {
	MaxEntries int `yaml:"maxEntries" default:"2000000" min:"1000" max:"50000000" doc:"Decisions at most; a million take about 200 MiB."`
}

// Budgets bounds the memory of request budgets.
type Budgets struct {
	MaxClients int `yaml:"maxClients" default:"200000" min:"1000" max:"10000000" doc:"Buckets kept at once; the fullest, which are those of idle clients, are forgotten first."`
}

// Posture says when the edge changes its posture.
type Posture struct {
	Fixed           *defense.Posture `yaml:"fixed" enum:"calm,guarded,siege" doc:"Hold this posture whatever happens; empty means that load decides."`
	GuardedLatency  time.Duration    `yaml:"guardedLatency" default:"1s" min:"10ms" max:"10m" doc:"Time until the upstream's answer from which the edge is guarded."`
	SiegeLatency    time.Duration    `yaml:"siegeLatency" default:"3s" min:"10ms" max:"10m" doc:"Time until the upstream's answer from which it is a siege."`
	GuardedErrors   float64          `yaml:"guardedErrors" default:"0.05" min:"0.001" max:"1" doc:"Share of failed upstream answers from which the edge is guarded."`
	SiegeErrors     float64          `yaml:"siegeErrors" default:"0.2" min:"0.001" max:"1" doc:"Share of failed upstream answers from which it is a siege."`
	GuardedInFlight int              `yaml:"guardedInFlight" default:"100" min:"1" max:"1000000" doc:"Requests waiting for the upstream from which the edge is guarded."`
	SiegeInFlight   int              `yaml:"siegeInFlight" default:"400" min:"1" max:"1000000" doc:"Requests waiting for the upstream from which it is a siege."`
	Dwell           time.Duration    `yaml:"dwell" default:"60s" min:"1s" max:"1d" doc:"How long a posture lasts at least before it eases by one step."`
}

// Events configures the archive of requests and verdicts.
type Events struct {
	Enabled       bool          `yaml:"enabled" default:"true" doc:"Keep events in the archive."`
	SampleAllow   float64       `yaml:"sampleAllow" default:"0.01" min:"0" max:"1" doc:"Share of plainly allowed requests that are kept; all others always are, and counters are exact."`
	Queue         int           `yaml:"queue" default:"8192" min:"64" max:"1000000" doc:"Events that may wait to be written; further ones are dropped and counted."`
	RetentionAge  time.Duration `yaml:"retentionAge" default:"30d" min:"1h" max:"3650d" doc:"Age at which events are removed."`
	RetentionSize Size          `yaml:"retentionSize" default:"1GiB" min:"16MiB" doc:"Size of the archive from which the oldest events are removed."`
	Addresses     string        `yaml:"addresses" default:"full" enum:"full,truncated,hashed" doc:"How client addresses are kept: full, truncated to /24 or /48, or as a keyed hash."`
	Query         bool          `yaml:"query" default:"true" doc:"Keep query strings; values that look like credentials are masked."`
}

// Challenge configures checks and clearances.
type Challenge struct {
	KeyFile  string        `yaml:"keyFile" doc:"File with the key that signs clearances; empty means clearance.key in the data directory, made at the first start."`
	Validity time.Duration `yaml:"validity" default:"7d" min:"10m" max:"90d" doc:"How long a clearance is good for."`
}

// Tarpit configures the holding of clients.
type Tarpit struct {
	Delay time.Duration `yaml:"delay" default:"5s" min:"0s" max:"5s" doc:"How long a client is held before it is refused."`
	Max   int           `yaml:"max" default:"256" min:"0" max:"65536" doc:"Clients held at once; beyond it the refusal is immediate."`
}

// Log configures the program's own log.
type Log struct {
	Level  string `yaml:"level" default:"info" enum:"debug,info,warn,error" doc:"Least level that is written."`
	Format string `yaml:"format" default:"text" enum:"text,json" doc:"Form of the log on standard error."`
}

// Preserve reports whether the site's upstream gets the Host that the client sent.
func (c *Config) Preserve(s *Site) bool {
	if s.PreserveHost != nil {
		return *s.PreserveHost
	}
	return c.Upstream.PreserveHost
}

// RequireUpstream is nil if there is a server to protect.
func (c *Config) RequireUpstream() error {
	if c.Upstream.URL != "" || len(c.Sites) > 0 {
		return nil
	}
	return errors.New("no upstream: name the server to protect with --upstream http://127.0.0.1:3000, " +
		EnvName("upstream.url") + " or upstream.url in " + DefaultFile)
}

// Origin says where a setting's value comes from. The path is dotted, list
// elements have an index: "edge.limits.headerTimeout", "sites[0].name".
func (c *Config) Origin(path string) Origin { return c.origins[path] }

// OriginKind is the kind of place that a value comes from, weakest first.
type OriginKind uint8

// The kinds of origin.
const (
	FromDefault OriginKind = iota
	FromFile
	FromEnvironment
	FromFlag
)

// Origin is where a value was written.
type Origin struct {
	Kind OriginKind
	Name string // file, environment variable or flag with its path; "" for a default
	Line int    // in a file, from 1
}

// String returns the place as it is written in front of a problem.
func (o Origin) String() string {
	switch {
	case o.Kind == FromDefault:
		return "default"
	case o.Kind == FromFile && o.Line > 0:
		return fmt.Sprintf("%s:%d", o.Name, o.Line)
	}
	return o.Name
}
