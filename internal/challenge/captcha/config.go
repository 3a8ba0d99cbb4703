package captcha

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Secret is a string that formatting and logs do not show.
type Secret string

// hidden is what is shown of a secret.
const hidden = "(secret)"

// String returns a placeholder.
func (s Secret) String() string { return hidden }

// GoString returns a placeholder.
func (s Secret) GoString() string { return hidden }

// LogValue returns a placeholder.
func (s Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText returns a placeholder.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Config says which provider verifies, and how.
type Config struct {
	// Provider is one of Providers.
	Provider string
	// SiteKey is the public key: it is written into the page. For altcha, the API key that its challenge address carries.
	SiteKey string
	// Secret is the key that only servers know. For Friendly Captcha, the API key; for altcha since Sentinel 2, "ID:SECRET" of a key.
	Secret Secret
	// VerifyURL is where responses are verified; "" is the provider's own address. mcaptcha, cap, altcha and
	// custom have none and need it. It begins with https://, or with http:// when the host is this machine or on a network of its own (an
	// address such as 10.1.2.3, a name without a dot or below .internal, .local, .home.arpa).
	VerifyURL string
	// PublicURL is where browsers reach mcaptcha, cap or altcha: "https://cap.example.org", with a path if it is below one. "" is where VerifyURL
	// points, which must be https then.
	PublicURL string
	// ScriptURL is the widget's script: "" is the provider's own. A path, "/assets/captcha.js", is one on the site itself. mcaptcha, altcha and
	// custom have none of their own and need it.
	ScriptURL string
	// Timeout bounds one verification, waiting for a turn not counted; 0: 5 s; at most 30 s.
	Timeout time.Duration
	// SendAddress has the visitor's address sent to the provider, if it takes one.
	SendAddress bool
	// MaxInFlight is how many verifications there are at once, at most 1024; 0: 16.
	MaxInFlight int
	// Custom describes a provider that is not known here; for Provider "custom" only.
	Custom Custom
}

// Custom describes an API that takes a POST with a few fields and answers with JSON.
type Custom struct {
	// JSON has the fields sent as a JSON object rather than as a form.
	JSON bool
	// SecretField and SecretHeader say where the secret goes. If both are "", it is the field "secret".
	SecretField, SecretHeader string
	// ResponseField is the field for the widget's response; "": "response".
	ResponseField string
	// AddressField is the field for the visitor's address, if SendAddress is set; "": it is not sent.
	AddressField string
	// SiteKeyField is the field for the site key; "": it is not sent.
	SiteKeyField string
	// Success is the path to true or false in the answer, its names joined by dots; "": "success".
	Success string
	// Hostname is the path to the host for which the widget was solved; "": it is not checked.
	Hostname string
	// Field is the form field in which the widget puts its response. It is needed.
	Field string
	// Class is the CSS class of the element that the script fills. It is needed.
	Class string
	// Origins are what browsers must be allowed to load besides the script itself, as sources of a Content-Security-Policy.
	Origins []string
}

// Validate returns nil if New will take the configuration; the error names the field and what is right. It never holds the secret.
func (c Config) Validate() error {
	_, err := c.settle()
	return err
}

// settled is a configuration with its defaults.
type settled struct {
	protocol protocol
	verify   *url.URL
	timeout  time.Duration
	flights  int
	widget   Widget
}

func (c Config) settle() (*settled, error) {
	p, err := protocolOf(c.Provider, &c.Custom)
	if err != nil {
		return nil, err
	}
	s := &settled{protocol: p, timeout: c.Timeout, flights: c.MaxInFlight}
	if err := key("siteKey", c.SiteKey); err != nil {
		return nil, err
	}
	if err := key("secret", string(c.Secret)); err != nil {
		return nil, err
	}
	if c.Provider == "altcha" && strings.Contains(string(c.Secret), ":") {
		s.protocol.secret, s.protocol.basic = "", true
	}

	address := c.VerifyURL
	if address == "" {
		if address = p.verify; address == "" {
			return nil, fmt.Errorf("verifyURL: %s has no address of its own: say where yours is, such as %s", c.Provider, p.example)
		}
	}
	if s.verify, err = parseURL(address, true); err != nil {
		return nil, fmt.Errorf("verifyURL: %w", err)
	}
	public := ""
	switch {
	case !p.selfHosted && c.PublicURL != "":
		return nil, fmt.Errorf("publicURL: it is for mcaptcha, cap and altcha, not for %s", c.Provider)
	case c.PublicURL != "":
		u, err := parseURL(c.PublicURL, false)
		if err != nil {
			return nil, fmt.Errorf("publicURL: %w", err)
		}
		public = u.Scheme + "://" + u.Host + strings.TrimSuffix(u.EscapedPath(), "/")
	case p.selfHosted && s.verify.Scheme != "https" && !thisMachine(s.verify.Hostname()):
		return nil, fmt.Errorf("publicURL: visitors cannot reach %s: say where they find it, such as https://captcha.example.org", s.verify.Host)
	case p.selfHosted:
		public = s.verify.Scheme + "://" + s.verify.Host
	}

	script := c.ScriptURL
	if script == "" {
		if p.script != nil {
			script = p.script(public)
		}
		if script == "" {
			return nil, fmt.Errorf("scriptURL: %s has no script of its own: say where the widget's is, such as %s", c.Provider, p.scriptExample)
		}
	}
	if script, err = parseScript(script); err != nil {
		return nil, fmt.Errorf("scriptURL: %w", err)
	}

	switch {
	case s.timeout == 0:
		s.timeout = defaultTimeout
	case s.timeout < 0 || s.timeout > maxTimeout:
		return nil, fmt.Errorf("timeout: %s is not between 0 (which stands for %s) and %s", s.timeout, defaultTimeout, maxTimeout)
	}
	switch {
	case s.flights == 0:
		s.flights = defaultFlights
	case s.flights < 0 || s.flights > maxFlights:
		return nil, fmt.Errorf("maxInFlight: %d is not between 0 (which stands for %d) and %d", s.flights, defaultFlights, maxFlights)
	}
	if c.SendAddress && p.address == "" {
		return nil, fmt.Errorf("sendAddress: %s takes no addresses: leave it out", c.Provider)
	}
	s.widget = p.makeWidget(c.SiteKey, public, script)
	return s, nil
}

// key checks a key without showing it.
func key(name, value string) error {
	switch {
	case value == "":
		return fmt.Errorf("%s: it is missing: the provider shows it where the site is set up", name)
	case len(value) > 512:
		return fmt.Errorf("%s: it has %d characters; keys have at most 512", name, len(value))
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("%s: it holds a space, a line break or something else that no key has", name)
	}
	return nil
}

// parseURL parses an absolute address; a query is for the server's eyes only.
func parseURL(address string, query bool) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("it is no URL") // err would show what may hold a key
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "":
		return nil, errors.New("it must be an address that begins with https://")
	case u.User != nil:
		return nil, errors.New("it must not hold a user name or password")
	case u.Fragment != "" || !query && u.RawQuery != "":
		return nil, errors.New("it must end with its path")
	case u.Scheme == "http" && !ownNetwork(u.Hostname()):
		return nil, fmt.Errorf("it must begin with https://: on the way to %s, others could read the keys and change the answer", u.Hostname())
	case strings.ContainsFunc(u.Host, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`;,'"\`, r) }):
		return nil, errors.New("its host has a character that no host has (write names of other scripts as xn--…)")
	}
	return u, nil
}

// parseScript checks the address of a script, which may be a path on the site itself.
func parseScript(address string) (string, error) {
	if strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "//") && !strings.ContainsAny(address, " \t\r\n\\;,'\"<>") {
		return address, nil
	}
	u, err := parseURL(address, true)
	if err != nil {
		return "", fmt.Errorf("%w, or a path on the site that begins with /", err)
	}
	if strings.ContainsAny(u.EscapedPath(), ";,'") { // would end the source in a Content-Security-Policy
		return "", errors.New("its path must not hold a semicolon, comma or quote")
	}
	return u.String(), nil
}

// ownNetwork reports whether a host is one that only the operator's own network has.
func ownNetwork(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast()
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return !strings.Contains(host, ".") || slices.ContainsFunc([]string{".localhost", ".internal", ".local", ".home.arpa"},
		func(suffix string) bool { return strings.HasSuffix(host, suffix) })
}

// thisMachine reports whether a host is the machine itself, where whoever tries things out has their browser too.
func thisMachine(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}
