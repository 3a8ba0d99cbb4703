package captcha

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// protocol is how a provider is asked, what it answers, and what its widget needs. Field names come from the documents that each
// provider's entry names.
type protocol struct {
	selfHosted bool   // browsers must be told where it is
	verify     string // default address; "" if there is none
	example    string // of a verification address, for those that have none

	json         bool   // send an object rather than a form
	secret       string // field
	secretHeader string // header for the secret instead
	basic        bool   // the secret is "ID:SECRET", for HTTP Basic
	response     string // field
	address      string // field; "" if it takes none
	siteKey      string // field; "" if it takes none

	success  string // path to a boolean
	hostname string // path; "" if it does not tell
	codes    string // path to a string or an array of strings

	keyCodes  []string // that say that our keys are wrong
	oddCodes  []string // that say that the request makes no sense
	downCodes []string // that say that something broke there
	failCodes []string // that are the visitor's failure even in an answer that is not a 200

	script        func(public string) string // default
	scriptExample string                     // for those that have none
	module        bool                       // the script is an ES module
	field         string                     // that the widget puts its response in
	class         string                     // of the div that it fills; "" if it has an element of its own
	element       string
	attributes    func(siteKey, public string) []Attribute
	origins       []string
	wasm, styles  bool
}

// Providers returns the names that Config.Provider takes.
func Providers() []string {
	return []string{"hcaptcha", "turnstile", "recaptcha", "friendly-captcha", "mcaptcha", "cap", "altcha", "custom"}
}

func protocolOf(name string, custom *Custom) (protocol, error) {
	if name != "custom" && !custom.isZero() {
		return protocol{}, fmt.Errorf("custom: it is for provider custom only, and the provider is %q", name)
	}
	switch name {
	case "hcaptcha":
		return hcaptcha(), nil
	case "turnstile":
		return turnstile(), nil
	case "recaptcha":
		return recaptcha(), nil
	case "friendly-captcha":
		return friendlyCaptcha(), nil
	case "mcaptcha":
		return mcaptcha(), nil
	case "cap":
		return capStandalone(), nil
	case "altcha":
		return altcha(), nil
	case "custom":
		return custom.protocol()
	}
	return protocol{}, fmt.Errorf("provider: %q is unknown, want one of %s", name, strings.Join(Providers(), ", "))
}

func fixed(script string) func(string) string { return func(string) string { return script } }

// siteverify is the API that reCAPTCHA began and others took over.
func siteverify() protocol {
	return protocol{
		secret: "secret", response: "response", address: "remoteip",
		success: "success", hostname: "hostname", codes: "error-codes",
		keyCodes:  []string{"missing-input-secret", "invalid-input-secret", "invalid-sitekey", "sitekey-secret-mismatch", "not-using-dummy-secret"},
		oddCodes:  []string{"bad-request", "invalid-remoteip"},
		downCodes: []string{"internal-error"},
		failCodes: []string{
			"missing-input-response", "invalid-input-response", "timeout-or-duplicate", "expired-input-response",
			"already-seen-response", "invalid-or-already-seen-response", "not-using-dummy-passcode",
		},
	}
}

// https://docs.hcaptcha.com/ (verify the user response server side; Content-Security-Policy settings)
func hcaptcha() protocol {
	p := siteverify()
	p.verify = "https://api.hcaptcha.com/siteverify"
	p.siteKey = "sitekey"
	p.script, p.class, p.field = fixed("https://js.hcaptcha.com/1/api.js"), "h-captcha", "h-captcha-response"
	p.origins = []string{"https://hcaptcha.com", "https://*.hcaptcha.com"}
	return p
}

// https://developers.cloudflare.com/turnstile/get-started/server-side-validation/
// https://developers.cloudflare.com/turnstile/reference/content-security-policy/
func turnstile() protocol {
	p := siteverify()
	p.verify = "https://challenges.cloudflare.com/turnstile/v0/siteverify"
	// Its idempotency key is not used: with one, a response could be redeemed any number of times.
	p.script, p.class, p.field = fixed("https://challenges.cloudflare.com/turnstile/v0/api.js"), "cf-turnstile", "cf-turnstile-response"
	p.origins = []string{"https://challenges.cloudflare.com"}
	return p
}

// https://developers.google.com/recaptcha/docs/verify (v2, checkbox)
// https://developers.google.com/recaptcha/docs/faq (Content-Security-Policy, and recaptcha.net where google.com is not reached)
func recaptcha() protocol {
	p := siteverify()
	p.verify = "https://www.google.com/recaptcha/api/siteverify"
	p.script, p.class, p.field = fixed("https://www.google.com/recaptcha/api.js"), "g-recaptcha", "g-recaptcha-response"
	p.origins = []string{
		"https://www.google.com/recaptcha/", "https://www.gstatic.com/recaptcha/", "https://recaptcha.google.com/recaptcha/",
		"https://www.recaptcha.net/recaptcha/",
	}
	p.styles = true // https://github.com/google/recaptcha/issues/107
	return p
}

// https://developer.friendlycaptcha.com/docs/v2/getting-started/verify
// https://developer.friendlycaptcha.com/docs/v2/getting-started/install
func friendlyCaptcha() protocol {
	return protocol{
		verify: "https://global.frcapi.com/api/v2/captcha/siteverify",
		json:   true, secretHeader: "X-API-Key", response: "response", siteKey: "sitekey",
		success: "success", hostname: "data.challenge.origin", codes: "error.error_code",
		keyCodes:  []string{"auth_required", "auth_invalid", "sitekey_invalid"},
		oddCodes:  []string{"bad_request", "response_missing"},
		failCodes: []string{"response_invalid", "response_timeout", "response_duplicate"},
		// The build for old browsers is one classic script, which new ones run as well.
		script: fixed("https://cdn.jsdelivr.net/npm/@friendlycaptcha/sdk@0.2.0/site.compat.min.js"),
		class:  "frc-captcha", field: "frc-captcha-response", origins: []string{"https://*.frcapi.com"}, styles: true,
	}
}

// https://github.com/mCaptcha/mCaptcha/blob/master/CHANGELOG.md (the secret of /api/v1/pow/siteverify)
// https://docs.rs/mcaptcha-api-rs/latest/mcaptcha_api_rs/struct.MCaptcha.html (site key and account secret)
// https://mcaptcha.github.io/glue/vanilla (the widget's elements)
func mcaptcha() protocol {
	return protocol{
		selfHosted: true, example: "https://mcaptcha.example.org/api/v1/pow/siteverify",
		json: true, secret: "secret", response: "token", siteKey: "key",
		success: "valid", codes: "error",
		scriptExample: "a copy of @mcaptcha/vanilla-glue on the site, /assets/mcaptcha.js",
		field:         "mcaptcha__token", element: "mcaptcha",
		attributes: func(siteKey, public string) []Attribute {
			return []Attribute{{"data-mcaptcha_url", public + "/widget/?sitekey=" + url.QueryEscape(siteKey)}}
		},
	}
}

// https://capjs.js.org/guide/standalone/usage.html
// https://capjs.js.org/guide/widget.html
//
// Its older versions answer an unknown response with 404 or 403 and no success, so the words count
// (https://github.com/tiagozip/cap, standalone/src/siteverify.js). The widget would have WebAssembly loaded from a public network of
// caches; that is not among the origins, and it falls back to JavaScript.
func capStandalone() protocol {
	return protocol{
		selfHosted: true, example: "https://cap.example.org/SITEKEY/siteverify",
		json: true, secret: "secret", response: "response",
		success: "success", codes: "error",
		keyCodes:  []string{"Invalid site key or secret"},
		oddCodes:  []string{"Missing required parameters"},
		failCodes: []string{"Token not found", "Token expired"},
		// The standalone server has it when ENABLE_ASSETS_SERVER is true.
		script: func(public string) string { return public + "/assets/widget.js" },
		field:  "cap-token", element: "cap-widget", wasm: true, styles: true,
		attributes: func(siteKey, public string) []Attribute {
			return []Attribute{{"data-cap-api-endpoint", public + "/" + url.PathEscape(siteKey) + "/"}}
		},
	}
}

// https://altcha.org/docs/v2/server-integration/ and https://altcha.org/docs/v2/widget-integration/ (Sentinel)
// https://github.com/altcha-org/altcha-lib/blob/main/docs/server-signatures.md (remote verification)
// https://github.com/altcha-org/altcha-lib/releases/tag/v2.9.0 (Sentinel 2: HTTP Basic)
func altcha() protocol {
	return protocol{
		selfHosted: true, example: "https://sentinel.example.org/v1/verify/signature",
		json: true, secret: "secret", response: "payload",
		success: "verified", codes: "error",
		scriptExample: "a copy of the altcha package's script on the site, /assets/altcha.js", module: true,
		field: "altcha", element: "altcha-widget", wasm: true, styles: true,
		attributes: func(siteKey, public string) []Attribute {
			return []Attribute{{"challenge", public + "/v1/challenge?apiKey=" + url.QueryEscape(siteKey)}, {"name", "altcha"}}
		},
	}
}

func (c *Custom) isZero() bool {
	return !c.JSON && len(c.Origins) == 0 &&
		c.SecretField+c.SecretHeader+c.ResponseField+c.AddressField+c.SiteKeyField+c.Success+c.Hostname+c.Field+c.Class == ""
}

func (c *Custom) protocol() (protocol, error) {
	p := protocol{
		example: "https://captcha.example.org/siteverify", scriptExample: "https://captcha.example.org/widget.js",
		json: c.JSON, secret: c.SecretField, secretHeader: c.SecretHeader, response: c.ResponseField, address: c.AddressField,
		siteKey: c.SiteKeyField, success: c.Success, hostname: c.Hostname, codes: "error-codes", field: c.Field, class: c.Class, origins: c.Origins,
	}
	common := siteverify()
	p.keyCodes, p.oddCodes, p.downCodes, p.failCodes = common.keyCodes, common.oddCodes, common.downCodes, common.failCodes
	if p.secret == "" && p.secretHeader == "" {
		p.secret = "secret"
	}
	if p.response == "" {
		p.response = "response"
	}
	if p.success == "" {
		p.success = "success"
	}
	for _, f := range []struct{ name, value string }{
		{"secretField", c.SecretField}, {"secretHeader", c.SecretHeader}, {"responseField", c.ResponseField}, {"addressField", c.AddressField},
		{"siteKeyField", c.SiteKeyField}, {"success", c.Success}, {"hostname", c.Hostname}, {"field", c.Field}, {"class", c.Class},
	} {
		if len(f.value) > 128 || strings.Trim(f.value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
			return protocol{}, fmt.Errorf("custom.%s: %.40q is no name: letters, digits, hyphens, dots and underscores, at most 128", f.name, f.value)
		}
	}
	switch {
	case c.Field == "":
		return protocol{}, errors.New("custom.field: it is missing: say in which form field the widget puts its response")
	case c.Class == "":
		return protocol{}, errors.New("custom.class: it is missing: say the CSS class of the element that the widget's script fills")
	}
	if strings.Contains(c.SecretHeader, ".") {
		return protocol{}, fmt.Errorf("custom.secretHeader: %q is no header's name", c.SecretHeader)
	}
	names := []string{p.response}
	for _, field := range []string{p.secret, p.address, p.siteKey} {
		if field == "" {
			continue
		}
		if slices.Contains(names, field) {
			return protocol{}, fmt.Errorf("custom: two values would go into the field %q", field)
		}
		names = append(names, field)
	}
	for _, o := range c.Origins {
		u, err := url.Parse(strings.Replace(o, "://*.", "://", 1))
		if err != nil || u.Scheme != "https" && !(u.Scheme == "http" && ownNetwork(u.Hostname())) || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
			strings.ContainsFunc(o, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`;,'"\`, r) }) {
			return protocol{}, fmt.Errorf("custom.origins: %.80q is no origin such as https://captcha.example.org", o)
		}
	}
	return p, nil
}
