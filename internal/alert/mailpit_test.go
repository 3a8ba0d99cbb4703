//go:build unix

package alert_test

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quickthorn/quickthorn/internal/alert"
	"github.com/quickthorn/quickthorn/internal/testserver"
)

// TestARealMailServerTakesOurMails has a real server read what we write: raised, grouped, sent and read back.
func TestARealMailServerTakesOurMails(t *testing.T) {
	_, client, pair := certificate(t)
	dir := t.TempDir()
	file := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile := file("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	keyFile := file("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	users := file("users", []byte("alerts:letmein\n"))

	for _, c := range []struct {
		say    string
		server testserver.MailpitOptions
		set    func(*alert.EmailOptions)
		want   string // of the error; "": it is sent
	}{
		{"in clear", testserver.MailpitOptions{}, func(*alert.EmailOptions) {}, ""},
		{
			"with STARTTLS and a password",
			testserver.MailpitOptions{TLSCert: certFile, TLSKey: keyFile, RequireSTARTTLS: true, AuthFile: users},
			func(o *alert.EmailOptions) {
				o.Encryption, o.Username, o.Password = alert.EncryptionSTARTTLS, "alerts", "letmein"
			},
			"",
		},
		{
			"with TLS from the first byte and a password",
			testserver.MailpitOptions{TLSCert: certFile, TLSKey: keyFile, ImplicitTLS: true, AuthFile: users},
			func(o *alert.EmailOptions) {
				o.Encryption, o.Username, o.Password = alert.EncryptionTLS, "alerts", "letmein"
			},
			"",
		},
		{
			"with a wrong password",
			testserver.MailpitOptions{TLSCert: certFile, TLSKey: keyFile, RequireSTARTTLS: true, AuthFile: users},
			func(o *alert.EmailOptions) {
				o.Encryption, o.Username, o.Password = alert.EncryptionSTARTTLS, "alerts", "guess"
			},
			"authenticate to the mail server: 535",
		},
		{
			"in clear where the server wants STARTTLS",
			testserver.MailpitOptions{TLSCert: certFile, TLSKey: keyFile, RequireSTARTTLS: true},
			func(*alert.EmailOptions) {}, "refuses the sender: 530",
		},
		{
			"without a password where the server wants one",
			testserver.MailpitOptions{TLSCert: certFile, TLSKey: keyFile, RequireSTARTTLS: true, AuthFile: users},
			func(o *alert.EmailOptions) { o.Encryption = alert.EncryptionSTARTTLS }, "refuses the sender: 530",
		},
	} {
		t.Run(c.say, func(t *testing.T) {
			t.Parallel()
			m := testserver.Mailpit(t, c.server)
			_, port, err := net.SplitHostPort(m.SMTP)
			if err != nil {
				t.Fatal(err)
			}
			n, err := strconv.Atoi(port)
			if err != nil {
				t.Fatal(err)
			}
			o := options(email(t, n, func(o *alert.EmailOptions) {
				o.TLS = client
				c.set(o)
			}))
			o.Drain = time.Minute
			d := build(t, o)
			if got := d.Test(t.Context(), "mail"); len(got) != 1 || (got[0].Problem == "") != (c.want == "") || !strings.Contains(got[0].Problem, c.want) {
				t.Errorf("the test says %+v", got)
			}
			for range 1000 {
				d.Raise(alert.Alert{
					Kind: "campaign", Severity: alert.Critical, Site: "café", Title: "Viele Adressen, ein Muster 🌿 /<script>\r\nBcc: x@example.com",
					Text: "A line that begins with a dot follows.\n.\n.hidden\n" + strings.Repeat("long ", 300), Link: "https://admin.example/cases/1?a=1&b=2",
					Numbers: []alert.Number{{Name: "requests", Value: 5}},
				})
			}
			run(t, d)()
			got := m.Messages(t)
			if c.want != "" {
				if len(got) != 0 {
					t.Errorf("%d mails arrived", len(got))
				}
				return
			}
			if len(got) != 2 {
				t.Fatalf("%d mails arrived, want that of the test and one", len(got))
			}
			if want := "[quickthorn] info: Test alert of channel mail"; got[0].Subject != want {
				t.Errorf("the first subject is %q, want %q", got[0].Subject, want)
			}
			mail := got[1]
			if want := "[quickthorn] critical: café: Viele Adressen, ein Muster 🌿 /<script>  Bcc: x@example.com (1,000 alerts)"; mail.Subject != want {
				t.Errorf("the subject is %q, want %q", mail.Subject, want)
			}
			if mail.From.Address != "alerts@example.com" || mail.From.Name != "quickthorn" || len(mail.To) != 2 || mail.To[1].Name != "Bé" {
				t.Errorf("from %v to %v", mail.From, mail.To)
			}
			if !strings.HasSuffix(mail.MessageID, "@example.com") {
				t.Errorf("the id is %q", mail.MessageID)
			}
			if h := mail.Header; len(h["Auto-Submitted"]) != 1 || h["Auto-Submitted"][0] != "auto-generated" || len(h["Date"]) != 1 || len(h["Bcc"]) != 0 || len(h["Importance"]) != 1 {
				t.Errorf("the header is %v", h)
			}
			for _, want := range []string{"\n.\n.hidden\n", "requests: 5,000 in all, 5 at most", "https://admin.example/cases/1?a=1&b=2", "/<script>"} {
				if text := strings.ReplaceAll(mail.Text, "\r\n", "\n"); !strings.Contains(text, want) {
					t.Errorf("%q is missing in the text\n%s", want, text)
				}
			}
			if !strings.Contains(mail.HTML, `<a href="https://admin.example/cases/1?a=1&amp;b=2">`) || !strings.Contains(mail.HTML, "/&lt;script&gt;") || strings.Contains(mail.HTML, "<script") {
				t.Errorf("the page is\n%s", mail.HTML)
			}
			for l := range strings.Lines(mail.Raw) {
				if len(l) > 998 { // RFC 5322, section 2.1.1
					t.Errorf("a line has %d bytes", len(l))
				}
			}
		})
	}
}
