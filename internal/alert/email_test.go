package alert_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"mime"
	"net"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/quickthorn/quickthorn/internal/alert"
)

// sink is a mail server in this process that can be made to refuse.
type sink struct {
	mu       sync.Mutex
	mails    []received
	logins   []string
	rcpt     func(to string, n int) error // n counts the recipients named, from 1
	data     func(n int) error            // n counts the messages, from 1
	refuse   error                        // to all senders
	password string
	rcpts    int
	datas    int
}

type received struct {
	to   []string
	body string
}

type session struct {
	s  *sink
	to []string
}

func (x *session) AuthMechanisms() []string { return []string{sasl.Plain} }

func (x *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, name, password string) error {
		x.s.mu.Lock()
		defer x.s.mu.Unlock()
		x.s.logins = append(x.s.logins, name)
		if password != x.s.password {
			return smtp.ErrAuthFailed
		}
		return nil
	}), nil
}

func (x *session) Mail(string, *smtp.MailOptions) error { return x.s.refuse }
func (x *session) Reset()                               { x.to = nil }
func (x *session) Logout() error                        { return nil }

func (x *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.rcpts++
	if x.s.rcpt != nil {
		if err := x.s.rcpt(to, x.s.rcpts); err != nil {
			return err
		}
	}
	x.to = append(x.to, to)
	return nil
}

func (x *session) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	x.s.mu.Lock()
	defer x.s.mu.Unlock()
	x.s.datas++
	if x.s.data != nil {
		if err := x.s.data(x.s.datas); err != nil {
			return err
		}
	}
	x.s.mails = append(x.s.mails, received{slices.Clone(x.to), string(body)})
	return nil
}

func (s *sink) received() []received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mails)
}

// listen starts the sink; with a certificate it offers STARTTLS, or speaks TLS from the first byte.
func (s *sink) listen(t *testing.T, c *tls.Config, implicit bool) (port int) {
	t.Helper()
	return s.listenOn(t, "127.0.0.1", c, implicit)
}

func (s *sink) listenOn(t *testing.T, ip string, c *tls.Config, implicit bool) (port int) {
	t.Helper()
	server := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return &session{s: s}, nil }))
	server.Domain, server.AllowInsecureAuth, server.ErrorLog = "sink.test", true, quiet{}
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	if implicit {
		l = tls.NewListener(l, c)
	} else {
		server.TLSConfig = c
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }() // ends with an error when it is closed
	t.Cleanup(func() { server.Close(); <-done })
	return port
}

type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// certificate returns a server's certificate for 127.0.0.1 and what trusts it.
func certificate(t *testing.T) (server, client *tls.Config, pair tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pair = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if pair.Leaf, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(pair.Leaf)
	return &tls.Config{Certificates: []tls.Certificate{pair}}, &tls.Config{RootCAs: roots}, pair
}

func email(t *testing.T, port int, set func(*alert.EmailOptions)) *alert.Email {
	t.Helper()
	o := alert.EmailOptions{
		Name: "mail", Host: "127.0.0.1", Port: port, Encryption: alert.EncryptionNone,
		From: "quickthorn <alerts@example.com>", To: []string{"a@example.com", "Bé <b@example.com>"},
	}
	if set != nil {
		set(&o)
	}
	e, err := alert.NewEmail(o)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestMailsAreAutomaticTextAndHTMLWithTheMessagesIdentifier(t *testing.T) {
	s := &sink{}
	e := email(t, s.listen(t, nil, false), nil)
	if err := e.Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	got := s.received()
	if len(got) != 1 || !slices.Equal(got[0].to, []string{"a@example.com", "b@example.com"}) {
		t.Fatalf("got %v", got)
	}
	m, err := netmail.ReadMessage(strings.NewReader(got[0].body))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"From": `"quickthorn" <alerts@example.com>`, "To": `<a@example.com>, =?utf-8?q?B=C3=A9?= <b@example.com>`,
		"Subject": "[quickthorn] warning: shop: A campaign <!channel> & co @all", "Message-Id": "<01J00000000000000000000000@example.com>",
		"Date": "Wed, 04 Mar 2026 05:06:07 +0000", "Auto-Submitted": "auto-generated", "Importance": "",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, want := range []string{"multipart/alternative", "text/plain", "text/html", "A campaign <!channel> & co @all\r\n", "A campaign &lt;!channel&gt; &amp; co @all</h2=\r\n>"} {
		if !strings.Contains(got[0].body, want) {
			t.Errorf("%q is missing in\n%s", want, got[0].body)
		}
	}
}

func TestHeadersCannotBeForged(t *testing.T) {
	s := &sink{}
	e := email(t, s.listen(t, nil, false), nil)
	const hostile = "x\r\nBcc: victim@example.com\r\n\r\n.\r\nMAIL FROM:<x>\r\n =?utf-8?q?=0d=0aTo:_you?= \u202e"
	m := sent(t, alert.Alert{Kind: hostile, Site: hostile, Title: hostile, Text: hostile + strings.Repeat(hostile, 50), CaseID: hostile})
	m.Title += hostile // even what has not been cleaned
	if err := e.Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	got := s.received()
	if len(got) != 1 {
		t.Fatalf("%d mails came of one", len(got))
	}
	parsed, err := netmail.ReadMessage(strings.NewReader(got[0].body))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}
	for name := range parsed.Header {
		if !slices.Contains(names, name) {
			t.Errorf("there is a header %s", name)
		}
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(parsed.Header.Get("Subject"))
	if err != nil || strings.ContainsAny(subject, "\r\n\u202e") || !strings.Contains(subject, "=0d=0aTo:_you") {
		t.Errorf("the subject reads %q, %v", subject, err)
	}
}

func TestMailServersAnswersSayWhetherToTryAgain(t *testing.T) {
	later := &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted, \x1b[2J try later"}
	never := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	for _, c := range []struct {
		say       string
		s         *sink
		permanent bool
		want      string
	}{
		{"the sender is refused", &sink{refuse: never}, true, "refuses the sender: 550"},
		{"the sender is refused for now", &sink{refuse: later}, false, "refuses the sender: 451 \"4.7.1 greylisted, "},
		{"all recipients are refused", &sink{rcpt: func(string, int) error { return never }}, true, "refuses a@example.com, b@example.com: 550"},
		{"the message is refused", &sink{data: func(int) error { return never }}, true, "hand over the message: 550"},
		{"the message is refused for now", &sink{data: func(int) error { return later }}, false, "hand over the message: 451"},
	} {
		t.Run(c.say, func(t *testing.T) {
			err := email(t, c.s.listen(t, nil, false), nil).Send(t.Context(), message())
			var e *alert.SendError
			if !errors.As(err, &e) || e.Permanent != c.permanent || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %#v: %v", e, err)
			}
			if err != nil && strings.ContainsRune(err.Error(), 0x1b) {
				t.Errorf("the error acts on terminals: %q", err)
			}
			if n := len(c.s.received()); n != 0 {
				t.Errorf("%d mails arrived", n)
			}
		})
	}
}

func TestAMailThatIsRefusedForNowArrivesOnce(t *testing.T) {
	s := &sink{data: func(n int) error {
		if n == 1 {
			return &smtp.SMTPError{Code: 451, Message: "later"}
		}
		return nil
	}}
	o := options(email(t, s.listen(t, nil, false), nil))
	o.GroupWait, o.Drain = time.Millisecond, time.Minute
	d := build(t, o)
	d.Raise(campaign("A campaign"))
	run(t, d)()
	if got := s.received(); len(got) != 1 || d.Status()[0].Retries != 1 {
		t.Errorf("%d mails arrived, %+v", len(got), d.Status())
	}
}

func TestARecipientWhoIsRefusedKeepsTheMailFromNobodyElse(t *testing.T) {
	s := &sink{rcpt: func(to string, n int) error {
		if to == "a@example.com" && n == 1 {
			return &smtp.SMTPError{Code: 450, Message: "later"}
		}
		return nil
	}}
	e, m := email(t, s.listen(t, nil, false), nil), message()
	err := e.Send(t.Context(), m)
	var se *alert.SendError
	if !errors.As(err, &se) || se.Permanent || !strings.Contains(err.Error(), "refuses a@example.com: 450") {
		t.Errorf("the error is %v", err)
	}
	if err := e.Send(t.Context(), m); err != nil {
		t.Error(err)
	}
	var to [][]string
	for _, r := range s.received() {
		to = append(to, r.to)
	}
	if fmt.Sprint(to) != "[[b@example.com] [a@example.com]]" {
		t.Errorf("the mails went to %v", to)
	}
}

func TestEncryption(t *testing.T) {
	server, client, _ := certificate(t)
	for _, c := range []struct {
		say        string
		encryption alert.Encryption
		server     *tls.Config
		implicit   bool
		trust      *tls.Config
		want       string // of the error; "": it is sent
	}{
		{"STARTTLS", alert.EncryptionSTARTTLS, server, false, client, ""},
		{"STARTTLS is the default", "", server, false, client, ""},
		{"STARTTLS that is not offered", alert.EncryptionSTARTTLS, nil, false, client, "does not support STARTTLS"},
		{"STARTTLS where possible, and it is", alert.EncryptionOpportunistic, server, false, client, ""},
		{"STARTTLS where possible, and it is not", alert.EncryptionOpportunistic, nil, false, client, ""},
		{"STARTTLS with a certificate of nobody known", alert.EncryptionSTARTTLS, server, false, nil, "certificate"},
		{"TLS from the first byte", alert.EncryptionTLS, server, true, client, ""},
		{"TLS from the first byte with a certificate of nobody known", alert.EncryptionTLS, server, true, nil, "certificate"},
		{"none", alert.EncryptionNone, server, false, client, ""},
	} {
		t.Run(c.say, func(t *testing.T) {
			s := &sink{password: "let me in"}
			e := email(t, s.listen(t, c.server, c.implicit), func(o *alert.EmailOptions) {
				o.Encryption, o.TLS, o.Username, o.Password = c.encryption, c.trust, "alerts", "let me in"
			})
			err := e.Send(t.Context(), message())
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %v, want %q", err, c.want)
			}
			if n := len(s.received()); (n == 1) != (c.want == "") || len(s.logins) != n {
				t.Errorf("%d mails after %d logins", n, len(s.logins))
			}
		})
	}
}

func TestAWrongPasswordIsNotTriedAgainAndNotTold(t *testing.T) {
	s := &sink{password: "right"}
	e := email(t, s.listen(t, nil, false), func(o *alert.EmailOptions) { o.Username, o.Password = "alerts", "verysecretpassword" })
	err := e.Send(t.Context(), message())
	var se *alert.SendError
	if !errors.As(err, &se) || !se.Permanent || !strings.Contains(err.Error(), "authenticate to the mail server: 535") || strings.Contains(err.Error(), "verysecret") {
		t.Errorf("the error is %v", err)
	}
}

func TestAPasswordCrossesNoNetworkInClear(t *testing.T) {
	ip := outside(t)
	server, client, _ := certificate(t)
	for _, c := range []struct {
		say        string
		encryption alert.Encryption
		server     *tls.Config
		allow      bool
		logins     int
	}{
		{"without encryption", alert.EncryptionNone, server, false, 0},
		{"where the server offers no encryption", alert.EncryptionOpportunistic, nil, false, 0},
		{"where it is allowed", alert.EncryptionNone, nil, true, 1},
		{"with encryption", alert.EncryptionOpportunistic, server, false, 1},
	} {
		t.Run(c.say, func(t *testing.T) {
			s := &sink{password: "let me in"}
			port := s.listenOn(t, ip, c.server, false)
			client := client.Clone()
			client.ServerName = "127.0.0.1"
			e := email(t, port, func(o *alert.EmailOptions) {
				o.Host, o.Encryption, o.TLS, o.Username, o.Password, o.ClearPassword = ip, c.encryption, client, "alerts", "let me in", c.allow
			})
			err := e.Send(t.Context(), message())
			if len(s.logins) != c.logins || (err == nil) != (c.logins == 1) {
				t.Errorf("%d logins: %v", len(s.logins), err)
			}
			var se *alert.SendError
			if c.logins == 0 && (!errors.As(err, &se) || !se.Permanent || !strings.Contains(err.Error(), "not encrypted")) {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

// outside returns an address of this machine that is not loopback; the test is skipped when there is none.
func outside(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("this machine has no address but loopback")
	return ""
}

func TestAMailServerThatHangsOrTalksWithoutEndIsLeft(t *testing.T) {
	for say, talk := range map[string]func(c net.Conn){
		"it says nothing": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"it stops after the greeting": func(c net.Conn) {
			fmt.Fprint(c, "220 sink\r\n")
			_, _ = io.Copy(io.Discard, c)
		},
		"a line without end": func(c net.Conn) {
			for {
				if _, err := c.Write([]byte(strings.Repeat("2", 64<<10))); err != nil {
					return
				}
			}
		},
		"a greeting without end": func(c net.Conn) {
			for {
				if _, err := fmt.Fprint(c, "220-and\r\n"); err != nil {
					return
				}
			}
		},
		"it goes": func(net.Conn) {},
		"it speaks another language": func(c net.Conn) {
			fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_, _ = bufio.NewReader(c).ReadString('\n')
		},
	} {
		t.Run(say, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var talks sync.WaitGroup
			talks.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					talks.Go(func() { defer c.Close(); talk(c) })
				}
			})
			defer talks.Wait() // which it does once the client has closed its end
			defer l.Close()
			for _, encryption := range []alert.Encryption{alert.EncryptionNone, alert.EncryptionSTARTTLS, alert.EncryptionTLS} {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				e := email(t, l.Addr().(*net.TCPAddr).Port, func(o *alert.EmailOptions) { o.Encryption = encryption })
				err := e.Send(ctx, message())
				cancel()
				var se *alert.SendError
				if !errors.As(err, &se) || se.Permanent || len(err.Error()) > 600 {
					t.Errorf("%s: the error is %.700v", encryption, err)
				}
			}
		})
	}
}

func TestWrongMailSettingsAreNamed(t *testing.T) {
	for want, set := range map[string]func(*alert.EmailOptions){
		"host is missing or wrong":     func(o *alert.EmailOptions) { o.Host = "" },
		"is missing or wrong":          func(o *alert.EmailOptions) { o.Host = "mail\r\nx" },
		"port 70000 is not in":         func(o *alert.EmailOptions) { o.Port = 70000 },
		`encryption "ssl" is not one`:  func(o *alert.EmailOptions) { o.Encryption = "ssl" },
		"sender":                       func(o *alert.EmailOptions) { o.From = "nobody" },
		"there are 0 recipients":       func(o *alert.EmailOptions) { o.To = nil },
		"there are 51 recipients":      func(o *alert.EmailOptions) { o.To = make([]string, 51) },
		`recipient "a@b\r\nRCPT"`:      func(o *alert.EmailOptions) { o.To = []string{"a@b\r\nRCPT"} },
		"a user name needs a password": func(o *alert.EmailOptions) { o.Username = "x" },
		"a name has 1 to 64":           func(o *alert.EmailOptions) { o.Name = "" },
	} {
		o := alert.EmailOptions{Name: "mail", Host: "localhost", From: "a@example.com", To: []string{"b@example.com"}}
		set(&o)
		if _, err := alert.NewEmail(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
}
