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
	"strings"
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
	Tarpit    Tarpit    `yaml:"tarpit" doc:"Where clients with a tarpit verdict go."`
	Log       Log       `yaml:"log" doc:"What the program says of itself."`

	Slow             Slow             `yaml:"slowPath" doc:"The slow path within quickthorn run: it sees campaigns where the edge sees requests."`
	Intake           Intake           `yaml:"intake" doc:"Where events come in, are queued, and are grouped into cases."`
	Escalation       Escalation       `yaml:"escalation" doc:"How cases are judged."`
	Reputation       Reputation       `yaml:"reputation" doc:"What others say of an address: asked by the escalation engine only, never by the edge. All of it is off at first."`
	Alerts           Alerts           `yaml:"alerts" doc:"How the owner is told."`
	State            State            `yaml:"state" doc:"Where decisions, settings and the queue of events are kept."`
	Archive          Archive          `yaml:"archive" doc:"Where events and cases are kept."`
	AIService        AIService        `yaml:"aiService" doc:"The service ai-service, when the parts run apart."`
	EscalationEngine EscalationEngine `yaml:"escalationEngine" doc:"The service escalation-engine, when the parts run apart."`
	PromptRouter     PromptRouter     `yaml:"promptRouter" doc:"The service prompt-router: one address for language models, the local one and the cloud's."`
	CloudProxy       CloudProxy       `yaml:"cloudProxy" doc:"The service cloud-proxy: the only one that holds providers' keys."`
	Gateway          Gateway          `yaml:"gateway" doc:"What prompt-router and cloud-proxy have in common as gateways of language models."`
	Admin            Admin            `yaml:"admin" doc:"The service admin, when the parts run apart."`
	Sync             Sync             `yaml:"sync" doc:"The service sync: scheduled jobs, when the parts run apart."`
	Auth             Auth             `yaml:"auth" doc:"The keys by which services know each other, when the parts run apart. There is no default key."`
	Internal         Internal         `yaml:"internal" doc:"TLS between services; with it a client certificate is as good as a key: its first DNS name is the caller's (proxy, ai-service)."`

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
	KeyFile   string        `yaml:"keyFile" doc:"File with the key that signs clearances; empty means clearance.key in the data directory, made at the first start. Keys in files of the same name with .previous and .next are accepted as well."`
	Validity  time.Duration `yaml:"validity" default:"7d" min:"10m" max:"90d" doc:"How long a clearance is good for; it is renewed for who comes back in its second half."`
	Kinds     []string      `yaml:"kinds" default:"work,refresh" enum:"silent,refresh,work,question,captcha" doc:"Kinds of challenge in the order in which they are tried, where a rule of the policy has none of its own. Who has no JavaScript gets the first that needs none, a question if there is none."`
	Algorithm string        `yaml:"algorithm" default:"sha256" enum:"sha256,memory" doc:"What the browser calculates for kind work; memory takes a few megabytes and leaves graphics cards less of a lead."`
	PerMinute int           `yaml:"perMinute" default:"60" min:"20" max:"65535" doc:"Pages a minute that a clearance is good for, when its challenge was work or a provider's; the others earn less."`
	PerDay    int           `yaml:"perDay" default:"2000" min:"100" max:"10000000" doc:"Pages a day, likewise; beyond it another challenge is asked for."`
	Pages     string        `yaml:"pages" example:"/etc/quickthorn/pages" doc:"Directory with files that replace the built-in pages' own: site.yaml (name, logo, colours), style.css, page.html, logo.svg or logo.png. A saved file is live within two seconds."`
	Captcha   Captcha       `yaml:"captcha" doc:"A provider for kind captcha. Nobody is asked unless it is set."`
}

// Captcha configures a provider of checks.
type Captcha struct {
	Provider    string        `yaml:"provider" enum:"hcaptcha,turnstile,recaptcha,friendly-captcha,mcaptcha,cap,altcha" doc:"Whose check it is; empty means none."`
	SiteKey     string        `yaml:"siteKey" doc:"The site's public key at the provider."`
	Secret      string        `yaml:"secret" secret:"true" doc:"The site's secret at the provider."`
	VerifyURL   string        `yaml:"verifyUrl" example:"https://captcha.example.org/siteverify" doc:"Where answers are verified; needed for a provider that you run yourself, empty means the provider's own."`
	PublicURL   string        `yaml:"publicUrl" example:"https://captcha.example.org" doc:"Where browsers reach mcaptcha, cap or altcha; empty means where verifyUrl points."`
	ScriptURL   string        `yaml:"scriptUrl" example:"https://captcha.example.org/widget.js" doc:"The widget's script, likewise."`
	Timeout     time.Duration `yaml:"timeout" default:"5s" min:"100ms" max:"30s" doc:"Time for the provider to answer; after it the visitor gets another kind of challenge."`
	SendAddress bool          `yaml:"sendAddress" default:"false" doc:"Tell the provider the visitor's address."`
}

// Tarpit configures where clients with a tarpit verdict go.
type Tarpit struct {
	Enabled bool   `yaml:"enabled" default:"true" doc:"Send clients with a tarpit verdict into the maze; otherwise they are held for a while and refused."`
	URL     string `yaml:"url" example:"http://tarpit:8001" doc:"Where an edge that runs apart reaches the service tarpit; empty means that it holds and refuses by itself. quickthorn run has the maze within."`
	Seed    string `yaml:"seed" secret:"true" min:"16" doc:"Secret that the maze and the trap links are made from, the same for edges and tarpits; empty means one that is made at the first start and kept in the data directory."`

	Skin          string   `yaml:"skin" default:"learnt" enum:"learnt,wiki,forge,shop,docs,forum" doc:"What the maze looks like; learnt is like the protected site, and like docs until enough of its pages are known."`
	Text          string   `yaml:"text" default:"nonsense" enum:"nonsense,shuffled-facts,licensed" doc:"What it says: text by chance from corpus, sentences whose facts are shuffled, or nothing but your licence and contact."`
	Corpus        string   `yaml:"corpus" example:"/etc/quickthorn/corpus.qtm" doc:"Model that text is made from (quickthorn corpus train); empty means the latest one in the archive (corpus train --store, texts), and the built-in one until there is one."`
	Texts         []string `yaml:"texts" example:"[\"/srv/wiki/export/*.txt\"]" doc:"Text files (UTF-8; patterns may be used) that a model for the archive is trained on anew, as often as sync.corpusEvery says; by quickthorn run, or by sync where the parts run apart."`
	TextsLanguage string   `yaml:"textsLanguage" example:"en" doc:"Their language."`
	Licence       string   `yaml:"licence" example:"All texts of this site are under CC BY-SA 4.0." doc:"What text licensed says of your licence."`
	Contact       string   `yaml:"contact" example:"Ask licences@example.org for a licence." doc:"What text licensed says of whom to ask; empty means edge.blockedContact."`
	Streams       int      `yaml:"streams" default:"12" min:"0" max:"10000" doc:"One in so many links in the maze leads to a page that never ends; 0 means none."`
	Archives      int      `yaml:"archives" default:"12" min:"0" max:"10000" doc:"One in so many links in lists leads to a made-up archive; 0 means none."`
	WayOut        string   `yaml:"wayOut" default:"/" doc:"Where a person gets out of a maze that another web server sends clients to; edges of quickthorn show their challenge."`

	Links          bool     `yaml:"links" default:"false" doc:"Put hidden links into the site's own pages that lead into the maze; robots.txt forbids them."`
	LinksExcept    []string `yaml:"linksExcept" example:"[/account/, \"/print/**\"]" doc:"Paths whose pages get no such links, in the patterns of policies."`
	SessionCookies []string `yaml:"sessionCookies" example:"[\"wordpress_logged_in_*\"]" doc:"Cookies that the site sets for who is logged in, who is never tarpitted; empty means every HttpOnly cookie that the answer to a form sets."`

	Connections  int           `yaml:"connections" default:"4000" min:"1" max:"1000000" doc:"Clients in the maze at once; beyond it they are refused as if there were none."`
	Bandwidth    Size          `yaml:"bandwidth" default:"1MiB" doc:"Bytes a second for all of them; 0 means no bound."`
	CPU          float64       `yaml:"cpu" default:"0.25" min:"0.01" max:"64" doc:"Share of one processor for making pages."`
	Daily        Size          `yaml:"daily" default:"20GiB" doc:"Bytes a day (UTC) for all of them; 0 means no bound."`
	Hops         int           `yaml:"hops" default:"5000" min:"0" max:"100000000" doc:"Pages a day and client, beyond which the client is refused; 0 means no bound."`
	MaxDelay     time.Duration `yaml:"maxDelay" default:"10s" min:"0s" max:"30s" doc:"Longest wait before a page; the wait is as long as the site itself takes."`
	MinDelay     time.Duration `yaml:"minDelay" default:"500ms" min:"0s" max:"30s" doc:"Shortest wait before a page, which keeps a client busy where the site is fast."`
	StreamMax    time.Duration `yaml:"streamMax" default:"15m" min:"10s" max:"1d" doc:"How long a page that never ends lasts."`
	MinRate      int           `yaml:"minRate" default:"16" min:"1" max:"1024" doc:"Least mean bytes a second of such a page; each has a rate of its own."`
	MaxRate      int           `yaml:"maxRate" default:"64" min:"1" max:"1024" doc:"Most mean bytes a second of such a page."`
	ArchiveRate  Size          `yaml:"archiveRate" default:"32KiB" doc:"Bytes a second of an archive; 0 means no bound."`
	ArchiveBytes Size          `yaml:"archiveBytes" default:"8MiB" min:"512KiB" max:"64MiB" doc:"Largest archive as it is sent."`
	ArchiveRatio int           `yaml:"archiveRatio" default:"20" min:"4" max:"1000" doc:"How many times larger an archive may become when it is unpacked."`
	Epoch        time.Duration `yaml:"epoch" default:"7d" min:"1h" max:"365d" doc:"How long archives stay the same, and how often what the maze looks like and says may change."`
	Bombs        bool          `yaml:"decompressionBombs" default:"false" doc:"Add to archives what unpacks to hundreds of times its size. In many countries that is a crime, also against who misbehaves: leave it off unless a lawyer says otherwise."`

	Listen string         `yaml:"listen" default:":8001" format:"listen" doc:"Address of the service tarpit, host:port or unix:/path."`
	Fronts []netip.Prefix `yaml:"fronts" example:"[127.0.0.1/32]" doc:"Other web servers that send clients to the service tarpit; their X-Forwarded-For names the client. Nobody else is answered but edges."`

	Delay time.Duration `yaml:"delay" default:"5s" min:"0s" max:"5s" doc:"How long a client is held before it is refused, where it cannot go into the maze."`
	Max   int           `yaml:"max" default:"256" min:"0" max:"65536" doc:"Clients held so at once; beyond it the refusal is immediate."`
}

// Log configures the program's own log.
type Log struct {
	Level  string `yaml:"level" default:"info" enum:"debug,info,warn,error" doc:"Least level that is written."`
	Format string `yaml:"format" default:"text" enum:"text,json" doc:"Form of the log on standard error."`
}

// Slow configures the slow path of a single process.
type Slow struct {
	Enabled bool `yaml:"enabled" default:"true" doc:"Group requests into cases and judge them. Decisions of the engine are carried out as the mode says: in mode certain they are only recorded."`
}

// Intake configures the intake of events.
type Intake struct {
	QueueBytes    Size          `yaml:"queueBytes" default:"256MiB" min:"1MiB" max:"1TiB" doc:"Bound of the queue of accepted events; when it is full, edges are told to wait."`
	SpoolBytes    Size          `yaml:"spoolBytes" default:"512MiB" min:"1MiB" max:"1TiB" doc:"Bound of the buffer on disk that events go to while Redis is away."`
	MaxClients    int           `yaml:"maxClients" default:"200000" min:"1000" max:"10000000" doc:"Clients whose behaviour is remembered; the least interesting are forgotten first."`
	MaxCampaigns  int           `yaml:"maxCampaigns" default:"20000" min:"100" max:"1000000" doc:"Shared fingerprints and networks that are watched at once."`
	MinMembers    int           `yaml:"minMembers" default:"20" min:"3" max:"100000" doc:"Odd clients that must share something before it is called a campaign."`
	CaseRetention time.Duration `yaml:"caseRetention" default:"90d" min:"1d" max:"3650d" doc:"Age at which cases without a label are removed."`
	Robots        bool          `yaml:"robots" default:"true" doc:"Read robots.txt from the protected servers, to know which paths automated agents are asked to leave alone."`
	Sources       []Source      `yaml:"sources" doc:"Other web servers that report their requests to /v1/webhook/NAME. Set in the file only."`
}

// Source is a web server that reports its requests.
type Source struct {
	Name    string         `yaml:"name" example:"nginx" doc:"Name of the source in its address and in events: letters, digits, - and _."`
	Key     string         `yaml:"key" secret:"true" min:"16" doc:"Key that the source sends as Authorization: Bearer KEY."`
	Site    string         `yaml:"site" example:"wiki" doc:"Site that its events belong to."`
	Client  string         `yaml:"client" example:"client" doc:"Where the client's address is: client (the field of that name, or the log's first), or X-Forwarded-For, Forwarded or X-Real-IP as written by the trusted hops. Empty: its events lead to no decision."`
	Trusted []netip.Prefix `yaml:"trustedProxies" example:"[10.0.0.0/8]" doc:"Hops whose word in that header is believed."`
	Format  string         `yaml:"format" example:"combined" doc:"Format of lines sent as text/plain: a name or a format string as replay takes them; empty means JSON only."`
}

// Escalation configures how cases are judged. Scores are probabilities.
type Escalation struct {
	Stages           []string      `yaml:"stages" default:"behaviour,model,reputation" enum:"behaviour,model,reputation,opinion" doc:"Stages in their order; judging ends as soon as one is sure. opinion asks a language model about doubtful cases."`
	BehaviourWeight  float64       `yaml:"behaviourWeight" default:"1" min:"0" max:"5" doc:"How much the behaviour stage counts."`
	ModelWeight      float64       `yaml:"modelWeight" default:"0.5" min:"0" max:"5" doc:"How much the trained model counts."`
	ReputationWeight float64       `yaml:"reputationWeight" default:"0.5" min:"0" max:"5" doc:"How much reputation counts."`
	OpinionWeight    float64       `yaml:"opinionWeight" default:"0.5" min:"0" max:"1" doc:"How much a language model's opinion counts."`
	Opinion          OpinionStage  `yaml:"opinion" doc:"The language model that the stage opinion asks. It sees measurements and no text of a client's."`
	Model            string        `yaml:"model" example:"/etc/quickthorn/model.json" doc:"Model file; empty means the built-in one."`
	SureBot          float64       `yaml:"sureBot" default:"0.98" min:"0.5" max:"1" doc:"Probability from which no further stage is asked."`
	SureReader       float64       `yaml:"sureReader" default:"0.02" min:"0" max:"0.5" doc:"Probability up to which no further stage is asked."`
	Challenge        float64       `yaml:"challenge" default:"0.7" min:"0.5" max:"1" doc:"Probability from which a client is asked to pass a check."`
	Throttle         float64       `yaml:"throttle" default:"0.85" min:"0.5" max:"1" doc:"Probability from which an automated agent is slowed."`
	Tarpit           float64       `yaml:"tarpit" default:"0.93" min:"0.5" max:"1" doc:"Probability from which an automated agent is tarpitted."`
	Deny             float64       `yaml:"deny" default:"0.98" min:"0.5" max:"1" doc:"Probability from which an automated agent is refused."`
	Base             time.Duration `yaml:"base" default:"15m" min:"1m" max:"1d" doc:"How long a first decision lasts; each further one doubles it, each quiet day takes one doubling back."`
	Longest          time.Duration `yaml:"longest" default:"7d" min:"1m" max:"365d" doc:"How long a decision lasts at most; what is wider than one client at most an hour."`
}

// OpinionStage says which language model the escalation asks.
type OpinionStage struct {
	URL           string        `yaml:"url" example:"http://127.0.0.1:11434/v1" doc:"OpenAI-compatible base of a model's server; empty means prompt-router."`
	Key           string        `yaml:"key" secret:"true" doc:"Key at that server; prompt-router gets auth.escalationEngine.key."`
	Model         string        `yaml:"model" example:"gpt-5-mini" doc:"Name of the model there."`
	PerDay        int           `yaml:"perDay" default:"200" min:"1" max:"1000000" doc:"Questions a day (UTC) at most; cases that look the same are one question a day."`
	DollarsPerDay float64       `yaml:"dollarsPerDay" default:"0" min:"0" max:"10000" doc:"Cost of a day's questions in US dollars at most, by the price table; 0 means no bound but perDay."`
	Timeout       time.Duration `yaml:"timeout" default:"20s" min:"1s" max:"5m" doc:"Time for one answer."`
}

// Reputation configures what others say of an address.
type Reputation struct {
	Lists     []string      `yaml:"lists" example:"[/etc/quickthorn/bad.txt]" doc:"Files of addresses and ranges, one a line; read again when they change."`
	DNSBL     []string      `yaml:"dnsbl" example:"[dnsbl.example.org]" format:"host" doc:"DNS block lists that are asked about doubtful addresses."`
	Resolver  string        `yaml:"resolver" example:"127.0.0.1:53" doc:"Name server for the block lists; empty means the system's. Public resolvers are refused by some lists."`
	PerMinute int           `yaml:"perMinute" default:"120" min:"1" max:"100000" doc:"Questions to block lists per minute at most."`
	URL       string        `yaml:"url" example:"https://reputation.example.org/v1/{address}" doc:"An HTTP service that answers JSON; {address} stands for the address."`
	Header    string        `yaml:"header" example:"X-Api-Key" doc:"Name of the header that carries the service's key."`
	Key       string        `yaml:"key" secret:"true" doc:"Key of that service."`
	Field     string        `yaml:"field" default:"score" doc:"Field of its answer that holds the score, with dots for nesting."`
	Scale     float64       `yaml:"scale" default:"100" min:"1" max:"1000" doc:"The worst score that the service gives."`
	PerDay    int           `yaml:"perDay" default:"1000" min:"1" max:"10000000" doc:"Questions to that service per day at most."`
	Timeout   time.Duration `yaml:"timeout" default:"2s" min:"100ms" max:"30s" doc:"Time for one answer."`
}

// Alerts configures how the owner is told.
type Alerts struct {
	Email         AlertEmail    `yaml:"email" doc:"Alerts by e-mail."`
	Slack         AlertSlack    `yaml:"slack" doc:"Alerts to Slack or what takes its incoming webhooks."`
	Webhook       AlertWebhook  `yaml:"webhook" doc:"Alerts to a program of yours, as signed JSON."`
	Command       []string      `yaml:"command" example:"[/usr/local/bin/on-alert, --from, quickthorn]" doc:"A local program and its arguments; it gets the alert as JSON on standard input."`
	Severity      string        `yaml:"severity" default:"warning" enum:"info,warning,critical" doc:"Least severity that is told."`
	Kinds         []string      `yaml:"kinds" enum:"campaign,client,posture,intake,store" doc:"Kinds of alert that are told; empty means all."`
	QuietFrom     string        `yaml:"quietFrom" example:"22:00" doc:"Beginning of the quiet hours, in which alerts are collected; empty means none."`
	QuietTo       string        `yaml:"quietTo" example:"07:00" doc:"End of the quiet hours; what was collected is then one message."`
	QuietZone     string        `yaml:"quietZone" default:"UTC" doc:"Time zone of the quiet hours, such as Europe/Berlin."`
	QuietCritical bool          `yaml:"quietCritical" default:"true" doc:"Tell critical alerts in quiet hours as well."`
	Wait          time.Duration `yaml:"wait" default:"30s" min:"0s" max:"1h" doc:"How long alerts of one kind are collected before the first message."`
	Interval      time.Duration `yaml:"interval" default:"15m" min:"1s" max:"1d" doc:"Shortest time between two messages of one kind."`
	PerHour       int           `yaml:"perHour" default:"20" min:"1" max:"10000" doc:"Messages per hour and channel at most."`
}

// AlertEmail sends by SMTP. It is off while To is empty.
type AlertEmail struct {
	Server   string   `yaml:"server" example:"smtp.example.org:587" doc:"Mail server, host:port."`
	Security string   `yaml:"security" default:"starttls" enum:"starttls,tls,opportunistic,none" doc:"starttls (required), tls (from the start), opportunistic (if offered), or none (a server on this machine or network)."`
	Username string   `yaml:"username" doc:"User at the mail server; empty means none."`
	Password string   `yaml:"password" secret:"true" doc:"Password at the mail server."`
	From     string   `yaml:"from" example:"quickthorn@example.org" doc:"Sender's address."`
	To       []string `yaml:"to" example:"[owner@example.org]" doc:"Recipients; empty means no mail."`
}

// AlertSlack posts to an incoming webhook.
type AlertSlack struct {
	URL string `yaml:"url" secret:"true" doc:"Address of the incoming webhook; empty means off."`
}

// AlertWebhook posts signed JSON.
type AlertWebhook struct {
	URL    string `yaml:"url" secret:"true" doc:"Address that alerts are posted to; empty means off."`
	Secret string `yaml:"secret" secret:"true" min:"16" doc:"Secret that the signature is made with."`
}

// State says where state is kept.
type State struct {
	Store string `yaml:"store" default:"embedded" enum:"embedded,redis" doc:"embedded (files in the data directory) or redis (Redis or Valkey)."`
	Redis Redis  `yaml:"redis" doc:"The Redis or Valkey server."`
}

// Redis says how to reach Redis.
type Redis struct {
	Addresses        []string `yaml:"addresses" default:"redis:6379" doc:"Servers, host:port or unix:/path; of a cluster or of Sentinels several."`
	Username         string   `yaml:"username" doc:"User of Redis's access control; empty means the default user."`
	Password         string   `yaml:"password" secret:"true" doc:"Password at Redis."`
	DB               int      `yaml:"db" default:"0" min:"0" max:"65535" doc:"Number of the database."`
	TLS              bool     `yaml:"tls" default:"false" doc:"Speak TLS."`
	CAFile           string   `yaml:"caFile" doc:"File with the authorities that sign the server's certificate; empty means the system's."`
	Prefix           string   `yaml:"prefix" default:"quickthorn:" doc:"Beginning of every key, one per install."`
	Cluster          bool     `yaml:"cluster" default:"false" doc:"The addresses are those of a cluster."`
	SentinelMaster   string   `yaml:"sentinelMaster" doc:"Name of the master; the addresses are then those of Sentinels."`
	SentinelUsername string   `yaml:"sentinelUsername" doc:"User at the Sentinels."`
	SentinelPassword string   `yaml:"sentinelPassword" secret:"true" doc:"Password at the Sentinels."`
}

// Archive says where the archive is kept.
type Archive struct {
	Store    string   `yaml:"store" default:"sqlite" enum:"sqlite,postgres" doc:"sqlite (a file in the data directory) or postgres."`
	Postgres Postgres `yaml:"postgres" doc:"The PostgreSQL server."`
}

// Postgres says how to reach PostgreSQL.
type Postgres struct {
	URL            string `yaml:"url" secret:"true" doc:"Connection, such as postgres://user:password@postgres:5432/quickthorn?sslmode=require."`
	Password       string `yaml:"password" secret:"true" doc:"Password at PostgreSQL, where the URL has none: it may then hold any characters."`
	MaxConnections int    `yaml:"maxConnections" default:"8" min:"2" max:"1000" doc:"Connections at most."`
}

// AIService configures the service of that name.
type AIService struct {
	Listen string `yaml:"listen" default:":8000" format:"listen" doc:"Address of its authenticated API, host:port or unix:/path."`
	URL    string `yaml:"url" default:"http://ai-service:8000" doc:"Where edges and the command line reach it."`
}

// EscalationEngine configures the service of that name.
type EscalationEngine struct {
	Listen string `yaml:"listen" default:":8003" format:"listen" doc:"Address of its authenticated API, host:port or unix:/path."`
	URL    string `yaml:"url" default:"http://escalation-engine:8003" doc:"Where ai-service reaches it; in-process for the engine within ai-service itself."`
}

// PromptRouter configures the service of that name.
type PromptRouter struct {
	Listen      string        `yaml:"listen" default:":8009" format:"listen" doc:"Address of its authenticated API, host:port or unix:/path."`
	URL         string        `yaml:"url" default:"http://prompt-router:8009" doc:"Where escalation-engine reaches it."`
	LocalURL    string        `yaml:"localUrl" example:"http://ollama:11434/v1" doc:"OpenAI-compatible base of a model server of your own, which routes call local; empty means none: everything goes to cloud-proxy."`
	LocalTokens int           `yaml:"localTokens" default:"0" min:"0" max:"10000000" doc:"Without promptRouter.routes: prompts of more tokens than this go to cloud-proxy instead; 0 means none do."`
	Servers     []ModelServer `yaml:"servers" doc:"Several model servers of your own. Set in the file only."`
	Tools       []ToolServer  `yaml:"tools" doc:"MCP servers, whose tools routes can use as mcp://NAME/TOOL. Set in the file only."`
	Routes      []ModelRoute  `yaml:"routes" doc:"Where calls go; the first that fits counts. Without any, calls go to your own servers, the least busy first, or to cloud-proxy where there are none. Set in the file only."`
	Cache       bool          `yaml:"cache" default:"false" doc:"On every route: answer a call that is the same as an earlier one of the same caller, word by word, with the earlier answer."`
	CacheBytes  Size          `yaml:"cacheBytes" default:"32MiB" min:"0" max:"64GiB" doc:"Memory for answers that may be given again."`
	CacheAge    time.Duration `yaml:"cacheAge" default:"1h" min:"1s" max:"30d" doc:"How long an answer may be given again."`
	Running     int           `yaml:"running" default:"64" min:"1" max:"100000" doc:"Calls that are answered at once."`
	Waiting     int           `yaml:"waiting" default:"256" min:"0" max:"100000" doc:"Calls that wait for their turn, those of a route of higher priority first; further ones are refused with 429."`
}

// ModelServer is a model server of the owner's.
type ModelServer struct {
	Name        string        `yaml:"name" example:"gpu-1" doc:"Name in routes, metrics and logs; cloud and local are taken."`
	Kind        string        `yaml:"kind" example:"ollama" doc:"ollama for Ollama's own API, compatible for any server that speaks OpenAI's: llama.cpp, vLLM, Ollama below /v1."`
	URL         string        `yaml:"url" example:"http://gpu-1:11434" doc:"Base of its API: with /v1 for compatible, without for ollama."`
	Key         string        `yaml:"key" secret:"true" doc:"Key at the server, if it wants one."`
	Models      []string      `yaml:"models" doc:"Its models, exact or by a pattern; empty means any."`
	Context     int           `yaml:"context" min:"0" max:"100000000" doc:"Tokens that prompt and answer may have together; 0 means that it is not bounded."`
	Can         []string      `yaml:"can" enum:"tools,vision,json" doc:"What it can do beside text: tools, vision, json; empty means all."`
	MaxInFlight int           `yaml:"maxInFlight" min:"0" max:"100000" doc:"Calls at once; 0 means 256."`
	Timeout     time.Duration `yaml:"timeout" min:"0s" max:"1h" doc:"Time until an answer begins; 0 means 5m."`
}

// ToolServer is an MCP server whose tools can stand where a model does.
type ToolServer struct {
	Name     string        `yaml:"name" example:"classifier" doc:"Name in routes."`
	URL      string        `yaml:"url" example:"http://classifier:8010/mcp" doc:"Where it answers, by streamable HTTP."`
	Key      string        `yaml:"key" secret:"true" doc:"Key that is sent as a bearer token, if it wants one."`
	Argument string        `yaml:"argument" example:"text" doc:"Name of the tools' argument, which is what the caller says last; empty means text."`
	Local    bool          `yaml:"local" doc:"It is your own: calls that are to stay local may go there."`
	Timeout  time.Duration `yaml:"timeout" min:"0s" max:"1h" doc:"Time until an answer; 0 means 5m."`
}

// ModelRoute says where calls go that it fits.
type ModelRoute struct {
	Name      string   `yaml:"name" example:"small" doc:"Name in metrics, logs and explanations."`
	Models    []string `yaml:"models" doc:"Models that the caller names, exact or by a pattern; empty means any."`
	Callers   []string `yaml:"callers" doc:"Callers, such as escalation-engine or key:blog-search, or patterns; empty means any."`
	MaxTokens int      `yaml:"maxTokens" min:"0" max:"100000000" doc:"Tokens of the prompt at most; 0 means any."`
	Use       []string `yaml:"use" example:"[\"gpu-1/llama3.2:3b|gpu-2/llama3.2:3b\", cloud/gpt-5-mini]" doc:"Servers in the order in which they are tried, as SERVER or SERVER/MODEL, in quotes where the name has a colon; of those with | between them the least busy one first. cloud is cloud-proxy, mcp://SERVER/TOOL a tool of promptRouter.tools."`
	Prefer    string   `yaml:"prefer" example:"cost" doc:"Another order: cost (the cheapest first) or latency (the quickest of late first); empty means as they are written."`
	Cache     bool     `yaml:"cache" doc:"As promptRouter.cache, for this route."`
	Priority  int      `yaml:"priority" min:"0" max:"1000" doc:"In the queue, the higher goes first."`
}

// ToolScheme begins the server in a route's use that is an MCP server.
const ToolScheme = "mcp://"

// UseTarget is one of those that a route can use.
type UseTarget struct {
	Server string // of promptRouter.servers, "cloud" or "local"; ToolScheme and a name of promptRouter.tools
	Model  string // there, or the tool; "": the caller's
}

// ParseUse reads an entry of ModelRoute.Use: SERVER, SERVER/MODEL or mcp://SERVER/TOOL, several with | between them.
func ParseUse(use string) []UseTarget {
	var list []UseTarget
	for t := range strings.SplitSeq(use, "|") {
		rest, tool := strings.CutPrefix(strings.TrimSpace(t), ToolScheme)
		server, model, _ := strings.Cut(rest, "/")
		if tool {
			server = ToolScheme + server
		}
		list = append(list, UseTarget{server, model})
	}
	return list
}

// CloudProxy configures the service of that name.
type CloudProxy struct {
	Listen       string        `yaml:"listen" default:":8008" format:"listen" doc:"Address of its authenticated API, host:port or unix:/path."`
	URL          string        `yaml:"url" default:"http://cloud-proxy:8008" doc:"Where prompt-router reaches it."`
	Provider     Provider      `yaml:"provider" doc:"Who runs the models, where it is one provider with one key."`
	Providers    []NamedSeller `yaml:"providers" doc:"Several providers, beside or instead of cloudProxy.provider. Set in the file only."`
	ProviderKeys []ProviderKey `yaml:"providerKeys" doc:"Further keys of providers, of which each call takes one by weight. Set in the file only."`
}

// Provider says who runs the cloud's models.
type Provider struct {
	Kind   string   `yaml:"kind" default:"openai" enum:"openai,anthropic,gemini,mistral,cohere,azure,compatible" doc:"Whose API it is; azure needs the URL of your resource, which ends in /openai/v1; compatible is any server that speaks OpenAI's."`
	URL    string   `yaml:"url" example:"https://api.openai.com/v1" doc:"Base of the provider's API; empty means the kind's own. Nothing but the named bases is ever reached."`
	Key    string   `yaml:"key" secret:"true" doc:"Key at the provider; empty means that the provider is not asked."`
	Models []string `yaml:"models" example:"[gpt-5-mini, fast=gpt-5-nano]" doc:"Models that callers may name, exact, by a pattern such as gpt-5*, or name=the provider's name; empty means all."`
}

// NamedSeller is one of several providers.
type NamedSeller struct {
	Name        string        `yaml:"name" example:"anthropic" doc:"Name in metrics and logs; a caller can ask for NAME/MODEL."`
	Kind        string        `yaml:"kind" example:"anthropic" doc:"As cloudProxy.provider.kind."`
	URL         string        `yaml:"url" doc:"As cloudProxy.provider.url."`
	Key         string        `yaml:"key" secret:"true" doc:"As cloudProxy.provider.key; a compatible server needs none."`
	Models      []string      `yaml:"models" doc:"As cloudProxy.provider.models. Of several providers that have a model the first is asked first."`
	MaxInFlight int           `yaml:"maxInFlight" min:"0" max:"100000" doc:"Calls at once; 0 means 256."`
	Timeout     time.Duration `yaml:"timeout" min:"0s" max:"1h" doc:"Time until an answer begins; 0 means 5m."`
}

// ProviderKey is a further key of a provider.
type ProviderKey struct {
	Provider string `yaml:"provider" example:"anthropic" doc:"Name of the provider, or of the kind for cloudProxy.provider."`
	Key      string `yaml:"key" secret:"true" doc:"The key."`
	Weight   int    `yaml:"weight" min:"0" max:"1000" doc:"Its share of the calls beside the provider's other keys; 0 means 1, which is that of the first key."`
}

// Gateway configures what gateways of language models have in common.
type Gateway struct {
	Keys          []ModelKey   `yaml:"keys" doc:"Keys of programs that use the gateways, and the bounds of every caller. Set in the file only."`
	Prices        []ModelPrice `yaml:"prices" doc:"Prices of models, above those of the table that comes with the program. Set in the file only."`
	Retries       int          `yaml:"retries" default:"2" min:"0" max:"10" doc:"Further rounds of attempts when every server of a call is busy or fails."`
	UnknownFields string       `yaml:"unknownFields" default:"pass" enum:"pass,refuse" doc:"What happens to fields of a call that the gateway does not know."`
	AnswerTokens  int          `yaml:"answerTokens" default:"4096" min:"1" max:"1000000" doc:"Tokens that are reserved of a budget for an answer whose length the call does not bound."`
	MaxInFlight   int          `yaml:"maxInFlight" default:"1024" min:"1" max:"100000" doc:"Calls at once."`
	RequestBytes  Size         `yaml:"requestBytes" default:"4MiB" min:"1KiB" max:"64MiB" doc:"Largest call, which is held in memory."`
	AccessLog     bool         `yaml:"accessLog" default:"true" doc:"Log each call: who, which model, how long, how many tokens and what it cost, but nothing of what it says."`
	LogPrompts    bool         `yaml:"logPrompts" default:"false" doc:"Log what calls say as well."`
}

// ModelKey is a caller of a gateway and its bounds.
type ModelKey struct {
	Name          string   `yaml:"name" example:"blog-search" doc:"Name of the caller in logs and budgets; prompt-router, escalation-engine and operator are those callers, which have keys already."`
	Hash          string   `yaml:"hash" example:"sha256:…" doc:"SHA-256 of the key in hexadecimal, as quickthorn llm key prints it."`
	Models        []string `yaml:"models" doc:"Models that it may name, exact or by a pattern such as gpt-5*; empty means all."`
	PerMinute     int      `yaml:"requestsPerMinute" min:"0" max:"1000000" doc:"Calls a minute, at each replica; 0 means no bound."`
	PerDay        int      `yaml:"requestsPerDay" min:"0" max:"1000000000" doc:"Calls a day (UTC), over all replicas; 0 means no bound."`
	TokensPerDay  int      `yaml:"tokensPerDay" min:"0" max:"1000000000000" doc:"Tokens of prompts and answers a day (UTC), over all replicas; 0 means no bound."`
	DollarsPerDay float64  `yaml:"dollarsPerDay" min:"0" max:"100000" doc:"Cost a day (UTC) in US dollars, over all replicas; 0 means no bound."`
}

// ModelPrice is what a model costs.
type ModelPrice struct {
	Model  string  `yaml:"model" example:"house-model" doc:"The model's name at the provider."`
	Input  float64 `yaml:"input" min:"0" max:"100000" doc:"US dollars for a million tokens of the prompt."`
	Cached float64 `yaml:"cached" min:"0" max:"100000" doc:"US dollars for a million tokens of the prompt that the provider had in its cache; 0 means as input."`
	Output float64 `yaml:"output" min:"0" max:"100000" doc:"US dollars for a million tokens of the answer."`
}

// Admin configures the service of that name.
type Admin struct {
	Listen string `yaml:"listen" default:"127.0.0.1:5002" format:"listen" doc:"Address of its pages, host:port or unix:/path."`
}

// Sync configures the service of that name.
type Sync struct {
	RetentionEvery time.Duration `yaml:"retentionEvery" default:"10m" min:"1m" max:"1d" doc:"How often events and cases beyond their retention are removed from PostgreSQL."`
	CorpusEvery    time.Duration `yaml:"corpusEvery" default:"1d" min:"1m" max:"30d" doc:"How often the texts of tarpit.texts are looked at."`
}

// Auth holds the callers' keys.
type Auth struct {
	Proxy            CallerKey `yaml:"proxy" doc:"Edges calling ai-service."`
	AIService        CallerKey `yaml:"aiService" doc:"ai-service calling escalation-engine."`
	EscalationEngine CallerKey `yaml:"escalationEngine" doc:"escalation-engine calling prompt-router."`
	PromptRouter     CallerKey `yaml:"promptRouter" doc:"prompt-router calling cloud-proxy."`
}

// CallerKey is one caller's key.
type CallerKey struct {
	Key      string `yaml:"key" secret:"true" min:"16" doc:"The key that this caller sends."`
	Previous string `yaml:"keyPrevious" secret:"true" min:"16" doc:"The key before, still accepted, while keys are being changed."`
}

// Internal configures TLS between services.
type Internal struct {
	CertificateFile string `yaml:"certificateFile" doc:"File with this service's certificate chain in PEM; empty means no TLS."`
	KeyFile         string `yaml:"keyFile" doc:"File with its private key in PEM."`
	CAFile          string `yaml:"caFile" doc:"File with the authority that signs the services' certificates; callers must then show one of its certificates or a key."`
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
