package captcha

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

func TestWrongConfigurationsSayWhatIsRight(t *testing.T) {
	for name, tt := range map[string]struct {
		provider string
		change   func(c *Config)
		want     string // "" if it is valid
	}{
		"no provider":               {"", func(*Config) {}, `provider: "" is unknown, want one of hcaptcha, turnstile`},
		"another spelling":          {"hCaptcha", func(*Config) {}, `"hCaptcha" is unknown`},
		"no site key":               {"hcaptcha", func(c *Config) { c.SiteKey = "" }, "siteKey: it is missing"},
		"no secret":                 {"hcaptcha", func(c *Config) { c.Secret = "" }, "secret: it is missing"},
		"a line break":              {"hcaptcha", func(c *Config) { c.Secret += "\n" }, "secret: it holds a space, a line break"},
		"a long secret":             {"hcaptcha", func(c *Config) { c.Secret = Secret(strings.Repeat("x", 513)) }, "secret: it has 513 characters"},
		"external as it is":         {"hcaptcha", func(*Config) {}, ""},
		"turnstile as it is":        {"turnstile", func(*Config) {}, ""},
		"recaptcha as it is":        {"recaptcha", func(*Config) {}, ""},
		"friendly as it is":         {"friendly-captcha", func(*Config) {}, ""},
		"self-hosted as it is":      {"cap", func(*Config) {}, "verifyURL: cap has no address of its own: say where yours is, such as https://cap.example.org/SITEKEY/siteverify"},
		"self-hosted":               {"cap", func(c *Config) { c.VerifyURL = "https://cap.example.org/k/siteverify" }, ""},
		"self-hosted within":        {"cap", func(c *Config) { c.VerifyURL = "http://cap:3000/k/siteverify" }, "publicURL: visitors cannot reach cap:3000"},
		"self-hosted within, said":  {"cap", func(c *Config) { c.VerifyURL, c.PublicURL = "http://cap:3000/k/siteverify", "https://cap.example.org" }, ""},
		"self-hosted on trial":      {"cap", func(c *Config) { c.VerifyURL = "http://127.0.0.1:3000/k/siteverify" }, ""},
		"public of an external":     {"hcaptcha", func(c *Config) { c.PublicURL = "https://h.example" }, "publicURL: it is for mcaptcha, cap and altcha"},
		"public with a query":       {"cap", func(c *Config) { c.VerifyURL, c.PublicURL = "http://cap/k", "https://cap.example.org/?x" }, "publicURL: it must end with its path"},
		"no script":                 {"mcaptcha", func(c *Config) { c.VerifyURL = "https://m.example/api/v1/pow/siteverify" }, "scriptURL: mcaptcha has no script of its own"},
		"a script on the site":      {"mcaptcha", func(c *Config) { c.VerifyURL, c.ScriptURL = "https://m.example/api/v1/pow/siteverify", "/assets/m.js" }, ""},
		"a script of nobody's":      {"hcaptcha", func(c *Config) { c.ScriptURL = "//cdn.example/x.js" }, "scriptURL: it must be an address that begins with https://, or a path"},
		"a script that is a policy": {"hcaptcha", func(c *Config) { c.ScriptURL = "https://cdn.example/x.js;script-src%20*" }, "scriptURL: its path must not hold a semicolon"},
		"a path that is markup":     {"hcaptcha", func(c *Config) { c.ScriptURL = `/x.js"><script>` }, "scriptURL:"},
		"a host that is a policy":   {"hcaptcha", func(c *Config) { c.ScriptURL = "https://cdn.example;x/x.js" }, "scriptURL:"},
		"plain http":                {"hcaptcha", func(c *Config) { c.VerifyURL = "http://verify.example/siteverify" }, "verifyURL: it must begin with https://: on the way to verify.example"},
		"plain http at home":        {"hcaptcha", func(c *Config) { c.VerifyURL = "http://captcha.home.arpa/siteverify" }, ""},
		"plain http, private":       {"hcaptcha", func(c *Config) { c.VerifyURL = "http://[fd00::1]:8080/siteverify" }, ""},
		"plain http, public":        {"hcaptcha", func(c *Config) { c.VerifyURL = "http://192.0.2.1/siteverify" }, "verifyURL: it must begin with https://"},
		"no scheme":                 {"hcaptcha", func(c *Config) { c.VerifyURL = "verify.example" }, "verifyURL: it must be an address that begins with https://"},
		"another scheme":            {"hcaptcha", func(c *Config) { c.VerifyURL = "file:///etc/passwd" }, "verifyURL: it must be an address that begins with https://"},
		"a password":                {"hcaptcha", func(c *Config) { c.VerifyURL = "https://a:hunter2@verify.example/" }, "verifyURL: it must not hold a user name or password"},
		"no URL":                    {"hcaptcha", func(c *Config) { c.VerifyURL = "https://hunter2%zz" }, "verifyURL: it is no URL"},
		"a negative timeout":        {"hcaptcha", func(c *Config) { c.Timeout = -1 }, "timeout: -1ns is not between 0 (which stands for 5s) and 30s"},
		"a long timeout":            {"hcaptcha", func(c *Config) { c.Timeout = time.Minute }, "timeout: 1m0s is not between"},
		"too many at once":          {"hcaptcha", func(c *Config) { c.MaxInFlight = 1025 }, "maxInFlight: 1025 is not between 0 (which stands for 16) and 1024"},
		"fewer than none":           {"hcaptcha", func(c *Config) { c.MaxInFlight = -1 }, "maxInFlight: -1"},
		"an address for none":       {"friendly-captcha", func(c *Config) { c.SendAddress = true }, "sendAddress: friendly-captcha takes no addresses"},
		"an address":                {"hcaptcha", func(c *Config) { c.SendAddress = true }, ""},
		"custom for another":        {"hcaptcha", func(c *Config) { c.Custom.Field = "x" }, "custom: it is for provider custom only"},
		"custom, field missing":     {"custom", func(c *Config) { c.Custom.Class = "x" }, "custom.field: it is missing"},
		"custom, class missing":     {"custom", func(c *Config) { c.Custom.Field = "x" }, "custom.class: it is missing"},
		"custom, address missing":   {"custom", func(c *Config) { c.Custom = Custom{Field: "x", Class: "y"} }, "verifyURL: custom has no address of its own"},
		"custom, a strange name":    {"custom", func(c *Config) { c.Custom = Custom{Field: "x\" onload=\"y", Class: "y"} }, `custom.field: "x\" onload=\"y" is no name`},
		"custom, a strange header":  {"custom", func(c *Config) { c.Custom = Custom{Field: "x", Class: "y", SecretHeader: "a.b"} }, `custom.secretHeader: "a.b" is no header's name`},
		"custom, one field for two": {"custom", func(c *Config) { c.Custom = Custom{Field: "x", Class: "y", SecretField: "response"} }, `custom: two values would go into the field "response"`},
		"custom, a strange origin": {"custom", func(c *Config) {
			c.Custom = Custom{Field: "x", Class: "y", Origins: []string{"https://a.example; script-src *"}}
		}, "custom.origins:"},
		"custom, any origin": {"custom", func(c *Config) { c.Custom = Custom{Field: "x", Class: "y", Origins: []string{"*"}} }, "custom.origins:"},
		"custom, complete": {"custom", func(c *Config) {
			c.VerifyURL, c.ScriptURL = "https://c.example/verify", "https://c.example/widget.js?x=1"
			c.Custom = Custom{Field: "x", Class: "y", Origins: []string{"https://*.c.example"}}
		}, ""},
	} {
		c := Config{Provider: tt.provider, SiteKey: testKey, Secret: testSecret}
		tt.change(&c)
		err := c.Validate()
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if _, err := New(c, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
			continue
		}
		if strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v tells a secret", name, err)
		}
		if _, err := New(c, nil); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
}

func TestWidgets(t *testing.T) {
	const div = `<div class="%s" data-sitekey="` + testKey + `"></div>`
	for _, tt := range []struct {
		c                             Config
		script, field, markup, policy string
	}{
		{
			Config{Provider: "hcaptcha"}, "https://js.hcaptcha.com/1/api.js", "h-captcha-response", strings.Replace(div, "%s", "h-captcha", 1),
			"script-src 'self' https://hcaptcha.com https://*.hcaptcha.com; style-src 'self' https://hcaptcha.com https://*.hcaptcha.com; " +
				"frame-src https://hcaptcha.com https://*.hcaptcha.com; connect-src 'self' https://hcaptcha.com https://*.hcaptcha.com",
		},
		{
			Config{Provider: "turnstile"}, "https://challenges.cloudflare.com/turnstile/v0/api.js", "cf-turnstile-response", strings.Replace(div, "%s", "cf-turnstile", 1),
			"script-src 'self' https://challenges.cloudflare.com; style-src 'self' https://challenges.cloudflare.com; " +
				"frame-src https://challenges.cloudflare.com; connect-src 'self' https://challenges.cloudflare.com",
		},
		{
			Config{Provider: "recaptcha", ScriptURL: "https://www.recaptcha.net/recaptcha/api.js"}, "https://www.recaptcha.net/recaptcha/api.js", "g-recaptcha-response",
			strings.Replace(div, "%s", "g-recaptcha", 1),
			"script-src 'self' https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/ https://recaptcha.google.com/recaptcha/ https://www.recaptcha.net/recaptcha/; " +
				"style-src 'self' https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/ https://recaptcha.google.com/recaptcha/ https://www.recaptcha.net/recaptcha/ 'unsafe-inline'; " +
				"frame-src https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/ https://recaptcha.google.com/recaptcha/ https://www.recaptcha.net/recaptcha/; " +
				"connect-src 'self' https://www.google.com/recaptcha/ https://www.gstatic.com/recaptcha/ https://recaptcha.google.com/recaptcha/ https://www.recaptcha.net/recaptcha/",
		},
		{
			Config{Provider: "friendly-captcha", ScriptURL: "https://cdn.example/frc/site.js?v=1"}, "https://cdn.example/frc/site.js?v=1", "frc-captcha-response", strings.Replace(div, "%s", "frc-captcha", 1),
			"script-src 'self' https://*.frcapi.com https://cdn.example/frc/site.js; style-src 'self' https://*.frcapi.com https://cdn.example/frc/site.js 'unsafe-inline'; " +
				"frame-src https://*.frcapi.com https://cdn.example/frc/site.js; connect-src 'self' https://*.frcapi.com https://cdn.example/frc/site.js",
		},
		{
			Config{Provider: "mcaptcha", VerifyURL: "http://mcaptcha:7000/api/v1/pow/siteverify", PublicURL: "https://m.example/sub/", ScriptURL: "/assets/m.js"}, "/assets/m.js", "mcaptcha__token",
			`<label id="mcaptcha__token-label" for="mcaptcha__token" data-mcaptcha_url="https://m.example/sub/widget/?sitekey=` + testKey + `">mCaptcha ` +
				`<input type="text" id="mcaptcha__token" name="mcaptcha__token" autocomplete="off"></label><div id="mcaptcha__widget-container"></div>`,
			"script-src 'self' https://m.example; style-src 'self' https://m.example; frame-src https://m.example; connect-src 'self' https://m.example",
		},
		{
			Config{Provider: "cap", VerifyURL: "https://cap.example/k/siteverify"}, "https://cap.example/assets/widget.js", "cap-token",
			`<cap-widget data-cap-api-endpoint="https://cap.example/` + testKey + `/"></cap-widget>`,
			"script-src 'self' https://cap.example 'wasm-unsafe-eval'; style-src 'self' https://cap.example 'unsafe-inline'; frame-src https://cap.example; " +
				"connect-src 'self' https://cap.example; worker-src 'self' blob:",
		},
		{
			Config{Provider: "altcha", VerifyURL: "https://s.example/v1/verify/signature", ScriptURL: "/assets/a.js"}, "/assets/a.js", "altcha",
			`<altcha-widget challenge="https://s.example/v1/challenge?apiKey=` + testKey + `" name="altcha"></altcha-widget>`,
			"script-src 'self' https://s.example 'wasm-unsafe-eval'; style-src 'self' https://s.example 'unsafe-inline'; frame-src https://s.example; " +
				"connect-src 'self' https://s.example; worker-src 'self' blob:",
		},
		{
			Config{Provider: "custom", VerifyURL: "https://c.example/verify", ScriptURL: "/c.js", Custom: Custom{Field: "answer", Class: "riddle"}}, "/c.js", "answer",
			strings.Replace(div, "%s", "riddle", 1), "script-src 'self'; style-src 'self'; frame-src 'none'; connect-src 'self'",
		},
	} {
		tt.c.SiteKey, tt.c.Secret = testKey, testSecret
		w := adapter(t, tt.c).Widget()
		if w.ScriptURL != tt.script || w.Field != tt.field {
			t.Errorf("%s: script %q, field %q", tt.c.Provider, w.ScriptURL, w.Field)
		}
		if got := string(w.Markup()); got != tt.markup {
			t.Errorf("%s: %s", tt.c.Provider, got)
		}
		if got := w.Policy(); got != tt.policy {
			t.Errorf("%s: %s", tt.c.Provider, got)
		}
	}
}

func TestMarkupHoldsWhateverTheKeyIs(t *testing.T) {
	hostile := `"><script>alert(1)</script>&'`
	for _, c := range []Config{
		{Provider: "hcaptcha"},
		{Provider: "cap", VerifyURL: "https://cap.example/k/siteverify"},
		{Provider: "mcaptcha", VerifyURL: "https://m.example/v", ScriptURL: "/m.js"},
		{Provider: "altcha", VerifyURL: "https://s.example/v", ScriptURL: "/a.js"},
	} {
		c.SiteKey, c.Secret = hostile, testSecret
		markup := string(adapter(t, c).Widget().Markup())
		z := html.NewTokenizer(strings.NewReader(markup))
		for z.Next() != html.ErrorToken {
			if name, _ := z.TagName(); string(name) == "script" {
				t.Errorf("%s: %s", c.Provider, markup)
			}
		}
	}
}

func TestAWidgetIsACopy(t *testing.T) {
	a := adapter(t, Config{Provider: "hcaptcha", SiteKey: testKey, Secret: testSecret})
	a.Widget().Origins[0] = "*"
	if got := a.Widget().Origins[0]; got == "*" {
		t.Error("a caller changed what the next one gets")
	}
}
